package admin

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/lab/labtest"
	"github.com/havip/havip/internal/report"
)

// TestWhoMaySteerByTCP: reading is for everybody, and changing anything for who has the
// token, and only as a browser does not do it for a stranger's page.
func TestWhoMaySteerByTCP(t *testing.T) {
	f := start(t, nil)
	const read, resign = "GET /api/v1/status", "POST /api/v1/routers/VI_1/resign"
	for _, c := range []struct {
		name, request string
		headers       []string
		status        int
		text          string
	}{
		{"reading", read, nil, 200, "lb01"},
		{"without a token", resign, nil, 401, "this needs the header Authorization: Bearer TOKEN"},
		{"with the token", resign, bearer, 204, ""},
		{"the scheme in other letters", resign, []string{"Authorization", "bearer " + testToken}, 204, ""},
		{"a wrong token", resign, []string{"Authorization", "Bearer 0123456789abcdee"}, 401, "wrong token: want the one of admin.token in the file"},
		{"a wrong token, reading", read, []string{"Authorization", "Bearer 0123456789abcdee"}, 401, "wrong token"},
		{"the beginning of the token", resign, []string{"Authorization", "Bearer 0123456789abcde"}, 401, "wrong token"},
		{"an empty token", resign, []string{"Authorization", "Bearer "}, 401, "wrong token"},
		{"another scheme", resign, []string{"Authorization", "Basic " + testToken}, 401, "want one header Authorization: Bearer TOKEN"},
		{"no scheme", resign, []string{"Authorization", testToken}, 401, "want one header"},
		{"another method said to be meant", "GET /api/v1/routers/VI_1/resign", []string{"X-HTTP-Method-Override", "POST", "X-Method-Override", "POST"}, 405, "want POST"},
		{"a method said to be meant in the query", "GET /api/v1/routers/VI_1/resign?_method=POST", nil, 405, "want POST"},
		{"a token in the query", resign + "?access_token=" + testToken, nil, 401, "this needs the header"},
		{"a user in a header of proxies", resign, []string{"X-Forwarded-For", "127.0.0.1", "X-Forwarded-User", "root", "X-Real-IP", "::1"}, 401, ""},
		{"not JSON", resign, append([]string{"Content-Type", "text/plain"}, bearer...), 415, "want the header Content-Type: application/json"},
		{"a form", resign, append([]string{"Content-Type", "application/x-www-form-urlencoded"}, bearer...), 415, ""},
		{"JSON with its character set", resign, append([]string{"Content-Type", "application/json; charset=utf-8"}, bearer...), 204, ""},
		{"a form of another page", resign, append([]string{"Sec-Fetch-Site", "cross-site"}, bearer...), 403, "a page elsewhere asks"},
		{"a page of the same site", resign, append([]string{"Sec-Fetch-Site", "same-site"}, bearer...), 403, "a page elsewhere asks"},
		{"another origin", resign, append([]string{"Origin", "https://evil.example"}, bearer...), 403, "a page elsewhere asks"},
		{"no origin that may be told", resign, append([]string{"Origin", "null"}, bearer...), 403, "a page elsewhere asks"},
		{"the own page", resign, append([]string{"Sec-Fetch-Site", "same-origin"}, bearer...), 204, ""},
		{"a page elsewhere asks whether it may", "OPTIONS /api/v1/routers/VI_1/resign", []string{"Origin", "https://evil.example", "Access-Control-Request-Method", "POST"}, 405, ""},
		{"the name of a stranger", read, []string{"Host", "evil.example"}, 421, `this host is not known as \"evil.example\": ask by its address, or add the name to admin.hostnames`},
		{"the name of a stranger, with a port", read, []string{"Host", "evil.example:9650"}, 421, ""},
		{"a name that begins as ours", read, []string{"Host", "localhost.evil.example"}, 421, ""},
		{"a name that has an address in it", read, []string{"Host", "127.0.0.1.evil.example"}, 421, ""},
		{"a configured name", read, []string{"Host", "LB01.example.org.:9650"}, 200, "lb01"},
		{"localhost", read, []string{"Host", "localhost:9650"}, 200, "lb01"},
		{"an address", read, []string{"Host", "192.0.2.7"}, 200, "lb01"},
		{"an IPv6 address", read, []string{"Host", "[2001:db8::7]:9650"}, 200, "lb01"},
		{"a stranger's name and the token", read, append([]string{"Host", "evil.example"}, bearer...), 200, "lb01"},
		{"a stranger's name and a wrong token", read, []string{"Host", "evil.example", "Authorization", "Bearer x"}, 401, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f.T = t
			f.s.guesses = newGuesses()
			set := *f.s.settings.Load()
			set.names = map[string]bool{"localhost": true, "lb01.example.org": true}
			f.s.settings.Store(&set)
			f.node.took()
			method, path, _ := strings.Cut(c.request, " ")
			got := f.ask(method, path, "", c.headers...)
			f.want(c.request, got, c.status, c.text)
			if done := f.node.took(); (done != "") != (c.status == 204) {
				t.Errorf("status %d, and the node was asked to %q", got.status, done)
			}
			for name := range got.header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("other pages are let in: %s: %s", name, got.header.Get(name))
				}
			}
		})
	}
}

