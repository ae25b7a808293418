package lb

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

// newTicketFile writes a key of that many bytes, each of which is fill.
func (a *authority) newTicketFile(name string, size int, fill byte) string {
	a.t.Helper()
	return writeFile(a.t, a.dir, name, string(bytes.Repeat([]byte{fill}, size)))
}

func (a *authority) ticketKeys(files ...string) *TicketKeys {
	a.t.Helper()
	k, err := NewTicketKeys(files...)
	if err != nil {
		a.t.Fatal(err)
	}
	return k
}

func derivedTickets(t testing.TB, secret string) *TicketKeys {
	t.Helper()
	k, err := DeriveTicketKeys([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// tlsNode is one of two hosts of the same service: a plane with TLS. keys may be nil.
func tlsNode(t *testing.T, plane string, cfg *tls.Config, keys *TicketKeys) (address string) {
	t.Helper()
	if keys != nil {
		cfg.WrapSession, cfg.UnwrapSession = keys.WrapSession, keys.UnwrapSession
	}
	web := webBackend(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	if plane == "tcp" {
		address, _ = relay(t, tcpWith(TCPConfig{TLS: cfg}), web)
		return address
	}
	return secureFront(t, plane, cfg, HandlerConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{web}})})
}

// secureFront serves requests with TLS: by an HTTP, or by a Handler behind net/http.
func secureFront(t *testing.T, plane string, cfg *tls.Config, h HandlerConfig) (address string) {
	t.Helper()
	if plane == "http" {
		p, err := NewHTTP(HTTPConfig{HandlerConfig: h, TLS: cfg, ShutdownTimeout: -1})
		if err != nil {
			t.Fatal(err)
		}
		ln := listenTest(t)
		labtest.Run(t, func(ctx context.Context) error { return p.Serve(ctx, ln) })
		return ln.Addr().String()
	}
	ln, err := NewListener(listenTest(t), ListenerConfig{TLS: cfg})
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: newHandler(t, h)}
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close() })
	return ln.Addr().String()
}

// askHello makes one request on a new connection, as a client that keeps its sessions in
// client's cache, and reports whether it has resumed one.
func askHello(t *testing.T, address string, client *tls.Config) (state tls.ConnectionState, err error) {
	t.Helper()
	c := tls.Client(dialTest(t, address), client)
	defer c.Close()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"); err != nil {
		return state, err
	}
	got, err := io.ReadAll(c) // in TLS 1.3 it brings the ticket, too
	if err == nil && !bytes.HasSuffix(got, []byte("hello")) {
		t.Errorf("got %q", got)
	}
	return c.ConnectionState(), err
}

// eachFront runs a test for all planes that end TLS, and both versions of TLS.
func eachFront(t *testing.T, f func(t *testing.T, plane string, version uint16)) {
	for _, plane := range []string{"tcp", "http", "handler"} {
		for name, version := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
			t.Run(plane+" TLS "+name, func(t *testing.T) { f(t, plane, version) })
		}
	}
}

// TestSessionsOutliveFailover: a client that has spoken with one host resumes its session
// on the other if both have the same keys, and only then.
func TestSessionsOutliveFailover(t *testing.T) {
	const secret, another = "0123456789abcdef0123456789abcdef", "another89abcdef0123456789abcdef0"
	a := newAuthority(t)
	certs := a.certificates(a.issue("a", "a.test"))
	old, fresh := a.newTicketFile("old", 48, 1), a.newTicketFile("new", 80, 2)
	for _, tt := range []struct {
		name          string
		first, second *TicketKeys
		resumes       bool
	}{
		{"keys of their own", nil, nil, false},
		{"the same file", a.ticketKeys(old), a.ticketKeys(old), true},
		{"the second has rotated", a.ticketKeys(old), a.ticketKeys(fresh, old), true},
		{"the first has rotated", a.ticketKeys(fresh, old), a.ticketKeys(old, fresh), true},
		{"the old key has gone", a.ticketKeys(old), a.ticketKeys(fresh), false},
		{"the same secret", derivedTickets(t, secret), derivedTickets(t, secret), true},
		{"another secret", derivedTickets(t, secret), derivedTickets(t, another), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachFront(t, func(t *testing.T, plane string, version uint16) {
				// Each host has read its files by itself.
				nodes := []string{tlsNode(t, plane, &tls.Config{GetCertificate: certs.GetCertificate}, tt.first),
					tlsNode(t, plane, &tls.Config{GetCertificate: certs.GetCertificate}, tt.second)}
				client := &tls.Config{ServerName: "a.test", RootCAs: a.pool, MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
				for i, want := range []bool{false, tt.resumes, true} {
					state, err := askHello(t, nodes[min(i, 1)], client)
					if err != nil || state.Version != version || state.DidResume != want {
						t.Errorf("connection %d: resumed %v, %v, want %v", i+1, state.DidResume, err, want)
					}
				}
			})
		})
	}
}

