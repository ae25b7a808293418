package labtest

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"testing"
)

// TestServe: connections are served until the test ends, whatever they wait for.
func TestServe(t *testing.T) {
	authority := Certificate(nil, nil, "authority")
	cert := Certificate(&authority, nil, "www.example.org", "127.0.0.1")
	var address string
	t.Run("while it runs", func(t *testing.T) {
		ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
		if err != nil {
			t.Fatal(err)
		}
		address = ln.Addr().String()
		Serve(t, ln, EchoLines("a"))
		for _, name := range []string{"", "www.example.org"} {
			c, err := tls.Dial("tcp", address, &tls.Config{RootCAs: Pool(authority), ServerName: name})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			fmt.Fprintln(c, "hello")
			if got, err := bufio.NewReader(c).ReadString('\n'); got != "a hello\n" || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
		}
	})
	if c, err := net.Dial("tcp", address); err == nil {
		c.Close()
		t.Error("served after the test")
	}
	certificate, key := PEM(cert)
	if pair, err := tls.X509KeyPair(certificate, key); err != nil || !pair.Leaf.Equal(cert.Leaf) {
		t.Errorf("PEM: %v", err)
	}
}
