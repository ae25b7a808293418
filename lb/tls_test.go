package lb

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab/labtest"
)

// authority issues certificates for a test.
type authority struct {
	t    testing.TB
	dir  string
	ca   tls.Certificate
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	ca := labtest.Certificate(nil, nil, "test authority")
	return &authority{t: t, dir: t.TempDir(), ca: ca, pool: labtest.Pool(ca)}
}

// issue writes a certificate for the names into file.pem and file.key.
func (a *authority) issue(file string, names ...string) CertificateFile {
	a.t.Helper()
	cert, key := labtest.PEM(labtest.Certificate(&a.ca, nil, names...))
	return CertificateFile{Cert: writeFile(a.t, a.dir, file+".pem", string(cert)), Key: writeFile(a.t, a.dir, file+".key", string(key))}
}

// writeCA writes the authority's own certificate, and returns its path.
func (a *authority) writeCA() string {
	cert, _ := labtest.PEM(a.ca)
	return writeFile(a.t, a.dir, "ca.pem", string(cert))
}

func (a *authority) certificates(files ...CertificateFile) *Certificates {
	a.t.Helper()
	c, err := NewCertificates(files...)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// talk connects with TLS, and returns what the other side says in all and the
// names of its certificate.
func talk(t *testing.T, addr string, cfg *tls.Config, say string) (string, []string) {
	t.Helper()
	c := tls.Client(dialTest(t, addr), cfg)
	if err := c.Handshake(); err != nil {
		t.Fatalf("%s: %v", cfg.ServerName, err)
	}
	io.WriteString(c, say)
	c.CloseWrite()
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("%s: %v", cfg.ServerName, err)
	}
	return string(got), c.ConnectionState().PeerCertificates[0].DNSNames
}

func TestTLSTermination(t *testing.T) {
	a := newAuthority(t)
	files := []CertificateFile{a.issue("a", "a.test"), a.issue("wild", "*.b.test")}
	certs := a.certificates(files...)
	addr, _ := relay(t, tcpWith(TCPConfig{TLS: &tls.Config{GetCertificate: certs.GetCertificate}}), talker(t, "x"))
	for name, want := range map[string]string{"a.test": "a.test", "A.Test": "a.test", "www.b.test": "*.b.test"} {
		got, names := talk(t, addr, &tls.Config{ServerName: name, RootCAs: a.pool}, "hello")
		if got != "xhello." || names[0] != want {
			t.Errorf("%s: got %q with a certificate for %v", name, got, names)
		}
	}
	if _, names := talk(t, addr, &tls.Config{InsecureSkipVerify: true}, ""); names[0] != "a.test" {
		t.Errorf("without a name: %v", names)
	}

	// New certificates without a restart; bad ones change nothing.
	a.issue("a", "a.test", "new.test")
	writeFile(t, a.dir, "wild.key", "rubbish")
	if err := certs.Reload(); err == nil || !strings.Contains(err.Error(), "wild.key") {
		t.Errorf("an unreadable key: %v", err)
	}
	if _, names := talk(t, addr, &tls.Config{InsecureSkipVerify: true}, ""); len(names) != 1 {
		t.Errorf("after a failed reload: %v", names)
	}
	a.issue("wild", "*.b.test")
	if err := certs.Reload(); err != nil {
		t.Fatal(err)
	}
	if _, names := talk(t, addr, &tls.Config{ServerName: "new.test", RootCAs: a.pool}, ""); len(names) != 2 {
		t.Errorf("after a reload: %v", names)
	}
	// A client that speaks no TLS.
	c := dialTest(t, addr)
	io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
	if got, _ := ends(t, c); strings.Contains(got, "x") {
		t.Errorf("got %q", got)
	}
}

func TestBadCertificates(t *testing.T) {
	a := newAuthority(t)
	x, y := a.issue("x", "x.test"), a.issue("y", "y.test")
	for what, f := range map[string]CertificateFile{
		"another's key": {Cert: x.Cert, Key: y.Key},
		"no file":       {Cert: a.dir + "/none", Key: x.Key},
		"no key":        {Cert: x.Cert, Key: x.Cert},
	} {
		if _, err := NewCertificates(f); err == nil || !strings.HasPrefix(err.Error(), "lb: certificate "+f.Cert) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := NewCertificates(); err == nil {
		t.Error("no certificate: no error")
	}
}

func TestTLSClientCertificates(t *testing.T) {
	a := newAuthority(t)
	certs := a.certificates(a.issue("a", "a.test"))
	client, err := tls.LoadX509KeyPair(a.dir+"/a.pem", a.dir+"/a.key")
	if err != nil {
		t.Fatal(err)
	}
	tc := tcpWith(TCPConfig{TLS: &tls.Config{GetCertificate: certs.GetCertificate, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.pool}})
	addr, _ := relay(t, tc, talker(t, "x"))
	cfg := &tls.Config{ServerName: "a.test", RootCAs: a.pool, Certificates: []tls.Certificate{client}}
	if got, _ := talk(t, addr, cfg, "hello"); got != "xhello." {
		t.Errorf("with a certificate: %q", got)
	}
	c := tls.Client(dialTest(t, addr), &tls.Config{ServerName: "a.test", RootCAs: a.pool})
	if got, err := io.ReadAll(c); err == nil || len(got) > 0 {
		t.Errorf("without: %q, %v", got, err)
	}
	waitFor(t, "the refusal to be counted", func() bool { return tc.Stats().Refused == 1 })
}

func TestBackendTLS(t *testing.T) {
	a := newAuthority(t)
	good, bad := a.certificates(a.issue("good", "127.0.0.1")), a.certificates(a.issue("bad", "other.test"))
	server := func(name string, certs *Certificates) Backend {
		ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: certs.GetCertificate})
		if err != nil {
			t.Fatal(err)
		}
		labtest.Serve(t, ln, func(c net.Conn) {
			io.WriteString(c, name)
			io.Copy(c, c)
		})
		return Backend{Address: ln.Addr().String()}
	}
	tc := tcpWith(TCPConfig{BackendTLS: &tls.Config{RootCAs: a.pool}})
	addr, _ := relay(t, tc, server("impostor", bad), server("x", good))
	for range 3 {
		c := dialTest(t, addr)
		io.WriteString(c, "hello")
		c.CloseWrite()
		if got, err := io.ReadAll(c); string(got) != "xhello" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	}
	if st := tc.Pool.Status().Backends[0]; !st.Ejected {
		t.Errorf("the backend with the wrong certificate: %+v", st)
	}
}

