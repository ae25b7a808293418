package admin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

// steeringPaths fill in the patterns, and steeringBodies are what the routes want.
var (
	steeringPaths  = strings.NewReplacer("{router}", "VI_1", "{service}", "web", "{backend...}", "a", "{check...}", "c", "{do}", "now", "{alarm}", "ops", "{profile}", "heap")
	steeringBodies = map[string]string{
		"/api/v1/routers/{router}/priority": `{"priority": 90}`, "/api/v1/maintenance": `{"on": true}`,
		"/api/v1/services/{service}/backends/{backend...}": `{"drain": true}`, "/api/v1/services/{service}/maintenance": `{"on": true}`, "/api/v1/log": `{"level": "debug"}`,
	}
)

// asker is a kind of client.
type asker struct {
	name    string
	headers []string // pairs; a name may come twice
	query   string
	method  string // in the place of the route's
	status  int    // of a refusal; 0: may steer
	browser bool   // what it lacks matters only where something changes
}

// everywhere has a client ask for each route that steers, and looks at what comes of it.
func (f *fixture) everywhere(c *http.Client, scheme string, a asker) {
	f.Helper()
	n := 0
	for _, rt := range f.s.routes {
		if !rt.steers || a.browser && rt.method != "POST" && rt.method != "PUT" {
			continue
		}
		n++
		method, body := rt.method, ""
		if method == "PUT" {
			body = steeringBodies[rt.pattern]
		}
		if a.method != "" {
			method, body = a.method, ""
		}
		r, err := http.NewRequest(method, scheme+"://"+f.tcp+steeringPaths.Replace(rt.pattern)+a.query, strings.NewReader(body))
		if err != nil {
			f.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(a.headers); i += 2 {
			switch name, value := a.headers[i], a.headers[i+1]; name {
			case "Host":
				r.Host = value
			case "Content-Type":
				r.Header.Set(name, value)
			default:
				r.Header.Add(name, value)
			}
		}
		f.s.guesses = newGuesses()
		got, done := f.do(c, r), f.node.took()
		may := a.status == 0
		switch {
		case may && rt.method == "GET": // profiles are off
			f.want(rt.pattern, got, 404, "set admin.pprof")
		case may && (got.status/100 != 2 || done == ""):
			f.Errorf("%s %s: %d %s, and %q is done", method, rt.pattern, got.status, got.body, done)
		case !may && (got.status != a.status || done != ""):
			f.Errorf("%s %s: %d %s, want %d; %q is done", method, rt.pattern, got.status, got.body, a.status, done)
		case !may && method != "HEAD" && !strings.HasPrefix(got.body, `{"error":"`):
			f.Errorf("%s %s: no reason: %s", method, rt.pattern, got.body)
		}
	}
	if n < 6 {
		f.Errorf("%d routes", n)
	}
}

// logIn returns the headers of a page that has logged in.
func (f *fixture) logIn(c *http.Client, scheme string) (cookie, csrf []string) {
	f.Helper()
	r, err := http.NewRequest("POST", scheme+"://"+f.tcp+"/login", strings.NewReader(`{"token": "`+testToken+`"}`))
	if err != nil {
		f.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	got := f.do(c, r)
	var body accessBody
	if err := json.Unmarshal([]byte(got.body), &body); err != nil || body.CSRF == "" {
		f.Fatalf("login: %s, %v", got.body, err)
	}
	value, _, _ := strings.Cut(got.header.Get("Set-Cookie"), ";")
	return []string{"Cookie", value}, []string{csrfHeader, body.CSRF}
}

func both(lists ...[]string) (all []string) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// TestWhoMaySteer asks for every route that changes something in every way that a client
// without the right may think of, and in the few ways of one that has it.
func TestWhoMaySteer(t *testing.T) {
	f := start(t, nil)
	c := f.client(false)
	cookie, csrf := f.logIn(c, "http")
	_, otherCSRF := f.logIn(c, "http")
	gone, goneCSRF := f.logIn(c, "http")
	if got := f.ask("POST", "/logout", "", both(gone, goneCSRF)...); got.status != 204 {
		t.Fatal(got)
	}
	_, port, _ := net.SplitHostPort(f.tcp)
	moved := []string{"Cookie", strings.Replace(cookie[1], port, "1"+port, 1)}
	wrong := []string{"Authorization", "Bearer " + strings.Repeat("x", len(testToken))}
	auth := func(value string) []string { return []string{"Authorization", value} }
	form := []string{"Content-Type", "application/x-www-form-urlencoded"}
	for _, a := range []asker{
		{name: "nothing", status: 401},
		{name: "the token", headers: bearer},
		{name: "spaces around the token", headers: auth("Bearer   " + testToken + " ")},
		{name: "the scheme in capitals", headers: auth("BEARER " + testToken)},
		{name: "a wrong token", headers: wrong, status: 401},
		{name: "a longer token", headers: auth("Bearer " + testToken + "0"), status: 401},
		{name: "a shorter token", headers: auth("Bearer " + testToken[1:]), status: 401},
		{name: "the token in capitals", headers: auth("Bearer " + strings.ToUpper(testToken)), status: 401},
		{name: "a space in the token", headers: auth("Bearer " + testToken[:4] + " " + testToken[4:]), status: 401},
		{name: "two tokens in one header", headers: auth("Bearer " + testToken + ", Bearer x"), status: 401},
		{name: "no token", headers: auth("Bearer"), status: 401},
		{name: "an empty header", headers: auth(""), status: 401},
		{name: "another scheme", headers: auth("Basic " + testToken), status: 401},
		{name: "wrong, then right", headers: both(wrong, bearer), status: 401},
		{name: "right, then wrong", headers: both(bearer, wrong), status: 401},
		{name: "right, twice", headers: both(bearer, bearer), status: 401},
		{name: "a proxy's header", headers: []string{"Proxy-Authorization", "Bearer " + testToken}, status: 401},
		{name: "the token in the query", query: "?access_token=" + testToken + "&token=" + testToken, status: 401},
		{name: "the token as the cookie", headers: []string{"Cookie", strings.Split(cookie[1], "=")[0] + "=" + testToken}, status: 401},
		{name: "what proxies say", headers: []string{"X-Forwarded-For", "127.0.0.1", "Forwarded", "for=127.0.0.1", "X-Remote-User", "root"}, status: 401},
		{name: "a web socket", headers: []string{"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="}, status: 401},
		{name: "another method is meant", method: "PATCH", headers: both(bearer, []string{"X-HTTP-Method-Override", "POST"}), status: 405},
		{name: "OPTIONS", method: "OPTIONS", headers: bearer, status: 405},
		{name: "TRACE", method: "TRACE", headers: bearer, status: 405},
		{name: "the session", headers: both(cookie, csrf)},
		{name: "the session and a wrong token", headers: both(cookie, csrf, wrong), status: 401},
		{name: "the page's token without the session", headers: csrf, status: 401},
		{name: "the session without the page's token", headers: cookie, status: 403, browser: true},
		{name: "the page's token of another session", headers: both(cookie, otherCSRF), status: 403, browser: true},
		{name: "an empty page's token", headers: both(cookie, []string{csrfHeader, ""}), status: 403, browser: true},
		{name: "after logout", headers: both(gone, goneCSRF), status: 401},
		{name: "the cookie of another port", headers: both(moved, csrf), status: 401},
		{name: "a form of a page elsewhere", headers: both(cookie, form, []string{"Origin", "https://evil.example"}), status: 403, browser: true},
		{name: "a form of a page elsewhere in an old browser", headers: both(cookie, form), status: 403, browser: true},
		{name: "a form with all that the page has", headers: both(cookie, csrf, form), status: 415, browser: true},
		{name: "fetch with plain text", headers: both(bearer, []string{"Content-Type", "text/plain"}), status: 415, browser: true},
		{name: "no type", headers: both(bearer, []string{"Content-Type", ""}), status: 415, browser: true},
		{name: "a page elsewhere with all that the page has", headers: both(cookie, csrf, []string{"Sec-Fetch-Site", "cross-site"}), status: 403, browser: true},
		{name: "a page of the same site", headers: both(cookie, csrf, []string{"Sec-Fetch-Site", "same-site"}), status: 403, browser: true},
		{name: "a frame without an origin", headers: both(cookie, csrf, []string{"Origin", "null"}), status: 403, browser: true},
		{name: "a name that leads here", headers: both(cookie, csrf, []string{"Host", "evil.example"}), status: 421},
		{name: "a name that leads here, with the port", headers: both(cookie, csrf, []string{"Host", "evil.example:" + port}), status: 421},
		{name: "a name that leads here, and an empty header", headers: both(cookie, csrf, []string{"Host", "evil.example"}, auth("")), status: 421},
	} {
		t.Run(a.name, func(t *testing.T) { f.T = t; f.everywhere(c, "http", a) })
	}
	f.T = t
	cfg := f.s.settings.Load().Admin
	cfg.Token = secretOf(t, "another-token-0123")
	f.s.Reconfigure(cfg)
	f.everywhere(c, "http", asker{headers: both(cookie, csrf), status: 401})
	f.everywhere(c, "http", asker{headers: bearer, status: 401})
	cfg.Token = config.Secret{}
	f.s.Reconfigure(cfg)
	f.everywhere(c, "http", asker{headers: both(cookie, csrf), status: 403})
}

// TestSessionOfTheTokenOfBefore: a login that is under way while the file gets another
// token is none.
func TestSessionOfTheTokenOfBefore(t *testing.T) {
	s := newSessions()
	id, _ := s.begin(sumOf("before"), time.Now())
	if s.find(id, sumOf("before"), time.Now()) == nil || s.find(id, sumOf("now"), time.Now()) != nil || s.find(id, secretSum{}, time.Now()) != nil {
		t.Error("a session is of the token that was shown, and of no other")
	}
}

// TestWhoMaySteerByCertificate: it is judged for each request, by the authority that the
// file has at that moment, and a page elsewhere has no use of it.
func TestWhoMaySteerByCertificate(t *testing.T) {
	file := func(dir string) func(string) string {
		return func(name string) string { return filepath.Join(dir, name) }
	}(t.TempDir())
	labtest.WriteCertificate(t, file("a.pem"), "lb01.example.org")
	ca, stranger := authority(t, file("ca.pem")), authority(t, file("stranger.pem"))
	f := start(t, func(c *config.Admin) {
		c.TLS = &config.AdminTLS{Certificate: file("a.pem"), Key: file("a.pem"), ClientCA: file("ca.pem")}
	})
	with := func(ca *tls.Certificate, edit func(*x509.Certificate)) *http.Client {
		c := f.client(false)
		c.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{labtest.Certificate(ca, func(c *x509.Certificate) {
			c.Subject.CommonName, c.ExtKeyUsage = "alice", []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
			edit(c)
		})}
		return c
	}
	as := func(*x509.Certificate) {}
	alice, mallory := with(&ca, as), with(&stranger, as)
	cookie, csrf := f.logIn(f.client(false), "https")
	for _, x := range []struct {
		c *http.Client
		a asker
	}{
		{f.client(false), asker{name: "none", status: 401}},
		{alice, asker{name: "a good one"}},
		{alice, asker{name: "a good one and a wrong token", headers: []string{"Authorization", "Bearer x"}, status: 401}},
		{alice, asker{name: "a good one, a page elsewhere", headers: []string{"Origin", "https://evil.example"}, status: 403, browser: true}},
		{alice, asker{name: "a good one, a form", headers: []string{"Content-Type", "text/plain"}, status: 415, browser: true}},
		{alice, asker{name: "a good one, a name that leads here", headers: []string{"Host", "evil.example"}, status: 421}},
		{mallory, asker{name: "of another authority", status: 401}},
		{mallory, asker{name: "of another authority, and a session", headers: both(cookie, csrf)}},
		{mallory, asker{name: "of another authority, and half a session", headers: cookie, status: 403, browser: true}},
		{with(nil, as), asker{name: "its own authority", status: 401}},
		{with(&ca, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), asker{name: "over", status: 401}},
		{with(&ca, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }), asker{name: "not yet", status: 401}},
		{with(&ca, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), asker{name: "a server's", status: 401}},
	} {
		t.Run(x.a.name, func(t *testing.T) { f.T = t; f.everywhere(x.c, "https", x.a) })
	}
	f.T = t
	// Her connection goes on, and her right does not.
	text, err := os.ReadFile(file("stranger.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file("ca.pem"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	f.s.Reconfigure(f.s.settings.Load().Admin)
	f.everywhere(alice, "https", asker{status: 401})
	f.everywhere(mallory, "https", asker{})
}

// TestReloadOfCertificates: a connection that goes on is served by the name and by the right
// that it had, although nobody has shaken hands since the reload.
func TestReloadOfCertificates(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	labtest.WriteCertificate(t, file("a.pem"), "lb01.example.org")
	labtest.WriteCertificate(t, file("b.pem"), "lb01.example.org")
	authority(t, file("ca.pem"))
	f := start(t, func(c *config.Admin) {
		c.TLS = &config.AdminTLS{Certificate: file("a.pem"), Key: file("a.pem"), Digest: "1"}
	})
	c := f.client(false)
	ask := func(what string) {
		t.Helper()
		r, err := http.NewRequest("GET", "https://"+f.tcp+"/api/v1/status", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "lb01.example.org"
		f.want(what, f.do(c, r), 200, "lb01")
	}
	ask("before")
	for what, files := range map[string]config.AdminTLS{
		"renewed": {Certificate: file("a.pem"), Key: file("a.pem"), Digest: "2"},
		"moved":   {Certificate: file("b.pem"), Key: file("b.pem"), ClientCA: file("ca.pem"), Digest: "3"},
	} {
		cfg := f.s.settings.Load().Admin
		cfg.TLS = &files
		f.s.Reconfigure(cfg)
		ask(what)
	}
}

// dialAs connects to the socket as another user.
func (f *fixture) dialAs(uid, gid int) (c net.Conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		for _, call := range [][2]uintptr{{unix.SYS_SETRESGID, uintptr(gid)}, {unix.SYS_SETRESUID, uintptr(uid)}} {
			if call[0] == unix.SYS_SETRESGID {
				if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); errno != 0 {
					err = errno
					return
				}
			}
			if _, _, errno := unix.RawSyscall(call[0], call[1], call[1], call[1]); errno != 0 {
				err = errno
				return
			}
		}
		c, err = net.Dial("unix", f.socket)
	}()
	<-done
	return c, err
}

// TestWhoMaySteerByTheSocket: root may, a member of the group may read, and anybody else
// does not get in. No token makes a difference there.
func TestWhoMaySteerByTheSocket(t *testing.T) {
	if os.Geteuid() != 0 {
		lab.Lacking(t, "root, who alone can ask as others, does not run this")
	}
	const group, user = 64711, 64712
	f := start(t, func(c *config.Admin) { c.Group = "64711" })
	if err := os.Chmod(filepath.Dir(f.socket), 0o755); err != nil {
		t.Fatal(err)
	}
	member := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return f.dialAs(user, group) }}}
	t.Cleanup(member.CloseIdleConnections)
	f.everywhere(f.client(true), "http", asker{})
	f.everywhere(member, "http", asker{status: 403})
	f.everywhere(member, "http", asker{headers: bearer, status: 403})
	r, err := http.NewRequest("GET", "http://x/api/v1/access", nil)
	if err != nil {
		t.Fatal(err)
	}
	f.want("a member reads", f.do(member, r), 200, `{"who":"user 64712, process `)
	if c, err := f.dialAs(user, user); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("another user gets in: %v, %v", c, err)
	}
	f.s.Reconfigure(config.Admin{Socket: f.socket, Group: "no-such-group-here"})
	f.until("the log says so", func() bool { return f.log.Count("groupadd --system no-such-group-here") == 1 })
	if c, err := f.dialAs(user, group); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("who was a member of the group of before gets in: %v, %v", c, err)
	}
}