// TestHeadersOfEveryAnswer keep browsers from what they may do otherwise.
func TestHeadersOfEveryAnswer(t *testing.T) {
	f := start(t, nil)
	for _, path := range []string{"/", "/api/v1/status", "/nothing", "/healthz"} {
		h := f.ask("GET", path, "").header
		for name, want := range map[string]string{
			"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
			"Content-Security-Policy": "frame-ancestors 'none'", "Cross-Origin-Resource-Policy": "same-origin",
		} {
			if got := h.Get(name); !strings.Contains(got, want) {
				t.Errorf("%s: %s: %q, want %q", path, name, got, want)
			}
		}
	}
}

// TestReadOnlyTCP: without a token and an authority nobody steers there, whatever is shown.
func TestReadOnlyTCP(t *testing.T) {
	f := start(t, func(c *config.Admin) { c.Token = config.Secret{} })
	const path = "/api/v1/routers/VI_1/resign"
	f.want("reading", f.ask("GET", "/api/v1/status", ""), 200, "lb01")
	f.want("nothing shown", f.ask("POST", path, ""), 403, "reading is all that is allowed here: set admin.token or admin.tls.client_ca")
	f.want("a token", f.ask("POST", path, "", bearer...), 401, "no token is right here")
	f.want("an empty token", f.ask("POST", path, "", "Authorization", "Bearer "), 401, "no token is right here")
	f.want("login", f.ask("POST", "/login", `{"token": ""}`), 401, "no token is right here")
	f.want("profiles", f.ask("GET", "/debug/pprof/heap", ""), 403, "")
	if done := f.node.took(); done != "" {
		t.Errorf("the node was asked to %s", done)
	}
}