// TestTicketKeysInCopies: the keys hold for clones of a tls.Config, as http.Server makes
// them, and for one that GetConfigForClient returns.
func TestTicketKeysInCopies(t *testing.T) {
	a := newAuthority(t)
	base := &tls.Config{GetCertificate: a.certificates(a.issue("a", "a.test")).GetCertificate}
	keys := derivedTickets(t, strings.Repeat("s", MinTicketSecret))
	base.WrapSession, base.UnwrapSession = keys.WrapSession, keys.UnwrapSession
	chosen := &tls.Config{GetCertificate: base.GetCertificate,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return base.Clone(), nil }}
	client := &tls.Config{ServerName: "a.test", RootCAs: a.pool, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	for i, cfg := range []*tls.Config{base, base.Clone(), chosen, chosen} {
		state, err := askHello(t, tlsNode(t, "http", cfg, nil), client)
		if err != nil || state.DidResume != (i > 0) {
			t.Errorf("configuration %d: resumed %v, %v", i, state.DidResume, err)
		}
	}
}

// TestResumptionKeepsVerification: a session is no way past the certificates that a host
// wants of clients.
func TestResumptionKeepsVerification(t *testing.T) {
	a, b := newAuthority(t), newAuthority(t)
	certs := a.certificates(a.issue("a", "a.test"))
	pair := a.issue("client", "client.test")
	ofClient, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	plain := tls.Config{GetCertificate: certs.GetCertificate}
	strict := tls.Config{GetCertificate: certs.GetCertificate, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.pool}
	lax := tls.Config{GetCertificate: certs.GetCertificate, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: a.pool}
	others := tls.Config{GetCertificate: certs.GetCertificate, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: b.pool}
	later := strict.Clone()
	later.Time = func() time.Time { return time.Now().Add(2 * time.Hour) } // the client's certificate is for one
	keys := a.ticketKeys(a.newTicketFile("key", 80, 3))
	for _, tt := range []struct {
		name          string
		first, second *tls.Config
		shows         bool // the client has its certificate
		resumes, fits bool // on the second
	}{
		{"the same", &strict, &strict, true, true, true},
		{"optional, and shown", &lax, &lax, true, true, true},
		{"optional, and not shown", &lax, &lax, false, true, true},
		{"not shown, and then required", &lax, &strict, false, false, false},
		{"shown, and then not asked for", &strict, &plain, true, false, true},
		{"not asked for, and then required", &plain, &strict, true, false, true},
		{"another authority", &strict, &others, true, false, false},
		{"expired meanwhile", &strict, later, true, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachFront(t, func(t *testing.T, plane string, version uint16) {
				client := &tls.Config{ServerName: "a.test", RootCAs: a.pool, MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
				if tt.shows {
					client.Certificates = []tls.Certificate{ofClient}
				}
				if _, err := askHello(t, tlsNode(t, plane, tt.first.Clone(), keys), client); err != nil {
					t.Fatal(err)
				}
				state, err := askHello(t, tlsNode(t, plane, tt.second.Clone(), keys), client)
				if state.DidResume != tt.resumes || (err == nil) != tt.fits {
					t.Errorf("resumed %v, %v; want %v, served %v", state.DidResume, err, tt.resumes, tt.fits)
				}
			})
		})
	}
}

