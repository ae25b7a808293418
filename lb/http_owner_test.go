package lb

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// loginBackend authenticates connections as NTLM does: in two steps, and whoever uses the
// connection later is the same user. It answers with the user and the number of the
// connection. open is how many connections there are.
func loginBackend(t *testing.T, open *atomic.Int32) Backend {
	var conns atomic.Int32
	return rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		number, user := conns.Add(1), "nobody"
		open.Add(1)
		defer open.Add(-1)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			io.Copy(io.Discard, req.Body)
			scheme, word, _ := strings.Cut(req.Header.Get("Authorization"), " ")
			name, login := strings.CutPrefix(word, "3:")
			switch {
			case scheme == "NTLM" && login:
				user = name
			case scheme == "NTLM":
				io.WriteString(c, "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM 2\r\nContent-Length: 0\r\n\r\n")
				continue
			case user == "nobody" && req.URL.Path != "/public":
				io.WriteString(c, "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\", ntlm\r\nContent-Length: 0\r\n\r\n")
				continue
			}
			answer := fmt.Sprint(user, " ", number)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer)
		}
	})
}

// tracking serves h by a server that tracks connections, if it is to.
func tracking(t *testing.T, h http.Handler, track bool) (address string) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	if track {
		TrackConns(s.Config)
	}
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

const (
	negotiate = "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: NTLM 1\r\n\r\n"
	login     = "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: NTLM 3:ann\r\n\r\n"
	aPublic   = "GET /public HTTP/1.1\r\nHost: x\r\n\r\n"
	aPost     = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
)

// logIn authenticates the connection of c as ann, and returns what a backend calls that.
func logIn(t *testing.T, c *reader) string {
	t.Helper()
	var got string
	for _, step := range []struct {
		request string
		status  int
	}{{aGet, 401}, {negotiate, 401}, {login, 200}} {
		res, answer, err := c.ask(t, step.request)
		if err != nil || res.StatusCode != step.status {
			t.Fatalf("%.60q: %+v, %v, want %d", step.request, res, err, step.status)
		}
		got = answer
	}
	if !strings.HasPrefix(got, "ann ") {
		t.Fatalf("logged in as %q", got)
	}
	return got
}

// age makes all kept connections as old as d.
func age(h *Handler, d time.Duration) {
	ageInLoops(h, d)
	i := h.settings.Load().idle
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, l := range i.conns {
		for _, u := range l {
			u.since = time.Now().Add(-d)
		}
	}
}

// kept is how many connections to backends are kept.
func kept(h *Handler) (n int) {
	i := h.settings.Load().idle
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, l := range i.conns {
		n += len(l)
	}
	return n
}

// A backend takes a connection on which somebody has logged in by NTLM for that user's.
// Whatever is reused otherwise, the connection serves the client that has logged in,
// always, and nobody else, and it ends with the client's.
func TestAuthenticatedConnectionIsItsClients(t *testing.T) {
	for _, reuse := range []Reuse{ReuseSafe, ReuseNever, ReuseAlways} {
		t.Run(reuse.String(), func(t *testing.T) {
			var open atomic.Int32
			h := newHandler(t, HandlerConfig{Reuse: reuse, Pool: newPool(t, PoolConfig{
				Backends: []Backend{loginBackend(t, &open), loginBackend(t, &open), loginBackend(t, &open)}})})
			address := tracking(t, h, true)
			ann, bob := newReader(t, address), newReader(t, address)
			as := logIn(t, ann)
			for i := range 6 {
				age(h, time.Hour)
				request := []string{aGet, aPost}[i%2]
				if _, got, err := ann.ask(t, request); got != as {
					t.Errorf("ann is %q, %v, want %q", got, err, as)
				}
				if res, got, err := bob.ask(t, aGet); err != nil || res.StatusCode != 401 {
					t.Errorf("bob is %q, %v", got, err)
				}
				if _, got, err := bob.ask(t, aPublic); !strings.HasPrefix(got, "nobody ") {
					t.Errorf("bob is %q, %v", got, err)
				}
			}
			before := open.Load()
			ann.Close()
			waitFor(t, "the connection to end with ann's", func() bool { return open.Load() < before })
			bob.Close()
			if reuse == ReuseNever {
				waitFor(t, "all connections to end", func() bool { return open.Load() == 0 })
			}
		})
	}
}