// TestSession: who logs in with the token steers by a cookie and the token of the page, until
// it logs out, or the file has another token.
func TestSession(t *testing.T) {
	f := start(t, nil)
	const path = "/api/v1/routers/VI_1/resign"
	f.want("a wrong token", f.ask("POST", "/login", `{"token": "wrong"}`), 401, "wrong token")
	f.want("on the socket", f.ask("POST", "@/login", `{"token": "`+testToken+`"}`), 409, "goes by users")
	f.want("elsewhere", f.ask("POST", "/login", `{"token": "`+testToken+`"}`, "Origin", "https://evil.example"), 403, "a page elsewhere")
	login := func() (cookie, csrf string) {
		t.Helper()
		got := f.ask("POST", "/login", `{"token": "`+testToken+`"}`)
		f.want("login", got, 200, `"steers":true`)
		var body accessBody
		if err := json.Unmarshal([]byte(got.body), &body); err != nil {
			t.Fatal(err)
		}
		set := got.header.Get("Set-Cookie")
		for _, want := range []string{"; Path=/", "; HttpOnly", "; SameSite=Strict", "; Max-Age=43200"} {
			if !strings.Contains(set, want) {
				t.Errorf("cookie %q, want %q", set, want)
			}
		}
		cookie, _, _ = strings.Cut(set, ";")
		return cookie, body.CSRF
	}
	cookie, csrf := login()
	f.want("what the page may do", f.ask("GET", "/api/v1/access", "", "Cookie", cookie), 200, `"who":"the page, from 127.0.0.1","steers":true,"login":true,"csrf":"`+csrf)
	f.want("the page itself", f.ask("GET", "/", "", "Cookie", cookie), 200, csrf)
	f.want("steering", f.ask("POST", path, "", "Cookie", cookie, csrfHeader, csrf), 204, "")
	f.want("without the page's token", f.ask("POST", path, "", "Cookie", cookie), 403, "header X-CSRF-Token is not that of this session")
	f.want("with another one", f.ask("POST", path, "", "Cookie", cookie, csrfHeader, csrf[1:]+"A"), 403, "")
	f.want("an invented cookie", f.ask("POST", path, "", "Cookie", strings.Split(cookie, "=")[0]+"=AAAA", csrfHeader, csrf), 401, "")
	other, otherCSRF := login()
	f.want("another session's token", f.ask("POST", path, "", "Cookie", cookie, csrfHeader, otherCSRF), 403, "")
	f.want("logout without the page's token", f.ask("POST", "/logout", "", "Cookie", cookie), 403, "")
	got := f.ask("POST", "/logout", "", "Cookie", cookie, csrfHeader, csrf)
	f.want("logout", got, 204, "")
	if set := got.header.Get("Set-Cookie"); !strings.Contains(set, "Max-Age=0") {
		t.Errorf("cookie after logout: %q", set)
	}
	f.want("after logout", f.ask("POST", path, "", "Cookie", cookie, csrfHeader, csrf), 401, "")
	f.want("the other one", f.ask("POST", path, "", "Cookie", other, csrfHeader, otherCSRF), 204, "")
	f.want("logout of nobody", f.ask("POST", "/logout", ""), 204, "")
	same := f.s.settings.Load().Admin
	f.s.Reconfigure(same)
	f.want("after a reload", f.ask("POST", path, "", "Cookie", other, csrfHeader, otherCSRF), 204, "")
	same.Token = secretOf(t, "another-token-0123")
	f.s.Reconfigure(same)
	f.want("after another token", f.ask("POST", path, "", "Cookie", other, csrfHeader, otherCSRF), 401, "")
	f.want("the token of before", f.ask("POST", path, "", bearer...), 401, "wrong token")
	f.want("the token of now", f.ask("POST", path, "", "Authorization", "Bearer another-token-0123"), 204, "")
}

// TestSessionsEnd: each after an hour without use and after twelve hours in any case, and
// the one that was used least lately when there are too many.
func TestSessionsEnd(t *testing.T) {
	s, now := newSessions(), time.Now()
	idle, _ := s.begin(secretSum{}, now)
	used, _ := s.begin(secretSum{}, now)
	for h := range 12 {
		if s.find(used, secretSum{}, now.Add(time.Duration(h)*time.Hour)) == nil {
			t.Fatalf("a session in use ends after %d hours", h)
		}
	}
	if s.find(idle, secretSum{}, now.Add(time.Hour)) == nil || s.find(idle, secretSum{}, now.Add(3*time.Hour)) != nil {
		t.Error("idle sessions end after an hour")
	}
	if s.find(used, secretSum{}, now.Add(12*time.Hour+time.Second)) != nil {
		t.Error("a session lasts for more than twelve hours")
	}
	s = newSessions()
	first, _ := s.begin(secretSum{}, now)
	second, _ := s.begin(secretSum{}, now.Add(time.Second))
	s.find(first, secretSum{}, now.Add(2*time.Second))
	for range maxSessions - 1 {
		s.begin(secretSum{}, now.Add(3*time.Second))
	}
	if len(s.all) != maxSessions || s.find(second, secretSum{}, now) != nil || s.find(first, secretSum{}, now) == nil {
		t.Errorf("%d sessions; the one that was used least lately goes first", len(s.all))
	}
}

