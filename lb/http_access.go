package lb

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/havip/havip/internal/field"
)

// AccessRule allows clients, or denies them. As text it is "allow 192.0.2.0/24",
// "deny 192.0.2.7" or "deny all".
type AccessRule struct {
	Deny bool
	// From are the clients. The zero Prefix: all.
	From netip.Prefix
}

// MarshalText implements encoding.TextMarshaler.
func (r AccessRule) MarshalText() ([]byte, error) {
	verb, from := "allow", "all"
	if r.Deny {
		verb = "deny"
	}
	if r.From.IsValid() {
		from = r.From.String()
	}
	return []byte(verb + " " + from), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *AccessRule) UnmarshalText(text []byte) error {
	verb, from, _ := strings.Cut(string(text), " ")
	rule := AccessRule{Deny: verb == "deny"}
	from = strings.TrimSpace(from)
	var err error
	switch {
	case verb != "deny" && verb != "allow":
		err = fmt.Errorf("%q: want allow or deny, and a network or all, such as deny 192.0.2.0/24", text)
	case from == "all":
	case strings.Contains(from, "/"):
		rule.From, err = netip.ParsePrefix(from)
	default:
		var a netip.Addr
		if a, err = netip.ParseAddr(from); err == nil {
			rule.From = netip.PrefixFrom(a, a.BitLen())
		}
	}
	if err != nil {
		return fmt.Errorf("%q: want allow or deny, and a network, an address or all, such as deny 192.0.2.0/24", text)
	}
	if a := rule.From.Addr(); a.Is4In6() && rule.From.Bits() >= 96 {
		rule.From = netip.PrefixFrom(a.Unmap(), rule.From.Bits()-96) // as clients are compared
	}
	rule.From = rule.From.Masked()
	*r = rule
	return nil
}

func validateAccess(rules []AccessRule) error {
	for i, r := range rules {
		if r.From.Addr().Is4In6() {
			return field.Errorf(fmt.Sprintf("Access[%d]", i), "%v: want an IPv4 network as such: clients are never in this one", r.From)
		}
		if !r.From.IsValid() && i < len(rules)-1 {
			return field.Errorf(fmt.Sprintf("Access[%d]", i+1), "comes behind a rule for all: want it before that, or not at all")
		}
	}
	return nil
}

// allows reports whether a client may have an answer. The zero Addr, of a client that is not
// known, is in no network, but is one of all.
func allows(rules []AccessRule, client netip.Addr) bool {
	for _, r := range rules {
		if !r.From.IsValid() || r.From.Contains(client.Unmap().WithZone("")) {
			return !r.Deny
		}
	}
	return true
}
