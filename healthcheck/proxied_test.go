package healthcheck

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/havip/havip/internal/lab/labtest"
)

// headed is a listener whose connections must begin with a PROXY header.
type headed struct {
	net.Listener
	t      *testing.T
	prefix string // of the header
}

func (l headed) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		header, err := labtest.ReadProxyHeader(c)
		if !strings.HasPrefix(string(header), l.prefix) || err != nil {
			l.t.Errorf("a connection begins with %q, %v", header, err)
			c.Close()
		}
	}
	return c, err
}

// TestProxied: each check that connects by TCP begins with the header, ahead of all else.
func TestProxied(t *testing.T) {
	own := labtest.Certificate(nil, nil, "app.invalid")
	roots := x509.NewCertPool()
	roots.AddCert(own.Leaf)
	config := func(protocols ...string) *tls.Config {
		return &tls.Config{RootCAs: roots, ServerName: "app.invalid", NextProtos: protocols}
	}
	for version, prefix := range map[int]string{1: "PROXY TCP4 127.0.0.1 127.0.0.1 ", 2: "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", 0: "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"} {
		mux := http.NewServeMux()
		mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) })
		serve := func(start func(*httptest.Server)) string {
			s := httptest.NewUnstartedServer(mux)
			s.Listener = headed{s.Listener, t, prefix}
			s.TLS = &tls.Config{Certificates: []tls.Certificate{own}}
			s.EnableHTTP2 = true
			start(s)
			t.Cleanup(s.Close)
			return s.Listener.Addr().String()
		}
		web, tlsWeb := serve((*httptest.Server).Start), serve((*httptest.Server).StartTLS)
		talking := func(handle func(net.Conn)) string {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			labtest.Serve(t, headed{ln, t, prefix}, handle)
			return ln.Addr().String()
		}
		packets, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		labtest.ServePackets(t, packets, labtest.Echo)
		body := func(text string) *regexp.Regexp { return regexp.MustCompile("^" + text + "$") }
		as := func(c Checker) Checker { return Proxied{Checker: c, Version: version} }
		runCheckCases(t, []checkCase{
			{name: "tcp", checker: as(TCP{Address: talking(drain)})},
			{name: "tcp with a reply", checker: as(TCP{Address: talking(says(0, "220 mail\r\n")), Expect: []byte("220")})},
			{name: "http", checker: as(HTTP{URL: "http://" + web, Body: body("HTTP/1.1")})},
			{name: "https", checker: as(HTTP{URL: "https://" + tlsWeb, TLS: config(), Body: body("HTTP/1.1")})},
			{name: "h2", checker: as(HTTP{URL: "https://" + tlsWeb, TLS: config("h2"), Body: body("HTTP/2.0")})},
			{name: "grpc", checker: as(GRPC{Address: tlsWeb, TLS: config()}), want: "not gRPC"},
			{name: "tls", checker: as(TLS{Address: tlsWeb, Config: config()})},
			{name: "smtp", checker: as(SMTP{Address: talking(saysAndCloses("554 busy\r\n"))}), want: "554 busy"},
			{name: "at", checker: At{Address: web, Checker: as(HTTP{URL: "http://app.invalid/", Body: body("HTTP/1.1")})}},
			{name: "udp has none", checker: as(UDP{Address: packets.LocalAddr().String(), Send: []byte("x"), ExpectRegexp: body("x")})},
		})
	}
}