// TestMembersLeaveRoomOnTheSocket: a member of the group that takes all it can get keeps
// neither root nor another member out.
func TestMembersLeaveRoomOnTheSocket(t *testing.T) {
	if os.Geteuid() != 0 {
		lab.Lacking(t, "root, who alone can ask as others, does not run this")
	}
	const group, user = 64711, 64712
	f := start(t, func(c *config.Admin) { c.Group = "64711" })
	if err := os.Chmod(filepath.Dir(f.socket), 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range maxPerAddress + maxRefused/4 {
		c, err := f.dialAs(user, group)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		request := "GET /api/v1/events/stream HTTP/1.1\r\nHost: x\r\n"
		if i < maxReaders {
			request += "\r\n" // the others have no end, and are waited for
		}
		if _, err := c.Write([]byte(request)); err != nil {
			t.Fatal(err)
		}
	}
	g := f.gate("unix")
	f.until("the streams are open", func() bool { return g.streams.Load() == maxReaders })
	c, err := f.dialAs(user, group)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = c.Write([]byte("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")) // it may be closed by then
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("one more: %d, %v", n, err)
	}
	f.want("root", f.ask("GET", "@/api/v1/status", ""), 200, "lb01")
	_, status, leave := f.events("")
	defer leave()
	if status != 200 {
		t.Errorf("root follows the events: %d", status)
	}
	other := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return f.dialAs(user+1, group) }}}
	t.Cleanup(other.CloseIdleConnections)
	r, err := http.NewRequest("GET", "http://x/api/v1/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	f.want("another member", f.do(other, r), 200, "lb01")
}
