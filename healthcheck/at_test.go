package healthcheck

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"

	"github.com/havip/havip/internal/lab/labtest"
)

// TestAtKeepsTheName: the address alone is that of At. The server hears, and proves, the
// name that the Checker has, of which no resolver knows.
func TestAtKeepsTheName(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%s over %s", r.Host, r.Proto) })
	own := labtest.Certificate(nil, nil, "app.invalid")
	roots := x509.NewCertPool()
	roots.AddCert(own.Leaf)
	config := func(protocols ...string) *tls.Config { return &tls.Config{RootCAs: roots, NextProtos: protocols} }
	clear, secure := httptest.NewServer(mux), httptest.NewUnstartedServer(mux)
	secure.TLS = &tls.Config{Certificates: []tls.Certificate{own}}
	secure.EnableHTTP2 = true
	secure.StartTLS()
	t.Cleanup(clear.Close)
	t.Cleanup(secure.Close)
	mail := labtest.Listen(t, says(0, "220 mail ESMTP\r\n"))
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	labtest.ServePackets(t, packets, labtest.Echo)
	at := func(address string, c Checker) Checker { return At{Checker: c, Address: address} }
	web, tlsWeb := clear.Listener.Addr().String(), secure.Listener.Addr().String()
	body := func(text string) *regexp.Regexp { return regexp.MustCompile("^" + text + "$") }
	runCheckCases(t, []checkCase{
		{name: "tcp", checker: at(web, TCP{Address: "app.invalid:80"})},
		{name: "tcp with a reply", checker: at(mail, TCP{Address: "app.invalid:80", Expect: []byte("220")})},
		{name: "http", checker: at(web, HTTP{URL: "http://app.invalid:80/", Body: body("app.invalid:80 over HTTP/1.1")})},
		{name: "https", checker: at(tlsWeb, HTTP{URL: "https://app.invalid:444/", TLS: config(), Body: body("app.invalid:444 over HTTP/1.1")})},
		{name: "h2", checker: at(tlsWeb, HTTP{URL: "https://app.invalid:444/", TLS: config("h2"), Body: body("app.invalid:444 over HTTP/2.0")})},
		{name: "https of another name", checker: at(tlsWeb, HTTP{URL: "https://other.invalid:444/", TLS: config()}), want: "app.invalid"},
		{name: "grpc", checker: at(web, GRPC{Address: "app.invalid:80"}), want: "grpc app.invalid:80"},
		{name: "tls", checker: at(tlsWeb, TLS{Address: "app.invalid:444", Config: config()})},
		{name: "tls of another name", checker: at(tlsWeb, TLS{Address: "other.invalid:444", Config: config()}), want: "app.invalid"},
		{name: "smtp", checker: at(labtest.Listen(t, saysAndCloses("554 busy\r\n")), SMTP{Address: "app.invalid:25"}), want: "554 busy"},
		{name: "udp", checker: at(packets.LocalAddr().String(), UDP{Address: "app.invalid:53", Send: []byte("x"), Expect: []byte("x")})},
		{name: "icmp", checker: at("127.0.0.1:80", ICMP{Address: "app.invalid"})},
		{name: "the error names both", checker: at("127.0.0.1:1", TCP{Address: "app.invalid:80"}), want: "tcp app.invalid:80: connect: connection refused, at 127.0.0.1:1"},
		{name: "alone", checker: TCP{Address: "app.invalid:80"}, want: "app.invalid"},
	})
}
