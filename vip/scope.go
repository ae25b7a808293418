package vip

import "fmt"

// Scope is how far an IPv4 address is valid (RT_SCOPE_* in rtnetlink(7)).
type Scope uint8

const (
	// ScopeGlobal: everywhere.
	ScopeGlobal Scope = 0
	// ScopeSite: within the site.
	ScopeSite Scope = 200
	// ScopeLink: on this link.
	ScopeLink Scope = 253
	// ScopeHost: inside this host.
	ScopeHost Scope = 254
)

// scopeWords are the words of ip-address(8).
var scopeWords = map[Scope]string{ScopeGlobal: "global", ScopeSite: "site", ScopeLink: "link", ScopeHost: "host"}

// String returns the word that ip-address(8) has for the scope, such as "global".
func (s Scope) String() string {
	if word, ok := scopeWords[s]; ok {
		return word
	}
	return fmt.Sprintf("scope %d", uint8(s))
}

// MarshalText returns what String does, or an error for a scope without a word.
func (s Scope) MarshalText() ([]byte, error) {
	if _, ok := scopeWords[s]; !ok {
		return nil, fmt.Errorf("vip: %v: want global, site, link or host", s)
	}
	return []byte(s.String()), nil
}

// UnmarshalText reads what MarshalText writes.
func (s *Scope) UnmarshalText(text []byte) error {
	for scope, word := range scopeWords {
		if word == string(text) {
			*s = scope
			return nil
		}
	}
	return fmt.Errorf("vip: scope %q: want global, site, link or host", text)
}