// A server that does not track connections, and one of HTTP/2, cannot tell clients apart:
// an authenticated connection serves no other request.
func TestAuthenticatedConnectionOfAnUnknownClient(t *testing.T) {
	var open atomic.Int32
	h := newHandler(t, HandlerConfig{Reuse: ReuseAlways, Pool: newPool(t, PoolConfig{Backends: []Backend{loginBackend(t, &open)}})})
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	TrackConns(s.Config)
	s.StartTLS()
	t.Cleanup(s.Close)
	overHTTP2 := func(path, credentials string) (int, string) {
		req, _ := http.NewRequestWithContext(t.Context(), "GET", s.URL+path, nil)
		if credentials != "" {
			req.Header.Set("Authorization", credentials)
		}
		res, err := s.Client().Do(req)
		got := body(t, res, err)
		if res.ProtoMajor != 2 {
			t.Fatal(res.Proto)
		}
		return res.StatusCode, got
	}
	if status, got := overHTTP2("/", "NTLM 3:ann"); status != 200 || got != "ann 1" {
		t.Errorf("ann is %d %q", status, got)
	}
	if status, got := overHTTP2("/", ""); status != 401 {
		t.Errorf("another request gets %d %q", status, got)
	}
	if status, got := overHTTP2("/public", ""); status != 200 || got != "nobody 3" {
		t.Errorf("another request gets %d %q", status, got)
	}

	c := newReader(t, tracking(t, h, false))
	if _, got, err := c.ask(t, login); !strings.HasPrefix(got, "ann ") {
		t.Errorf("ann is %q, %v", got, err)
	}
	if res, got, err := c.ask(t, aGet); err != nil || res.StatusCode != 401 {
		t.Errorf("the next request gets %q, %v", got, err)
	}
	waitFor(t, "the connections of logins to end", func() bool { return open.Load() == int32(kept(h)) })
}

// reuse: never, safe or always.
func TestReuseOfKeptConnections(t *testing.T) {
	for _, tt := range []struct {
		reuse   Reuse
		request string
		age     time.Duration
		reused  bool
	}{
		{ReuseNever, aGet, 0, false},
		{ReuseNever, aPost, 0, false},
		{ReuseSafe, aGet, idleFor - time.Second, true},
		{ReuseSafe, aPost, 0, true},
		{ReuseSafe, aPost, freshFor + time.Millisecond, false},
		{ReuseAlways, aGet, idleFor - time.Second, true},
		{ReuseAlways, aPost, idleFor - time.Second, true},
		{ReuseAlways, aPost, idleFor + time.Second, false},
	} {
		s, h := front(t, HandlerConfig{Reuse: tt.reuse}, webBackend(t, name("ok")))
		c := newReader(t, s.Listener.Addr().String())
		if _, got, err := c.ask(t, aGet); got != "ok" {
			t.Fatal(got, err)
		}
		age(h, tt.age)
		if _, got, err := c.ask(t, tt.request); got != "ok" {
			t.Fatal(got, err)
		}
		if n := h.pool().Status().Backends[0].Connects; (n == 1) != tt.reused {
			t.Errorf("%v: %.4s, %v old: %d connections", tt.reuse, tt.request, tt.age, n)
		}
		if n := kept(h); tt.reuse == ReuseNever && n != 0 {
			t.Errorf("%d connections are kept", n)
		}
	}
}

// What authenticates a connection.
func TestConnectionBound(t *testing.T) {
	for _, tt := range []struct {
		status            int
		request, response string
		want              bool
	}{
		{200, "", "", false},
		{401, "", "Www-Authenticate: NTLM", true},
		{401, "", "Www-Authenticate: Negotiate abc==", true},
		{401, "", "Www-Authenticate: nego2", true},
		{401, "", "Www-Authenticate: Digest realm=\"a\", nonce=\"b\", ntlm", true},
		{401, "", "Www-Authenticate: Basic realm=\"ntlm\"", false},
		{401, "", "Www-Authenticate: NT", false},
		{407, "", "Proxy-Authenticate: Negotiate", true},
		{407, "", "Www-Authenticate: Negotiate", false},
		{403, "", "Proxy-Authenticate: Negotiate", false},
		{403, "", "Www-Authenticate: NTLM", false},
		{200, "Authorization: NTLM TlRM", "", true},
		{200, "Authorization: negotiate YII=", "", true},
		{200, "Authorization: Bearer NTLM", "", false},
	} {
		line := func(field string) string {
			if field != "" {
				field += "\r\n"
			}
			return field
		}
		x := testExchange(t, HandlerConfig{}, "GET / HTTP/1.1\r\nHost: x\r\n"+line(tt.request)+"\r\n")
		x.prepare()
		res := parsedResponse(t, "GET", fmt.Sprintf("HTTP/1.1 %d x\r\n%s\r\n", tt.status, line(tt.response)))
		if got := x.bindsConnection(res); got != tt.want {
			t.Errorf("%d %q %q: %v, want %v", tt.status, tt.request, tt.response, got, tt.want)
		}
	}
}