// TestGuesses: an address that shows wrong tokens has to wait, even with the right one, and
// no other address.
func TestGuesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuesses()
		for i := range guessBurst {
			if w := g.wait("192.0.2.1", time.Now()); w > 0 {
				t.Fatalf("after %d wrong tokens: wait %v", i, w)
			}
			g.note("192.0.2.1", time.Now())
		}
		if w := g.wait("192.0.2.1", time.Now()); w != guessEvery {
			t.Errorf("wait %v, want %v", w, guessEvery)
		}
		if w := g.wait("192.0.2.2", time.Now()); w > 0 {
			t.Errorf("another address waits for %v", w)
		}
		time.Sleep(guessEvery)
		if w := g.wait("192.0.2.1", time.Now()); w > 0 {
			t.Errorf("afterwards: wait %v", w)
		}
		// An IPv6 host has a network of addresses.
		for i := range guessBurst {
			g.note(fmt.Sprintf("2001:db8::%x", i+1), time.Now())
		}
		if g.wait("2001:db8::ffff", time.Now()) <= 0 || g.wait("2001:db8:0:1::1", time.Now()) > 0 {
			t.Error("IPv6 addresses count by their network")
		}
		// Whoever has many addresses takes no memory by them, and no place of who waits most.
		for i := range 5000 {
			g.note(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255), time.Now())
		}
		if len(g.paid) > maxGuessers || g.wait("2001:db8::1", time.Now()) <= 0 {
			t.Errorf("%d addresses are remembered", len(g.paid))
		}
	})
}

// TestGuessingByTCP: the eleventh wrong token gets 429, and so does the right one from there;
// who is elsewhere is not concerned. The log has a few lines of it.
func TestGuessingByTCP(t *testing.T) {
	f := start(t, nil)
	for range guessBurst {
		f.want("guess", f.ask("POST", "/login", `{"token": "guess"}`), 401, "wrong token")
	}
	got := f.ask("POST", "/login", `{"token": "guess"}`)
	f.want("one more", got, 429, "too many wrong tokens from 127.0.0.1")
	if got.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	f.want("the right one", f.ask("GET", "/api/v1/status", "", bearer...), 429, "")
	f.want("reading without a token", f.ask("GET", "/api/v1/status", ""), 200, "lb01")
	f.want("the socket", f.ask("POST", "@/api/v1/routers/VI_1/resign", ""), 204, "")
	f.until("the log says so", func() bool { return f.log.Count("a wrong token") == 3 })
	f.stop()
	if n := f.log.Count("a wrong token"); n != 3 {
		t.Errorf("%d lines of %d wrong tokens\n%s", n, guessBurst, f.log)
	}
	if f.log.Count("guess\"") > 0 || f.log.Count(testToken) > 0 {
		t.Error("a token is in the log")
	}
}

// authority writes a certificate of an authority, and returns it.
func authority(t *testing.T, file string) tls.Certificate {
	t.Helper()
	ca := labtest.Certificate(nil, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign })
	text, _ := labtest.PEM(ca)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return ca
}