func TestRoutingByServerName(t *testing.T) {
	a := newAuthority(t)
	pool := func(name string) *Pool {
		certs := a.certificates(a.issue(name, "a.test", "b.test", "www.b.test", "other.test"))
		b := rawBackend(t, func(c net.Conn, r *bufio.Reader) {
			tc := tls.Server(&prefacedForTest{c, r}, &tls.Config{GetCertificate: certs.GetCertificate})
			io.WriteString(tc, name)
			tc.CloseWrite()
			io.Copy(io.Discard, tc)
		})
		return newPool(t, PoolConfig{Name: name, Backends: []Backend{b}})
	}
	certs := a.certificates(a.issue("lb", "a.test", "b.test", "www.b.test", "other.test"))
	plain := func(name string) *Pool {
		return newPool(t, PoolConfig{Name: name, Backends: []Backend{talker(t, name)}})
	}
	for _, terminate := range []bool{false, true} {
		for _, hidden := range []bool{false, true} { // from the event loops
			tc := tcpWith(TCPConfig{Pool: pool("default"), Routes: map[string]*Pool{"a.test": pool("a"), "*.B.test": pool("b")}})
			if terminate {
				tc = tcpWith(TCPConfig{TLS: &tls.Config{GetCertificate: certs.GetCertificate}, Pool: plain("default"),
					Routes: map[string]*Pool{"a.test": plain("a"), "*.B.test": plain("b")}})
			}
			ln := listenTest(t)
			addr := ln.Addr().String()
			if hidden {
				ln = foreign{ln}
			}
			relayOn(t, tc, ln)
			for name, want := range map[string]string{"a.test": "a", "A.TEST": "a", "www.b.test": "b", "WWW.b.Test": "b", "b.test": "default", "other.test": "default"} {
				if got, _ := talk(t, addr, &tls.Config{ServerName: name, RootCAs: a.pool}, ""); strings.TrimSuffix(got, ".") != want {
					t.Errorf("terminated %v, hidden %v: %s is served by %q, want %q", terminate, hidden, name, got, want)
				}
			}
		}
	}

	// crypto/tls sends no dot at the end, nor does it accept one.
	dotted := tcpWith(TCPConfig{Routes: map[string]*Pool{"a.test": plain("a")}})
	addr, _ := relay(t, dotted)
	c := dialTest(t, addr)
	c.Write(clientHello("A.test."))
	one := make([]byte, 1)
	if _, err := io.ReadFull(c, one); err != nil || string(one) != "a" {
		t.Errorf("with a dot at the end: %q, %v", one, err)
	}

	// A ClientHello in small pieces, and none at all.
	only := tcpWith(TCPConfig{Routes: map[string]*Pool{"a.test": plain("a")}})
	addr, _ = relay(t, only)
	c = dialTest(t, addr)
	for piece := range slices.Chunk(clientHello("a.test")[5:], 10) {
		c.Write(append([]byte{22, 3, 1, 0, byte(len(piece))}, piece...)) // a record for each
		time.Sleep(time.Millisecond)
	}
	if _, err := io.ReadFull(c, one); err != nil || string(one) != "a" {
		t.Errorf("in pieces: %q, %v", one, err)
	}
	for what, b := range map[string][]byte{"no route": clientHello("b.test"), "no TLS": []byte("GET / HTTP/1.0\r\n\r\n")} {
		c := dialTest(t, addr)
		c.Write(b)
		if got, _ := ends(t, c); got != "" {
			t.Errorf("%s: got %q", what, got)
		}
	}
	waitFor(t, "two refusals", func() bool { return only.Stats().Refused == 2 })
}

// clientHello is one record with the least that asks for a name.
func clientHello(name string) []byte {
	n := byte(len(name))
	extension := append([]byte{0, 0, 0, n + 5, 0, n + 3, 0, 0, n}, name...)
	hello := slices.Concat([]byte{3, 3}, make([]byte, 32), []byte{0, 0, 2, 0x13, 1, 1, 0, 0, n + 9}, extension)
	return append([]byte{22, 3, 1, 0, byte(len(hello) + 4), 1, 0, 0, byte(len(hello))}, hello...)
}

// prefacedForTest reads what its reader has buffered.
type prefacedForTest struct {
	net.Conn
	r *bufio.Reader
}

func (p *prefacedForTest) Read(b []byte) (int, error) { return p.r.Read(b) }

func writeFile(t testing.TB, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
