package lb

import (
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/havip/havip/lb/internal/h1"
)

// ourProxies are the proxies that are trusted in tests of who the client is. Clients of the
// tests connect from 127.0.0.1.
var ourProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:1::/48")}

// realClients are lines of X-Forwarded-For that come from 127.0.0.1, and who the client is
// then. nginx is what nginx makes of them, where that differs.
var realClients = []struct {
	name  string
	lines []string
	want  string
	nginx string
}{
	{"nothing", nil, "127.0.0.1", ""},
	{"empty", []string{""}, "127.0.0.1", ""},
	{"only commas", []string{" , ,"}, "127.0.0.1", ""},
	{"the client", []string{"192.0.2.7"}, "192.0.2.7", ""},
	{"the client behind a proxy", []string{"192.0.2.7, 10.0.0.1"}, "192.0.2.7", ""},
	{"the client behind two proxies", []string{"192.0.2.7, 10.0.0.2, 10.0.0.1"}, "192.0.2.7", ""},
	{"what a client has made up", []string{"198.51.100.1, 192.0.2.7"}, "192.0.2.7", ""},
	{"made up, and behind a proxy", []string{"198.51.100.1, 192.0.2.7, 10.0.0.1"}, "192.0.2.7", ""},
	{"a client that claims to be a proxy", []string{"10.0.0.9, 192.0.2.7"}, "192.0.2.7", ""},
	{"a client that claims to be the peer", []string{"127.0.0.1, 192.0.2.7, 10.0.0.1"}, "192.0.2.7", ""},
	{"proxies only", []string{"10.0.0.2, 10.0.0.1"}, "10.0.0.2", ""},
	{"itself", []string{"127.0.0.1"}, "127.0.0.1", ""},
	{"two lines", []string{"198.51.100.1", "192.0.2.7"}, "192.0.2.7", ""},
	{"two lines, a proxy in the second", []string{"198.51.100.1, 192.0.2.7", "10.0.0.1"}, "192.0.2.7", ""},
	{"an empty second line", []string{"192.0.2.7", ""}, "192.0.2.7", "127.0.0.1"}, // empty entries are none (RFC 9110 §5.6.1.2)

	{"malformed", []string{"evil"}, "127.0.0.1", ""},
	{"malformed behind a proxy", []string{"evil, 10.0.0.1"}, "10.0.0.1", ""},
	{"malformed, and one more behind it", []string{"192.0.2.7, evil, 10.0.0.1"}, "10.0.0.1", ""},
	{"malformed before the client", []string{"evil, 192.0.2.7"}, "192.0.2.7", ""},
	{"unknown", []string{"192.0.2.7, unknown"}, "127.0.0.1", ""},
	{"a name", []string{"localhost"}, "127.0.0.1", ""},
	{"a network", []string{"192.0.2.0/24"}, "127.0.0.1", ""},
	{"three parts", []string{"192.0.2"}, "127.0.0.1", ""},
	{"a number too large", []string{"192.0.2.256"}, "127.0.0.1", ""},
	{"a zone", []string{"fe80::1%eth0"}, "127.0.0.1", ""},
	{"quotes", []string{`"192.0.2.7"`}, "127.0.0.1", ""},
	{"a pair of Forwarded", []string{"for=192.0.2.7"}, "127.0.0.1", ""},
	{"an address of thousands of digits", []string{strings.Repeat("1", 4000) + ".0.2.7"}, "127.0.0.1", ""},
	{"no digits behind the colon", []string{"192.0.2.7:"}, "127.0.0.1", ""},
	{"a port too large", []string{"192.0.2.7:65536"}, "127.0.0.1", ""},
	{"an open bracket", []string{"[2001:db8::7"}, "127.0.0.1", ""},
	{"IPv4 in brackets", []string{"[192.0.2.7]"}, "127.0.0.1", ""},
	{"brackets, and more", []string{"[2001:db8::7]x"}, "127.0.0.1", ""},

	{"spaces and tabs", []string{"192.0.2.7 ,\t10.0.0.1 , "}, "192.0.2.7", "127.0.0.1"}, // nginx knows no tab
	{"empty entries", []string{",192.0.2.7,,10.0.0.1,"}, "192.0.2.7", "10.0.0.1"},
	{"spaces for commas", []string{"198.51.100.1 192.0.2.7"}, "127.0.0.1", "192.0.2.7"}, // no list (RFC 9110 §5.6.1)
	{"leading zeros", []string{"192.0.2.007"}, "127.0.0.1", "192.0.2.7"},                // octal to some programs
	{"a port", []string{"192.0.2.7:1234"}, "192.0.2.7", ""},
	{"IPv6", []string{"2001:db8:1::1, 2001:db8::7, 2001:db8:1::1"}, "2001:db8::7", ""},
	{"IPv6 in brackets", []string{"[2001:db8::7]"}, "2001:db8::7", "127.0.0.1"}, // some proxies write it so
	{"IPv6 with a port", []string{"[2001:db8::7]:1234"}, "2001:db8::7", ""},
	{"IPv4 as IPv6", []string{"198.51.100.1, ::ffff:192.0.2.7"}, "192.0.2.7", "::ffff:192.0.2.7"}, // the same client has one name
	{"a proxy as IPv6", []string{"192.0.2.7, ::ffff:10.0.0.1"}, "192.0.2.7", ""},

	{"as many proxies as are believed", []string{"192.0.2.7" + strings.Repeat(", 10.0.0.1", maxHops-1)}, "192.0.2.7", ""},
	{"more proxies than are believed", []string{"192.0.2.7" + strings.Repeat(", 10.0.0.1", maxHops)}, "10.0.0.1", "192.0.2.7"}, // nobody has so many
}