// TestTLS: a client certificate of the authority steers, and no other one; a renewed
// certificate is noticed without a reload, and one that is not fit is not taken.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	labtest.WriteCertificate(t, file("a.pem"), "lb01.example.org")
	ca, stranger := authority(t, file("ca.pem")), authority(t, file("stranger.pem"))
	f := start(t, func(c *config.Admin) {
		c.TLS = &config.AdminTLS{Certificate: file("a.pem"), Key: file("a.pem"), ClientCA: file("ca.pem")}
	})
	ask := func(method, host string, cert ...tls.Certificate) response {
		t.Helper()
		c := f.client(false)
		c.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true, Certificates: cert}
		r, err := http.NewRequest(method, "https://"+f.tcp+"/api/v1/routers/VI_1/priority", strings.NewReader(`{"priority": 90}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		r.Header.Set("Content-Type", "application/json")
		return f.do(c, r)
	}
	client := func(ca *tls.Certificate, edit func(*x509.Certificate)) tls.Certificate {
		return labtest.Certificate(ca, func(c *x509.Certificate) {
			c.Subject.CommonName, c.ExtKeyUsage = "alice", []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
			if edit != nil {
				edit(c)
			}
		})
	}
	alice := client(&ca, nil)
	f.want("no certificate", ask("PUT", ""), 401, "or a client certificate of admin.tls.client_ca")
	f.want("a good one", ask("PUT", "", alice), 204, "")
	f.node.fails(report.ErrState)
	f.want("a good one, in vain", ask("PUT", "", alice), 409, "")
	f.node.fails(nil)
	f.until("the log says who", func() bool { return len(f.log.Lines("not steered", `certificate \"alice\", from 127.0.0.1`)) == 1 })
	f.want("of another authority", ask("PUT", "", client(&stranger, nil)), 401, "")
	f.want("expired", ask("PUT", "", client(&ca, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })), 401, "")
	f.want("of a server", ask("PUT", "", client(&ca, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })), 401, "")
	f.want("a name of the certificate", ask("PUT", "lb01.example.org", alice), 204, "")
	f.want("a name of nobody", ask("PUT", "lb02.example.org", alice), 421, "")
	got := f.ask("GET", "/api/v1/status", "")
	f.want("HTTP without TLS", got, 400, "HTTP request to an HTTPS server")

	labtest.WriteCertificate(t, file("a.pem"), "renewed.example.org")
	f.until("the renewed certificate is used", func() bool { return ask("PUT", "renewed.example.org", alice).status == 204 })
	if err := os.WriteFile(file("a.pem"), []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.until("the log says what is wrong", func() bool {
		f.want("the one of before", ask("PUT", "renewed.example.org", alice), 204, "")
		return f.log.Count("not read again") > 0
	})
	cfg := f.s.settings.Load().Admin
	cfg.TLS = nil
	f.s.Reconfigure(cfg)
	f.want("without TLS", f.ask("GET", "/api/v1/status", ""), 200, "lb01")
}

// TestSessionCookieOverTLS is kept from everything that is not TLS.
func TestSessionCookieOverTLS(t *testing.T) {
	dir := t.TempDir()
	labtest.WriteCertificate(t, filepath.Join(dir, "a.pem"), "lb01.example.org")
	f := start(t, func(c *config.Admin) {
		c.TLS = &config.AdminTLS{Certificate: filepath.Join(dir, "a.pem"), Key: filepath.Join(dir, "a.pem")}
	})
	r, err := http.NewRequest("POST", "https://"+f.tcp+"/login", strings.NewReader(`{"token": "`+testToken+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	got := f.do(f.client(false), r)
	port := fmt.Sprint(netip.MustParseAddrPort(f.tcp).Port())
	if set := got.header.Get("Set-Cookie"); !strings.HasPrefix(set, "__Host-havip-"+port+"=") || !strings.Contains(set, "; Secure") {
		t.Errorf("cookie %q", set)
	}
}

// TestSocketAccess: root and the daemon's user steer, others of the group read.
func TestSocketAccess(t *testing.T) {
	own := os.Geteuid()
	for _, c := range []struct {
		name   string
		peer   peer
		group  string
		steers bool
		hint   string
	}{
		{"root", peer{true, 0, 7}, "havip", true, ""},
		{"the daemon's user", peer{true, own, 7}, "havip", true, ""},
		{"another user", peer{true, own + 4711, 7}, "havip", false, "may only read: to steer, ask as root"},
		{"not told, and nobody else has the socket", peer{}, "", true, ""},
		{"not told", peer{}, "havip", false, "members of the group may only read"},
	} {
		if a := socketAccess(c.peer, c.group); a.steers != c.steers || !a.steers && !strings.Contains(a.hint, c.hint) {
			t.Errorf("%s: %+v", c.name, a)
		}
	}
}

// TestEveryChangeIsSteering: the routes that are asked for above are all that are not for
// reading, but those by which the page logs in and out, and the profiles.
func TestEveryChangeIsSteering(t *testing.T) {
	for _, rt := range New(Config{}, newFakeNode()).routes {
		want := rt.method != "GET" && rt.pattern != "/login" && rt.pattern != "/logout" || strings.HasPrefix(rt.pattern, "/debug/")
		if rt.steers != want {
			t.Errorf("%s %s: steers is %v, want %v", rt.method, rt.pattern, rt.steers, want)
		}
	}
}