// A client that has logged in moves to another backend only if its own cannot be used.
func TestAuthenticatedClientStaysWithItsBackend(t *testing.T) {
	pool := newPool(t, PoolConfig{MaxFails: 1, FailTimeout: time.Hour, SlowStart: time.Hour,
		Backends: []Backend{{Address: "192.0.2.1:80", Name: "a", MaxConns: 1}, {Address: "192.0.2.2:80", Name: "b"}}})
	a := pool.snap.Load().find("a").server
	pick := func() string {
		t.Helper()
		k, err := pool.Pick(&Flow{prefer: a})
		if err != nil {
			t.Fatal(err)
		}
		defer k.Done(Neutral)
		return k.Backend()
	}
	expect := func(what, want string) {
		t.Helper()
		for range 4 {
			if got := pick(); got != want {
				t.Errorf("%s: %s, want %s", what, got, want)
			}
		}
	}
	expect("at first", "a")
	pool.SetHealth("a", errDown)
	expect("down", "b")
	pool.SetHealth("a", nil)
	expect("in slow start", "a")
	pool.SetDrain("a", true)
	expect("draining", "b")
	pool.SetDrain("a", false)
	full, _ := pool.Pick(&Flow{prefer: a})
	expect("full", "b")
	full.Done(Failure)
	expect("ejected", "b")
	tried := &Flow{prefer: a, tried: [maxTries]*server{a}, tries: 1}
	if k, err := pool.Pick(tried); err != nil || k.Backend() != "b" {
		t.Errorf("tried in vain: %v, %v", k.Backend(), err)
	}
}

// An authenticated connection is kept as long as the client's, however long nothing comes.
// Other connections are given up after a while.
func TestAuthenticatedConnectionIsKeptWhileIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, o := new(idleConns), new(clientConn)
		ended := func(c net.Conn) chan bool {
			done := make(chan bool)
			go func() {
				c.Read(make([]byte, 1))
				close(done)
			}()
			return done
		}
		ours, theirs := net.Pipe()
		own := ended(theirs)
		o.keep(i, newUpstream(ours, destination{address: "a"}))
		ours, theirs = net.Pipe()
		i.keepConn(newUpstream(ours, destination{address: "a"}))
		<-ended(theirs)
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		select {
		case <-own:
			t.Error("the connection has not outlived its client")
		default:
		}
		// It leads to another backend from now on.
		ours, theirs = net.Pipe()
		other := ended(theirs)
		o.keep(i, newUpstream(ours, destination{address: "b"}))
		<-own
		o.end()
		<-other
		ours, theirs = net.Pipe()
		o.keep(i, newUpstream(ours, destination{address: "a"}))
		<-ended(theirs)
	})
}

// Connections that a Handler has given up leave nothing behind in those of clients.
func TestClientForgetsWhatWasGivenUp(t *testing.T) {
	o := new(clientConn)
	for range 5 {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		i := new(idleConns)
		o.keep(i, newUpstream(ours, destination{address: "a"}))
		i.cut(nil)
		if len(o.bound) != 1 {
			t.Errorf("%d, want 1", len(o.bound))
		}
	}
	o.end()
}

// TrackConns calls what a server has had.
func TestTrackConnsKeepsHooks(t *testing.T) {
	var contexts, states atomic.Int32
	type key struct{}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Context().Value(key{}), clientConnOf(r) != nil)
	}))
	s.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		contexts.Add(1)
		return context.WithValue(ctx, key{}, "own")
	}
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) { states.Or(1 << state) }
	TrackConns(s.Config)
	s.Start()
	defer s.Close()
	if got := rawRequest(t, s, aLastGet); got != "owntrue" || contexts.Load() != 1 {
		t.Errorf("%q, %d", got, contexts.Load())
	}
	waitFor(t, "all states", func() bool { return states.Load() == 1<<http.StateNew|1<<http.StateActive|1<<http.StateClosed })
}

// TestHijackedConnectionIsForgotten: net/http says no more of it.
func TestHijackedConnectionIsForgotten(t *testing.T) {
	var open atomic.Int32
	h := newHandler(t, HandlerConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{loginBackend(t, &open)}})})
	c := newReader(t, tracking(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/hijack" {
			h.ServeHTTP(w, r)
		} else if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			t.Cleanup(func() { conn.Close() })
		}
	}), true))
	logIn(t, c)
	io.WriteString(c, "GET /hijack HTTP/1.1\r\nHost: x\r\n\r\n")
	waitFor(t, "the backend's connection to end", func() bool { return open.Load() == 0 })

	conns := connTracker{conns: make(map[net.Conn]*clientConn)}
	conns.track(c)
	if conns.forget(c); len(conns.conns) != 0 {
		t.Error("a connection that has ended takes room")
	}
}

// The words of the configuration file.
func TestReuseWords(t *testing.T) {
	for r, word := range map[Reuse]string{ReuseSafe: "safe", ReuseNever: "never", ReuseAlways: "always"} {
		var got Reuse
		if text, _ := r.MarshalText(); string(text) != word || got.UnmarshalText(text) != nil || got != r {
			t.Errorf("%d is %q, which is %v, want %q", r, text, got, word)
		}
	}
	if err := new(Reuse).UnmarshalText([]byte("no")); err == nil || err.Error() != `"no": want safe, never or always` {
		t.Error(err)
	}
	if err := (HandlerConfig{Reuse: 3}).Validate(); err == nil || !strings.Contains(err.Error(), "Reuse: Reuse(3): want safe, never or always") {
		t.Error(err)
	}
}
