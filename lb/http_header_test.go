package lb

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

func TestRequestHeaders(t *testing.T) {
	echo := func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "Host: %s\n", r.Host)
		r.Header.Write(w)
	}
	trusted := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	strangers := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	for _, tt := range []struct {
		name     string
		trusted  []netip.Prefix
		send     string
		want     []string
		unwanted []string
	}{
		{"forwarding headers are added", nil, "",
			[]string{"Host: web.test", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: http", "X-Forwarded-Host: web.test", "X-Real-Ip: 127.0.0.1"},
			[]string{"User-Agent"}},
		{"appended and replaced", nil, "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-For: 192.0.2.8\r\nX-Real-IP: 192.0.2.9\r\nX-Forwarded-Proto: https\r\n",
			[]string{"X-Forwarded-For: 192.0.2.7, 192.0.2.8, 127.0.0.1", "X-Real-Ip: 127.0.0.1", "X-Forwarded-Proto: http\r"}, nil},
		{"a trusted proxy is believed", trusted, "X-Forwarded-For: 192.0.2.7\r\nX-Real-IP: 192.0.2.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: x.test\r\n",
			[]string{"X-Forwarded-For: 192.0.2.7, 127.0.0.1", "X-Real-Ip: 192.0.2.7", "X-Client: 192.0.2.7 at", "X-Forwarded-Proto: https", "X-Forwarded-Host: x.test"}, nil},
		{"a stranger is not", strangers, "X-Forwarded-For: 192.0.2.7\r\nX-Real-IP: 192.0.2.9\r\nForwarded: for=192.0.2.7\r\n",
			[]string{"X-Forwarded-For: 127.0.0.1\r", "X-Real-Ip: 127.0.0.1"}, []string{"192.0.2."}},
		{"Connection cannot remove ours", nil, "Connection: X-Forwarded-For, X-Real-IP, X-Private\r\nX-Private: 1\r\n",
			[]string{"X-Forwarded-For: 127.0.0.1", "X-Real-Ip: 127.0.0.1"}, []string{"X-Private", "Connection:"}},
		{"hop-by-hop headers stay here", nil, "Keep-Alive: timeout=5\r\nProxy-Authorization: x\r\nTE: gzip\r\n",
			nil, []string{"Keep-Alive", "Proxy-Authorization", "Te:"}},
		{"TE: trailers is passed on", nil, "TE: trailers\r\nConnection: TE\r\n", []string{"Te: trailers"}, nil},
		{"h2c is not offered", nil, "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n",
			nil, []string{"Upgrade", "Http2-Settings"}},
		{"configured ones are set", nil, "X-Remove: 1\r\n", []string{"X-Client: 127.0.0.1 at 127.0.0.1"}, []string{"X-Remove"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := HandlerConfig{TrustedProxies: tt.trusted,
				RequestHeaders: map[string]string{"X-Client": "${client} at ${local}", "X-Remove": ""}}
			s, _ := front(t, cfg, webBackend(t, echo))
			got := rawRequest(t, s, "GET / HTTP/1.1\r\nHost: web.test\r\n"+tt.send+"\r\n")
			for _, want := range tt.want {
				if !strings.Contains(got, want) {
					t.Errorf("no %q in\n%s", want, got)
				}
			}
			for _, unwanted := range tt.unwanted {
				if strings.Contains(got, unwanted) {
					t.Errorf("%q in\n%s", unwanted, got)
				}
			}
		})
	}
}

// A link-local proxy is trusted by its network. Its address has a zone, the network has
// none. Backends get its address as they know addresses, as nginx and HAProxy give it.
func TestLinkLocalProxy(t *testing.T) {
	h := newHandler(t, HandlerConfig{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("fe80::/10")},
		RequestHeaders: map[string]string{"X-Client": "${client}"},
		Pool:           newPool(t, PoolConfig{Backends: []Backend{webBackend(t, func(w http.ResponseWriter, r *http.Request) { _ = r.Header.Write(w) })}})})
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "[fe80::1%eth0]:1234"
	r.Header.Set("X-Forwarded-For", "192.0.2.7")
	r.Header.Set("X-Forwarded-Proto", "https")
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	for _, want := range []string{"X-Forwarded-For: 192.0.2.7, fe80::1\r\n", "X-Forwarded-Proto: https\r\n", "X-Real-Ip: 192.0.2.7\r\n", "X-Client: 192.0.2.7\r\n"} {
		if got := rec.Body.String(); !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestResponseHeadersTellWhoServed(t *testing.T) {
	b := webBackend(t, name("x"))
	b.Name = "app-1"
	s, _ := front(t, HandlerConfig{ResponseHeaders: map[string]string{"LB_IP": "${source}", "X-Backend": "${backend}"}}, b)
	c := dialTest(t, s.Listener.Addr().String())
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	got, _ := io.ReadAll(c)
	for _, want := range []string{"\r\nLB_IP: 127.0.0.1\r\n", "\r\nX-Backend: app-1\r\n"} {
		if !strings.Contains(string(got), want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

// TestValidHeader: what a program may take for the end of a line, or of a name, is none.
func TestValidHeader(t *testing.T) {
	for name, valid := range map[string]bool{
		"X-A": true, "x_a": true, "!#$%&'*+-.^_`|~9": true, "": false, "a b": false, "a:": false, "a\x7f": false, "\xc3\xa4": false, "a\r\nb": false, "a(b)": false,
	} {
		if validHeader(name, "v") != valid {
			t.Errorf("name %q: %v, want %v", name, !valid, valid)
		}
	}
	for value, valid := range map[string]bool{"": true, "a\tb": true, "\xc3\xa4\xff": true, "a\x00": false, "a\rb": false, "a\nb": false, "a\x7f": false} {
		if validHeader("X", value) != valid {
			t.Errorf("value %q: %v, want %v", value, !valid, valid)
		}
	}
}

// TestAddressOfAClient: the server may have it as one of IPv6, or none at all.
func TestAddressOfAClient(t *testing.T) {
	for remote, want := range map[string]string{"192.0.2.1:80": "192.0.2.1:80", "[::ffff:192.0.2.1]:80": "192.0.2.1:80", "[2001:db8::1]:80": "[2001:db8::1]:80", "@": "invalid AddrPort"} {
		if got := remoteAddr(&http.Request{RemoteAddr: remote}).String(); got != want {
			t.Errorf("%q: %s, want %s", remote, got, want)
		}
	}
}