// tellClient are settings by which backends and clients learn who the client is.
func tellClient(trusted []netip.Prefix) HandlerConfig {
	return HandlerConfig{TrustedProxies: trusted, RequestHeaders: map[string]string{"X-Client": "${client}"},
		ResponseHeaders: map[string]string{"X-Client": "${client}"}}
}

// TestRealClient: on every way, the client is the one that trusted proxies have seen, and not
// what the client itself claims.
func TestRealClient(t *testing.T) {
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			records := make(chan Record, 1)
			cfg := tellClient(ourProxies)
			cfg.Record = func(r Record) { records <- r }
			s := front.serve(t, cfg, webBackend(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Chain", r.Header.Get("X-Forwarded-For"))
				io.WriteString(w, r.Header.Get("X-Real-IP")+" "+r.Header.Get("X-Client"))
			}))
			for _, tt := range realClients {
				t.Run(tt.name, func(t *testing.T) {
					fields := []string{"X-Real-IP", "198.51.100.9", "X-Client", "198.51.100.9"}
					for _, line := range tt.lines {
						fields = append(fields, "X-Forwarded-For", line)
					}
					res, got := s.send(t, request{target: "/", fields: fields})
					if got != tt.want+" "+tt.want || res.Header.Get("X-Client") != tt.want {
						t.Errorf("backend %q, client %q; want %s", got, res.Header["X-Client"], tt.want)
					}
					// The proxy in front of this one has added the end of the list; we add the proxy.
					if chain := res.Header.Get("X-Chain"); chain != "127.0.0.1" && !strings.HasSuffix(chain, ", 127.0.0.1") {
						t.Errorf("X-Forwarded-For %q", chain)
					}
					r := <-records
					conn := r.Peer
					if !conn.IsValid() {
						conn = r.Client
					}
					if r.Client.Addr().String() != tt.want || conn.Addr().String() != "127.0.0.1" || conn.Port() == 0 {
						t.Errorf("record of %v, by %v", r.Client, r.Peer)
					}
				})
			}
		})
	}
}

