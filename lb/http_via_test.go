package lb

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/havip/havip/lb/internal/h1"
)

// TestForwarded: a backend learns from Forwarded who has connected, and what trusted proxies
// have said before; nothing that a client writes becomes a part of our element.
func TestForwarded(t *testing.T) {
	strangers := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	for _, tt := range []struct {
		name    string
		trusted []netip.Prefix
		host    string
		lines   []string
		before  string // our element
		ours    string // but for proto
	}{
		{"none", nil, "", nil, "", "for=127.0.0.1;host=web.test"},
		{"a host with a port", nil, "web.test:8080", nil, "", `for=127.0.0.1;host="web.test:8080"`},
		{"a host of IPv6", nil, "[2001:db8::1]", nil, "", `for=127.0.0.1;host="[2001:db8::1]"`},
		{"a trusted proxy's", ourProxies, "", []string{`for="[2001:db8::7]";by=_a;host=x`}, `for="[2001:db8::7]";by=_a;host=x, `, "for=127.0.0.1;host=web.test"},
		{"of two proxies, on two lines", ourProxies, "", []string{"for=192.0.2.7, for=10.0.0.1", "For=10.0.0.2"}, "for=192.0.2.7, for=10.0.0.1, For=10.0.0.2, ", "for=127.0.0.1;host=web.test"},
		{"anybody's, where no proxy is named", nil, "", []string{"for=192.0.2.7"}, "for=192.0.2.7, ", "for=127.0.0.1;host=web.test"},
		{"a stranger's", strangers, "", []string{"for=192.0.2.7"}, "", "for=127.0.0.1;host=web.test"},
		{"an open quote", ourProxies, "", []string{`for="192.0.2.7`}, "", "for=127.0.0.1;host=web.test"},
		{"an open quote behind what is valid", ourProxies, "", []string{"for=192.0.2.7", `for="x\"`}, "", "for=127.0.0.1;host=web.test"},
		{"no pair", ourProxies, "", []string{"192.0.2.7"}, "", "for=127.0.0.1;host=web.test"},
		{"IPv6 without quotes", ourProxies, "", []string{"for=[2001:db8::7]"}, "", "for=127.0.0.1;host=web.test"},
	} {
		for _, front := range trapFronts() {
			t.Run(tt.name+"/"+front.name, func(t *testing.T) {
				b, heard := heardBackend(t, nil)
				s := front.serve(t, HandlerConfig{TrustedProxies: tt.trusted, Rules: Rules{Forwarded: true}}, b)
				r := request{target: "/", host: tt.host}
				for _, line := range tt.lines {
					r.fields = append(r.fields, "Forwarded", line)
				}
				s.send(t, r)
				scheme, _, _ := strings.Cut(s.url, ":")
				if got, want := fmt.Sprintf("%q", (<-heard)["Forwarded"]), fmt.Sprintf("%q", []string{tt.before + tt.ours + ";proto=" + scheme}); got != want {
					t.Errorf("%s, want %s", got, want)
				}
			})
		}
	}
}

// TestForwardedOff: where it is not asked for, Forwarded passes as before, of those that are believed.
func TestForwardedOff(t *testing.T) {
	for name, want := range map[string]string{"127.0.0.0/8": "[x]", "192.0.2.0/24": "[]"} {
		b, heard := heardBackend(t, nil)
		s, _ := front(t, HandlerConfig{TrustedProxies: []netip.Prefix{netip.MustParsePrefix(name)}}, b)
		req, _ := http.NewRequestWithContext(t.Context(), "GET", s.URL, nil)
		req.Header.Set("Forwarded", "x")
		res, err := http.DefaultClient.Do(req)
		body(t, res, err)
		if got := fmt.Sprint((<-heard)["Forwarded"]); got != want {
			t.Errorf("trusted %s: %s, want %s", name, got, want)
		}
	}
}

// readForwarded reads a Forwarded by the grammar of RFC 7239 §4, byte by byte: its elements,
// each with the pairs in the order in which they stand; nil: it is none.
func readForwarded(s string) (elements [][]string) {
	elements = [][]string{nil}
	key, value := "", ""
	state := 'k' // key, value, quoted, escaped, after a value
	end := func() {
		last := &elements[len(elements)-1]
		*last = append(*last, strings.ToLower(strings.Trim(key, " \t"))+"="+value)
		key, value = "", ""
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case state == 'q' && c == '\\':
			state = 'e'
		case state == 'q' && c == '"':
			state = 'a'
		case state == 'q' || state == 'e':
			value, state = value+string(rune(c)), 'q'
		case state == 'k' && c == '=':
			state = 'v'
		case state == 'k':
			key += string(rune(c))
		case state == 'v' && value == "" && c == '"':
			state = 'q'
		case (state == 'v' || state == 'a') && (c == ';' || c == ','):
			if end(); c == ',' {
				elements = append(elements, nil)
			}
			state = 'k'
		case state == 'v':
			value += string(rune(c))
		}
	}
	if state != 'v' && state != 'a' {
		return nil
	}
	end()
	return elements
}

// FuzzForwarded: whatever a proxy in front of this one says, backends read our element as it is
// meant, behind the elements that they would have read without it.
func FuzzForwarded(f *testing.F) {
	for _, s := range []string{
		"for=192.0.2.7", `for="[2001:db8::7]:80";by=_x, for=unknown`, `for="a\"b", for=c`, "For=a ; proto = http", // in order, and nearly so
		`for="192.0.2.7`, `for="a\`, `for=a"b`, `for="a"b`, "for", "=", "for=", ",", ";", "for=a,,for=b", "for=a;", "for=\"a\tb\"", `for="a,b;c=d"`,
	} {
		f.Add(s, "web.test")
	}
	f.Add("for=a", "[2001:db8::1]:80")
	f.Add("for=a", "a!$&'()*+,;=b")
	f.Fuzz(func(t *testing.T, came, host string) {
		head := "GET / HTTP/1.1\r\nHost: " + host + "\r\nForwarded: " + came + "\r\n\r\n"
		if strings.ContainsAny(came+host, "\r\n\x00") || came != strings.Trim(came, " \t") || host != strings.Trim(host, " \t") || !validHeader("X", came) {
			return
		}
		x := testExchangeOf(t, HandlerConfig{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Rules: Rules{Forwarded: true}}, head)
		if x == nil || x.refusal() != 0 {
			return
		}
		x.prepare()
		var got string
		for _, field := range x.fields {
			if field.Name == "Forwarded" {
				got += field.Value
			}
		}
		elements := readForwarded(got)
		want := []string{"for=192.0.2.1", "host=" + host, "proto=http"}
		if host == "" {
			want = []string{"for=192.0.2.1", "proto=http"}
		}
		if len(elements) == 0 || fmt.Sprint(elements[len(elements)-1]) != fmt.Sprint(want) {
			t.Fatalf("%q, %q: %q is read as %q", came, host, got, elements)
		}
		if before := elements[:len(elements)-1]; len(before) > 0 && fmt.Sprint(before) != fmt.Sprint(readForwarded(came)) {
			t.Errorf("%q: %q is read as %q before ours", came, got, before)
		}
	})
}

// testExchangeOf is testExchange for what may be no request; nil then.
func testExchangeOf(t *testing.T, cfg HandlerConfig, head string) *exchange {
	var req h1.Request
	if n, err := req.Parse([]byte(head), h1.Limits{}); n != len(head) || err != nil {
		return nil
	}
	return testExchange(t, cfg, head)
}