// TestOpenSSLResumes: another implementation's client resumes on the second host, too.
func TestOpenSSLResumes(t *testing.T) {
	lab.Need(t, "openssl")
	a := newAuthority(t)
	certs, ca := a.certificates(a.issue("a", "a.test")), a.writeCA()
	for _, plane := range []string{"tcp", "http", "handler"} {
		nodes := make([]string, 2)
		for i := range nodes {
			nodes[i] = tlsNode(t, plane, &tls.Config{GetCertificate: certs.GetCertificate}, derivedTickets(t, strings.Repeat("s", MinTicketSecret)))
		}
		for _, version := range []string{"-tls1_2", "-tls1_3"} {
			session := a.dir + "/session" + plane + version
			for i, want := range []string{"New, ", "Reused, "} {
				args := []string{"s_client", "-connect", nodes[i], "-servername", "a.test", "-CAfile", ca, "-verify_return_error", "-ign_eof", version}
				args = append(args, []string{"-sess_out", "-sess_in"}[i], session)
				cmd := exec.CommandContext(t.Context(), "openssl", args...)
				cmd.Stdin = strings.NewReader("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
				out, err := cmd.CombinedOutput()
				if err != nil || !bytes.Contains(out, []byte("\n"+want)) || !bytes.Contains(out, []byte("hello")) {
					t.Errorf("%s %s: want %s: %v\n%s", plane, version, want, err, out)
				}
			}
		}
	}
}

// TestDerivedTicketKeys: hosts whose clocks stand on different sides of midnight accept the
// tickets of one another.
func TestDerivedTicketKeys(t *testing.T) {
	secret := []byte("0123456789abcdef0123456789abcdef")
	midnight := time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
	keysAt := func(d time.Duration) []ticketKey { return derivedTicketKeys(secret, ticketPeriodAt(midnight.Add(d))) }
	for _, tt := range []struct {
		name          string
		first, second time.Duration // since midnight
		same, both    bool          // the same key encrypts; the second accepts tickets of the first
	}{
		{"the same moment", time.Hour, time.Hour, true, true},
		{"the same day", 0, 24*time.Hour - 1, true, true},
		{"seconds ahead at midnight", 2 * time.Second, -3 * time.Second, false, true},
		{"seconds behind at midnight", -3 * time.Second, 2 * time.Second, false, true},
		{"the next day", time.Hour, 25 * time.Hour, false, true},
		{"two days later", time.Hour, 49 * time.Hour, false, false},
		{"two days ahead", 49 * time.Hour, time.Hour, false, false},
	} {
		first, second := keysAt(tt.first), keysAt(tt.second)
		if same, both := first[0] == second[0], slices.Contains(second, first[0]); same != tt.same || both != tt.both {
			t.Errorf("%s: the same key %v, accepted %v; want %v, %v", tt.name, same, both, tt.same, tt.both)
		}
	}
	if other := derivedTicketKeys([]byte("0123456789abcdef0123456789abcdeF"), ticketPeriodAt(midnight)); slices.Contains(other, keysAt(0)[0]) {
		t.Error("another secret makes the same key")
	}
}

// TestTicketsHaveTheirTime: without a reload a host goes on to the next day's key, and a
// ticket ends with the day after its own.
func TestTicketsHaveTheirTime(t *testing.T) {
	pair := labtest.Certificate(nil, nil, "a.test")
	synctest.Test(t, func(t *testing.T) {
		keys := derivedTickets(t, strings.Repeat("s", MinTicketSecret))
		server := &tls.Config{Certificates: []tls.Certificate{pair}, WrapSession: keys.WrapSession, UnwrapSession: keys.UnwrapSession}
		var sessions lastSession
		client := &tls.Config{ServerName: "a.test", InsecureSkipVerify: true, ClientSessionCache: &sessions}
		resumes := func() bool {
			t.Helper()
			there, here := net.Pipe()
			go func() {
				c := tls.Server(there, server)
				io.WriteString(c, "x")
				c.Close()
			}()
			c := tls.Client(here, client)
			if _, err := io.ReadAll(c); err != nil {
				t.Fatal(err)
			}
			return c.ConnectionState().DidResume
		}
		time.Sleep(time.Until(time.Now().Truncate(ticketPeriod).Add(ticketPeriod + time.Hour)))
		resumes()
		kept := sessions.last
		for _, step := range []struct {
			wait time.Duration
			want bool
		}{{0, true}, {22 * time.Hour, true}, {2 * time.Hour, true}, {22 * time.Hour, true}, {2 * time.Hour, false}} {
			time.Sleep(step.wait)
			sessions.last = kept
			if got := resumes(); got != step.want {
				t.Errorf("at %v: resumed %v, want %v", time.Now().UTC(), got, step.want)
			}
		}
	})
}

// lastSession is a cache that keeps what it was given last.
type lastSession struct{ last *tls.ClientSessionState }

func (l *lastSession) Get(string) (*tls.ClientSessionState, bool) { return l.last, l.last != nil }

func (l *lastSession) Put(_ string, s *tls.ClientSessionState) { l.last = s }

// TestTicketKeyFiles: what is no key is named, and after a failed reload the keys stay.
func TestTicketKeyFiles(t *testing.T) {
	a := newAuthority(t)
	file := a.newTicketFile("key", 80, 1)
	for _, tt := range []struct{ name, file, want string }{
		{"too short", a.newTicketFile("short", 32, 1), "/short: 32 bytes: want 48 or 80, such as openssl rand 80 makes"},
		{"too long", a.newTicketFile("long", 96, 1), "/long: more than 80 bytes: want 48 or 80, such as openssl rand 80 makes"},
		{"empty", a.newTicketFile("empty", 0, 1), "/empty: 0 bytes: want 48 or 80"},
		{"not there", a.dir + "/none", "/none: "},
		{"a folder", a.dir, "not a regular file"},
	} {
		if _, err := NewTicketKeys(file, tt.file); err == nil || !strings.HasPrefix(err.Error(), "lb: session ticket key ") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	if _, err := NewTicketKeys(); err == nil {
		t.Error("no file: no error")
	}
	if _, err := DeriveTicketKeys(make([]byte, MinTicketSecret-1)); err == nil || !strings.Contains(err.Error(), "want at least 32 bytes, such as openssl rand -hex 32 makes") {
		t.Errorf("a short secret: %v", err)
	}

	keys := a.ticketKeys(file)
	before := keys.at(time.Now())
	if err := os.WriteFile(file, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := keys.Reload(); err == nil || keys.at(time.Now()) != before {
		t.Errorf("after a failed reload: %v", err)
	}
	a.newTicketFile("key", 48, 2)
	if err := keys.Reload(); err != nil || keys.at(time.Now()) == before {
		t.Errorf("after a reload: %v", err)
	}
}