// TestRealClientOfStrangers: who is no trusted proxy is the client itself, whatever it says, and
// so is everybody while no proxy is trusted.
func TestRealClientOfStrangers(t *testing.T) {
	for _, front := range trapFronts() {
		for name, trusted := range map[string][]netip.Prefix{"a stranger": ourProxies[1:], "nobody is trusted": nil} {
			t.Run(front.name+"/"+name, func(t *testing.T) {
				cfg := tellClient(trusted)
				records := make(chan Record, 1)
				cfg.Record = func(r Record) { records <- r }
				s := front.serve(t, cfg, webBackend(t, func(w http.ResponseWriter, r *http.Request) {
					io.WriteString(w, r.Header.Get("X-Real-IP")+" "+r.Header.Get("X-Client"))
				}))
				_, got := s.send(t, request{target: "/", fields: []string{"X-Forwarded-For", "192.0.2.7", "X-Real-IP", "192.0.2.7"}})
				if r := <-records; got != "127.0.0.1 127.0.0.1" || r.Client.Addr().String() != "127.0.0.1" || r.Peer.IsValid() {
					t.Errorf("%q, record of %v by %v", got, r.Client, r.Peer)
				}
			})
		}
	}
}

// TestAccessOfRealClients: rules are for the client behind a proxy, not for the proxy.
func TestAccessOfRealClients(t *testing.T) {
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			cfg := HandlerConfig{TrustedProxies: ourProxies}
			cfg.Access = []AccessRule{{From: netip.MustParsePrefix("192.0.2.0/24")}, {Deny: true}}
			s := front.serve(t, cfg, webBackend(t, name("x")))
			for chain, want := range map[string]int{"192.0.2.7": 200, "198.51.100.7": 403, "192.0.2.7, 198.51.100.7": 403, "198.51.100.7, 192.0.2.7": 200, "": 403} {
				if res, _ := s.send(t, request{target: "/", fields: []string{"X-Forwarded-For", chain}}); res.StatusCode != want {
					t.Errorf("%q: %d, want %d", chain, res.StatusCode, want)
				}
			}
		})
	}
}

// TestSourceHashOfRealClients: a client keeps its backend whatever proxy it comes by.
func TestSourceHashOfRealClients(t *testing.T) {
	cfg := HandlerConfig{TrustedProxies: ourProxies}
	for _, tt := range []struct{ chain, want string }{{"192.0.2.7", "192.0.2.7:0"}, {"192.0.2.7:99, 10.0.0.1", "192.0.2.7:99"}, {"x", "127.0.0.1:5"}} {
		x := testExchange(t, cfg, "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: "+tt.chain+"\r\n\r\n")
		from := newRequestOrigin(netip.MustParseAddrPort("127.0.0.1:5"), netip.AddrPort{}, nil)
		x.open(x.cfg, x.count, &from, x.req, x.record.Start)
		if x.prepare(); x.flow.Client.String() != tt.want {
			t.Errorf("%q: %v, want %s", tt.chain, x.flow.Client, tt.want)
		}
	}
}

// FuzzRealClient: whatever a list says, the client is the peer, or an address of the list whose
// successors are trusted proxies; and X-Real-IP is an address that can be parsed.
func FuzzRealClient(f *testing.F) {
	for _, tt := range realClients {
		f.Add(strings.Join(tt.lines, "\n"))
	}
	peer := netip.MustParseAddrPort("127.0.0.1:5")
	f.Fuzz(func(t *testing.T, lines string) {
		var fields []h1.Field
		for line := range strings.SplitSeq(lines, "\n") {
			fields = append(fields, h1.Field{Name: "X-Forwarded-For", Value: line, ID: h1.XForwardedFor}, h1.Field{Name: "X-Other", Value: "192.0.2.99"})
		}
		got := realClient(fields, peer, ourProxies)
		if got == peer {
			return
		}
		// The reference reads the whole list from the left, and keeps what a trusted one has seen.
		want := netip.AddrPort{}
		for entry := range strings.SplitSeq(strings.ReplaceAll(lines, "\n", ","), ",") {
			if entry = strings.Trim(entry, " \t"); entry == "" {
				continue
			}
			a, ok := parseForwarded(entry)
			switch {
			case !ok:
				want = netip.AddrPort{} // nobody believes what stands before it
			case !want.IsValid() || !containsAddr(ourProxies, a.Addr()):
				want = a
			}
		}
		if got != want && strings.Count(lines, ",")+strings.Count(lines, "\n") < maxHops {
			t.Errorf("%q: %v, want %v", lines, got, want)
		}
		if text := addrString(got.Addr()); netip.MustParseAddr(text) != got.Addr() || got.Addr().Is4In6() {
			t.Errorf("%q: %s", lines, text)
		}
	})
}
