package lb

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/internal/words"
	"github.com/havip/havip/lb/internal/h1"
)

// Sticky has each client come back to its backend by a cookie. What the cookie says of the
// backend can neither be read nor forged without Key. All nodes with the same Key, and the same
// names of pools and backends, know the cookies of each other.
//
// A backend that drains keeps its clients, as in nginx and HAProxy, and so does a backup. Where
// the backend is down, ejected, at its MaxConns or no more, the client gets another one, and
// another cookie. Backends do not get the cookie. The zero value is none, also for a route of a
// Handler that has one.
type Sticky struct {
	// Cookie is the cookie's name. Required.
	Cookie string
	// Key is secret, and the same on all nodes. At least 16 bytes. A cookie of another Key is as
	// none: when the Key changes, clients get a backend and a cookie anew.
	Key []byte
	// MaxAge is how long clients keep the cookie after they have got it, in whole seconds, up
	// to 400 days. 0: until they end.
	MaxAge time.Duration
	// Path and Domain say where clients send the cookie. Path's default is /, Domain's the host
	// alone that the client asks.
	Path, Domain string
	// Secure lets clients send the cookie with TLS only. HTTPOnly hides it from scripts.
	Secure, HTTPOnly bool
	// SameSite is for which requests of other sites clients send it. Default: as they do.
	SameSite SameSite
}

// SameSite is for which requests that come from other sites clients send a cookie.
type SameSite uint8

// The ways, of RFC 6265bis §5.6.7.
const (
	SameSiteDefault SameSite = iota // as clients do it where nothing is said
	SameSiteLax                     // for links
	SameSiteStrict                  // for none
	SameSiteNone                    // for all; it takes Secure
)

var sameSites = []string{"default", "lax", "strict", "none"}

// String returns "default", "lax", "strict" or "none".
func (s SameSite) String() string { return words.Of(sameSites, s) }

// MarshalText implements encoding.TextMarshaler.
func (s SameSite) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *SameSite) UnmarshalText(text []byte) error { return words.Parse(sameSites, text, s) }

// minStickyKey is half of what HMAC-SHA256 makes of it: guesses are hopeless.
const minStickyKey = 16

// isZero reports whether s is none.
func (s Sticky) isZero() bool {
	return s.Cookie == "" && len(s.Key) == 0 && s.MaxAge == 0 && s.Path == "" && s.Domain == "" && !s.Secure && !s.HTTPOnly && s.SameSite == 0
}

// WithDefaults returns s with its zero fields filled in, unless it is none.
func (s Sticky) WithDefaults() Sticky {
	if !s.isZero() {
		s.Path = cmp.Or(s.Path, "/")
	}
	return s
}

// Validate returns all that is wrong with s: FieldErrors, joined.
func (s Sticky) Validate() error {
	if s.isZero() {
		return nil
	}
	plain := func(text string) bool {
		return !strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == ';' })
	}
	return errors.Join(
		field.If(!validHeader(s.Cookie, ""), "Cookie", "%q: want the name of a cookie, such as backend", s.Cookie),
		field.If(len(s.Key) < minStickyKey, "Key", "%d bytes: want at least %d, such as openssl rand -hex %d makes", len(s.Key), minStickyKey, minStickyKey),
		field.Between("MaxAge", s.MaxAge, 0, 400*day),
		field.If(s.MaxAge%time.Second != 0, "MaxAge", "%v: want whole seconds", s.MaxAge),
		field.If(s.Path != "" && (s.Path[0] != '/' || !plain(s.Path)), "Path", "%q: want a path such as /", s.Path),
		field.If(s.Domain != "" && (!plain(s.Domain) || !validAuthority(s.Domain) || strings.Contains(s.Domain, ":")), "Domain", "%q: want a host such as example.org", s.Domain),
		field.If(!words.Has(sameSites, s.SameSite), "SameSite", "%v: want %s", s.SameSite, words.Choice(sameSites)),
		field.If(s.SameSite == SameSiteNone && !s.Secure, "SameSite", "none: clients refuse that without Secure"))
}

func validateSticky(s *Sticky) error {
	if s == nil {
		return nil
	}
	return field.In("Sticky", s.Validate())
}

// stickiness is a Sticky as it is needed for requests.
type stickiness struct {
	name, suffix string // of Set-Cookie
	key          []byte
	known        atomic.Pointer[stickyTable]
}

