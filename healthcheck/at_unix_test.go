package healthcheck

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/havip/havip/internal/lab/labtest"
)

// TestAtUnixSocket: checks over TCP probe a server on a Unix socket as one at an address, with
// and without a PROXY header.
func TestAtUnixSocket(t *testing.T) {
	dir := t.TempDir()
	listen := func(name string) (net.Listener, string) {
		t.Helper()
		ln, err := net.Listen("unix", filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		return ln, "unix:" + filepath.Join(dir, name)
	}
	own := labtest.Certificate(nil, nil, "app.invalid")
	roots := x509.NewCertPool()
	roots.AddCert(own.Leaf)
	clear := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "host ", r.Host) }))
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.TLS = &tls.Config{Certificates: []tls.Certificate{own}}
	var web, tlsWeb string
	clear.Listener, web = listen("web")
	secure.Listener, tlsWeb = listen("secure")
	clear.Start()
	secure.StartTLS()
	t.Cleanup(clear.Close)
	t.Cleanup(secure.Close)
	ln, greets := listen("greets")
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			line := make([]byte, len("PROXY UNKNOWN\r\n"))
			_, _ = c.Read(line)
			fmt.Fprintf(c, "got %q", line)
			c.Close()
		}
	}()
	at := func(address string, c Checker) Checker { return At{Checker: c, Address: address} }
	config := &tls.Config{RootCAs: roots}
	runCheckCases(t, []checkCase{
		{name: "tcp", checker: at(web, TCP{Address: "localhost:80"})},
		{name: "http", checker: at(web, HTTP{URL: "http://localhost:80/", Body: regexp.MustCompile("^host localhost:80$")})},
		{name: "tls", checker: at(tlsWeb, TLS{Address: "app.invalid:443", Config: config})},
		{name: "tls of another name", checker: at(tlsWeb, TLS{Address: "localhost:443", Config: config}), want: "app.invalid"},
		{name: "a PROXY header", checker: at(greets, Proxied{Version: 1, Checker: TCP{Address: "localhost:80", Expect: []byte(`got "PROXY UNKNOWN\r\n"`)}})},
		{name: "no socket", checker: at("unix:"+filepath.Join(dir, "none"), TCP{Address: "localhost:80"}), want: "no such file"},
	})
	if err := (At{Checker: TCP{Address: "localhost:80"}, Address: "unix:"}).Validate(); err == nil {
		t.Error("an empty path is taken")
	}
}