// newStickiness prepares s, which is valid; nil: there is none.
func newStickiness(s *Sticky) *stickiness {
	if s == nil || s.isZero() {
		return nil
	}
	suffix := "; Path=" + cmp.Or(s.Path, "/")
	if s.Domain != "" {
		suffix += "; Domain=" + s.Domain
	}
	if s.MaxAge > 0 {
		suffix += "; Max-Age=" + strconv.FormatInt(int64(s.MaxAge/time.Second), 10)
	}
	if s.Secure {
		suffix += "; Secure"
	}
	if s.HTTPOnly {
		suffix += "; HttpOnly"
	}
	if s.SameSite != SameSiteDefault {
		suffix += "; SameSite=" + []string{SameSiteLax: "Lax", SameSiteStrict: "Strict", SameSiteNone: "None"}[s.SameSite]
	}
	return &stickiness{name: s.Cookie, suffix: suffix, key: slices.Clone(s.Key)}
}

// stickyTable has the tokens of a pool's backends.
type stickyTable struct {
	of      *roster
	servers map[string]*server // by token
	tokens  map[*server]string
}

// table returns the tokens of p's backends, which are computed when those have changed.
func (s *stickiness) table(p *Pool) *stickyTable {
	of := p.snap.Load().roster
	if t := s.known.Load(); t != nil && t.of == of {
		return t
	}
	t := &stickyTable{of: of, servers: make(map[string]*server, len(of.all)), tokens: make(map[*server]string, len(of.all))}
	for _, m := range of.all {
		token := s.token(of.cfg.Name, m.Name)
		t.servers[token], t.tokens[m.server] = m.server, token
	}
	s.known.Store(t)
	return t
}

// stickyLength is the length of a token: 132 bits.
const stickyLength = 22

// token returns what stands for a backend in cookies.
func (s *stickiness) token(pool, backend string) string {
	h := hmac.New(sha256.New, s.key)
	h.Write([]byte(pool + "\x00" + backend))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))[:stickyLength]
}

// maxTokens is how many pools of a site one cookie remembers: routes may have pools of their own.
const maxTokens = 8

// readSticky reads the cookie of the request. What is none of ours is ignored.
func (x *exchange) readSticky() {
	x.token, x.tokens = "", ""
	if !holds(x.req.Has, h1.Cookie) {
		return
	}
	table := x.cfg.sticky.table(x.cfg.Pool)
	for i := range x.req.Fields {
		f := &x.req.Fields[i]
		for rest, more := f.Value, f.ID == h1.Cookie; more; {
			var pair string
			pair, rest, more = strings.Cut(rest, ";")
			value, is := x.cfg.sticky.value(pair)
			if !is {
				continue
			}
			if x.tokens == "" {
				x.tokens = value
			}
			for left, more := value, true; more && x.token == ""; {
				var token string
				token, left, more = strings.Cut(left, ".")
				if s := table.servers[token]; s != nil {
					x.token, x.tokens, x.flow.stuck = token, value, s
				}
			}
		}
	}
}

// value returns the value of a pair of Cookie, if it is of our cookie. Servers leave out spaces
// around a name and a value (RFC 6265bis §5.6), and so it is done here: they would see our
// cookie otherwise. A text without = has no name there.
func (s *stickiness) value(pair string) (value string, is bool) {
	name, value, named := strings.Cut(pair, "=")
	return strings.Trim(value, " \t"), named && strings.Trim(name, " \t") == s.name
}

// withoutSticky returns the value of Cookie for backends.
func (x *exchange) withoutSticky(value string) string {
	s := x.cfg.sticky
	if !strings.Contains(value, s.name) {
		return value
	}
	start := len(x.text)
	for rest, more := value, true; more; {
		var pair string
		pair, rest, more = strings.Cut(rest, ";")
		if _, is := s.value(pair); is {
			continue
		}
		if len(x.text) > start {
			x.text = append(x.text, ';')
		} else {
			pair = strings.TrimLeft(pair, " \t")
		}
		x.text = append(x.text, pair...)
	}
	return x.written(start)
}

// stick adds the cookie to the response if the client has another one, or none.
func (x *exchange) stick() {
	s := x.cfg.sticky
	table := s.table(x.cfg.Pool)
	token := table.tokens[x.pick.member.server]
	if token == "" || token == x.token {
		return // the backend is no more, or the client knows it
	}
	start := len(x.text)
	x.text = append(append(append(append(x.text, s.name...), '='), token...), x.otherTokens(table)...)
	x.text = append(x.text, s.suffix...)
	x.answer = append(x.answer, h1.Field{Name: "Set-Cookie", Value: x.written(start), ID: h1.SetCookie})
}

// otherTokens returns the tokens of other pools that the client has, each after a dot.
func (x *exchange) otherTokens(table *stickyTable) (others string) {
	for rest, more := x.tokens, x.tokens != ""; more && len(others) < (maxTokens-1)*(stickyLength+1); {
		var token string
		token, rest, more = strings.Cut(rest, ".")
		odd := func(c rune) bool {
			return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_')
		}
		if len(token) == stickyLength && table.servers[token] == nil && !strings.ContainsFunc(token, odd) {
			others += "." + token
		}
	}
	return others
}
