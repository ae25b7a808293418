package admin

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// raw sends bytes to TCP and returns all that comes back until the server closes.
func (f *fixture) raw(text string) string {
	f.Helper()
	c, err := net.Dial("tcp", f.tcp)
	if err != nil {
		f.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	go func() { _, _ = io.WriteString(c, text) }() // the server may close before it has all
	answer, _ := io.ReadAll(c)
	return string(answer)
}

// TestPathTricks: no other way of writing a path leads around the table of routes, and every
// name reaches the node as it is.
func TestPathTricks(t *testing.T) {
	f := start(t, nil)
	for _, c := range []struct {
		request string
		status  int
		text    string
		done    string
	}{
		{"GET //api/v1/status", 404, `element 1 of the path is \"\": leave it out`, ""},
		{"GET /api/v1//status", 404, "leave it out", ""},
		{"GET /api/v1/status/", 404, "element 4 of the path", ""},
		{"GET /api/v1/../v1/status", 404, `is \"..\"`, ""},
		{"GET /api/v1/%2e%2e/v1/status", 404, `is \"..\"`, ""},
		{"GET /api/v1/./status", 404, "leave it out", ""},
		{"GET /api/v1/status%00", 400, "bytes that no name has", ""},
		{"GET /api/v1/status%0d%0aX:%20y", 400, "bytes that no name has", ""},
		{"GET /api/v1/status%ff", 400, "bytes that no name has", ""},
		{"GET /api%2fv1%2fstatus", 404, "nothing is at", ""},
		{"GET /API/v1/status", 404, "did you mean /api/v1/status?", ""},
		{"GET /api/v1/statu", 404, "did you mean /api/v1/status?", ""},
		{"GET /api/v2/status", 404, "did you mean /api/v1/status?", ""},
		{"GET /metric", 404, "did you mean /metrics?", ""},
		{"GET /etc/passwd", 404, "see /api/v1/openapi.json", ""},
		{"GET /..%2f..%2fetc%2fpasswd", 404, "", ""},
		{"GET /api/v1/status;x=y", 404, "", ""},
		{"GET /api/v1/status?x=y", 400, `unknown parameter \"x\": none is known here`, ""},
		{"POST /api/v1/status", 405, "want GET or HEAD", ""},
		{"BREW /api/v1/status", 405, "want GET or HEAD", ""},
		{"TRACE /", 405, "want GET or HEAD", ""},
		{"GET /api/v1/maintenance", 405, "want PUT", ""},
		{"POST /api/v1/routers/a%2fb/resign", 204, "", `resign "a/b"`},
		{"POST /api/v1/routers/a/b/resign", 404, "", ""},
		{"POST /api/v1/routers/%22%3cscript%3e/resign", 204, "", `resign "\"<script>"`},
		{"POST /api/v1/routers//resign", 404, "", ""},
		{"POST /api/v1/routers/..%2f..%2flog/resign", 204, "", `resign "../../log"`},
		{"POST /api/v1/checks/pause", 404, "", ""},
		{"POST /api/v1/checks/web/a/b/c/pause", 204, "", `check "web/a/b/c" "pause"`},
		{"POST /api/v1/checks/http:%2F%2Fx%2F/now", 204, "", `check "http://x/" "now"`},
		{"DELETE /api/v1/services/web/backends/unix:%2Frun%2Fa", 204, "", `backend "web" "unix:/run/a"`},
	} {
		t.Run(c.request, func(t *testing.T) {
			f.T = t
			method, target, _ := strings.Cut(c.request, " ")
			answer := f.raw(method + " " + target + " HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 0\r\nAuthorization: Bearer " + testToken + "\r\n\r\n")
			if !strings.HasPrefix(answer, fmt.Sprintf("HTTP/1.1 %d ", c.status)) || !strings.Contains(answer, c.text) {
				t.Errorf("got %s, want %d with %s", answer, c.status, c.text)
			}
			if done := f.node.took(); done != c.done && !(c.done != "" && strings.HasPrefix(done, c.done)) {
				t.Errorf("the node was asked to %q, want %q", done, c.done)
			}
			if c.status == 405 && !strings.Contains(answer, "\r\nAllow: ") {
				t.Error("no header Allow")
			}
		})
	}
}

// TestBytesBelowHTTP: what is no request, or one that could be read in two ways, is refused,
// changes nothing, and the server goes on.
func TestBytesBelowHTTP(t *testing.T) {
	f := start(t, nil)
	const get, post = "GET /api/v1/status HTTP/1.1\r\nHost: x.test\r\nConnection: close\r\n", "POST /api/v1/routers/VI_1/resign HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nConnection: close\r\n"
	authorized := post + "Authorization: Bearer " + testToken + "\r\n"
	for _, c := range []struct {
		name, text string
		status     string // of the first answer, or empty: none
		done       string
	}{
		{"HTTP/1.0", "GET /api/v1/status HTTP/1.0\r\n\r\n", "200", ""},
		{"HTTP/1.0 without a token", "POST /api/v1/routers/VI_1/resign HTTP/1.0\r\nContent-Type: application/json\r\n\r\n", "401", ""},
		{"HTTP/0.9", "GET /api/v1/status\r\n\r\n", "400", ""},
		{"no Host", "GET /api/v1/status HTTP/1.1\r\n\r\n", "400", ""},
		{"two Hosts", "GET /api/v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.test\r\n\r\n", "400", ""},
		{"another host in the target", "GET http://evil.test/api/v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n", "421", ""},
		{"our address in the target", "GET http://127.0.0.1/api/v1/status HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n", "200", ""},
		{"CONNECT", "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\nConnection: close\r\n\r\n", "4", ""},
		{"an asterisk", "OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n", "", ""},
		{"HTTP/2 without TLS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "", ""},
		{"an upgrade to HTTP/2", "GET /api/v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n", "200", ""},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x00", 40) + "\r\n\r\n", "400", ""},
		{"a header of 40 KiB", get + "X: " + strings.Repeat("x", 40<<10) + "\r\n\r\n", "431", ""},
		{"a thousand headers", get + strings.Repeat("X-Header-Of-This-Name: abcdefgh\r\n", 1000) + "\r\n", "431", ""},
		{"two lengths", authorized + "Content-Length: 2\r\nContent-Length: 0\r\n\r\n{}", "400", ""},
		{"a length and chunks", authorized + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "204", `resign "VI_1"`}, // the chunks count (RFC 9112 §6.1)
		{"another coding", authorized + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501", ""},
		{"chunks", authorized + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", "204", `resign "VI_1"`},
		{"chunks without an end", authorized + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", "400", ""},
		{"a fold in a header", get + "X: a\r\n Authorization: Bearer " + testToken + "\r\n\r\n", "", ""},
		{"a line end in the token", post + "Authorization: Bearer " + testToken + "\rX\r\n\r\n", "", ""},
		{"two tokens", authorized + "Authorization: Bearer wrong\r\nContent-Length: 0\r\n\r\n", "401", ""},
		{"a body of 65 KiB", authorized + "Content-Length: 66560\r\n\r\n" + strings.Repeat(" ", 66560), "413", ""},
		{"65 KiB in chunks", authorized + "Transfer-Encoding: chunked\r\n\r\n10400\r\n" + strings.Repeat(" ", 66560) + "\r\n0\r\n\r\n", "413", ""},
		{"one byte less than the length", authorized + "Content-Length: 1\r\n\r\n{", "400", ""},
		{"two requests at once", "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" + authorized + "Content-Length: 0\r\n\r\n", "200", `resign "VI_1"`},
		{"a request in the body of another", "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 300\r\n\r\n" + authorized + "Content-Length: 0\r\n\r\n" + strings.Repeat(" ", 100), "200", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f.T = t
			f.s.guesses = newGuesses()
			answer := f.raw(c.text)
			if c.status != "" && !strings.HasPrefix(answer, "HTTP/1.1 "+c.status) && !strings.HasPrefix(answer, "HTTP/1.0 "+c.status) {
				t.Errorf("got %.300s, want %s", answer, c.status)
			}
			if strings.Contains(answer, "HTTP/2") || strings.Contains(answer, " 101 ") {
				t.Errorf("another protocol: %.200q", answer)
			}
			if done := f.node.took(); done != c.done {
				t.Errorf("the node was asked to %q, want %q", done, c.done)
			}
			f.want("afterwards", f.ask("GET", "/healthz", ""), 200, "true")
		})
	}
}

// TestBodies: each mistake is named with what is wanted, and nothing is done.
func TestBodies(t *testing.T) {
	f := start(t, nil)
	for body, want := range map[string]string{
		``:                             `key priority is missing: want a JSON object such as {\"priority\": 1}`,
		`90`:                           "want a JSON object such as",
		`[90]`:                         "want a JSON object such as",
		`null`:                         "want a JSON object such as",
		`{"priority": 90`:              "not JSON",
		`{"priority": 90,}`:            "not JSON",
		`{"priority": 90} x`:           "nothing behind it",
		`{"priority": 90}{}`:           "nothing behind it",
		`{"prioritty": 90}`:            `unknown key \"prioritty\": did you mean priority?`,
		`{"Priority": 90}`:             `unknown key \"Priority\": did you mean priority?`,
		`{"other": 90}`:                `unknown key \"other\": want priority`,
		`{"priority": "90"}`:           `priority: \"90\": want a whole number`,
		`{"priority": 90.5}`:           "want a whole number",
		`{"priority": null}`:           "want a whole number",
		`{"priority": 1e99}`:           "want a whole number",
		`{"priority": 90, "priority"`:  "not JSON behind key",
		`{"priority":90,"priority":1}`: "key priority is given twice",
		strings.Repeat("[", 60000):     "want a JSON object",
		`{"priority": ` + strings.Repeat("[", 60000) + `}`: "not JSON behind key",
	} {
		f.want(body[:min(len(body), 40)], f.ask("PUT", "@/api/v1/routers/VI_1/priority", body), 400, want)
	}
	if done := f.node.took(); done != "" {
		t.Errorf("the node was asked to %s", done)
	}
}

// TestThousandConnections of one address: those beyond its share are told so or closed, and
// neither another address nor the socket is concerned.
func TestThousandConnections(t *testing.T) {
	f := start(t, nil)
	var told, closed atomic.Int64
	var readers sync.WaitGroup
	defer readers.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 1000 {
		c, err := net.Dial("tcp", f.tcp)
		if err != nil {
			t.Fatal(err)
		}
		defer context.AfterFunc(ctx, func() { c.Close() })()
		// A request without an end, which takes a place.
		_, _ = io.WriteString(c, "GET /api/v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\n")
		readers.Go(func() {
			defer c.Close()
			_, _ = io.WriteString(c, "X: y\r\n")
			if _, err := bufio.NewReader(c).ReadString('\n'); err != nil && ctx.Err() == nil {
				closed.Add(1)
			} else if err == nil {
				told.Add(1)
			}
		})
	}
	f.until("most of them are closed at once", func() bool { return closed.Load() >= 1000-maxPerAddress-maxRefused })
	g := f.gate("tcp")
	g.mu.Lock()
	n := len(g.clients)
	g.mu.Unlock()
	if n > maxPerAddress+maxRefused/4 {
		t.Errorf("%d connections of one address", n)
	}
	f.want("the socket", f.ask("GET", "@/api/v1/status", ""), 200, "lb01")
	other := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).DialContext}}
	r, err := http.NewRequest("GET", "http://"+f.tcp+"/api/v1/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	f.want("another address", f.do(other, r), 200, "lb01")
	// The slow ones get nothing more than their time.
	f.until("their time is over", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(g.clients) <= 2
	})
	f.want("the address itself, afterwards", f.ask("GET", "/api/v1/status", ""), 200, "lb01")
}

// TestTooManyConnections are told so, in HTTP, and an idle one gives its place.
func TestTooManyConnections(t *testing.T) {
	f := start(t, nil)
	var busy []net.Conn
	defer func() {
		for _, c := range busy {
			c.Close()
		}
	}()
	hold := func(text string) {
		t.Helper()
		c, err := net.Dial("tcp", f.tcp)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		busy = append(busy, c)
	}
	const stream, once = "GET /api/v1/events/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer " + testToken + "\r\n\r\n", "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
	g := f.gate("tcp")
	for range maxPerAddress - 1 {
		hold(stream)
	}
	f.until("the streams are open", func() bool { return g.streams.Load() == maxPerAddress-1 })
	hold(once)
	f.until("one is idle", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		for k := range g.clients {
			if !k.idle.IsZero() {
				return true
			}
		}
		return false
	})
	f.want("in the place of the idle one", f.ask("GET", "/healthz", "", "Connection", "close"), 200, "true")
	f.until("that one has left", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(g.clients) == maxPerAddress-1
	})
	hold(stream)
	f.until("all places are taken", func() bool { return g.streams.Load() == maxPerAddress })
	got := f.ask("GET", "/healthz", "")
	f.want("one too many", got, 503, "too many connections: at most 256, of one address, or user, 64")
	if got.header.Get("Retry-After") == "" {
		t.Errorf("headers %v", got.header)
	}
}

// TestManyRequestsTakeTurns: a flood of questions keeps no more than maxWork of them at
// work, so the processors stay the daemon's.
func TestManyRequestsTakeTurns(t *testing.T) {
	f := start(t, nil)
	free := f.node.blocks()
	defer free()
	var flood sync.WaitGroup
	for range 20 {
		flood.Go(func() {
			if got := f.ask("GET", "@/api/v1/explain/192.0.2.1", ""); got.status != 200 && got.status != 503 {
				f.Errorf("%d %s", got.status, got.body)
			}
		})
	}
	f.until("as many as may work", func() bool { return len(f.gate("unix").work) == maxWork })
	f.want("steering goes on", f.ask("POST", "@/api/v1/routers/VI_1/resign", ""), 204, "")
	time.AfterFunc(100*time.Millisecond, free)
	flood.Wait()
}

// FuzzRequest: whatever bytes come as a request, nothing panics, nothing is done for who has
// shown nothing, and an error is JSON with a text.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		"GET /api/v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
		"PUT /api/v1/routers/VI_1/priority HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{\"priority\": 90}",
		"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n{\"token\": \"x\"}", // a guess
		"DELETE /api/v1/services/web/backends/a%2fb HTTP/1.1\r\nHost: [::1]:1\r\nAuthorization: Bearer x\r\n\r\n",                   // a wrong token, an escaped slash
		"GET /api/v1/events?after=1&since=1m&limit=%31 HTTP/1.0\r\nLast-Event-ID: 1-a\r\n\r\n",                                      // no host
		"GET //..%00/%2e%2e HTTP/1.1\r\nHost: evil\r\nCookie: havip-1=x; havip-=y\r\nX-CSRF-Token: z\r\n\r\n",                       // tricks of paths
		"POST /api/v1/checks/a/b/now HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	node := newFakeNode()
	s := New(Config{}, node)
	set := *s.settings.Load()
	set.token = sumOf(testToken)
	s.settings.Store(&set)
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(string(data))))
		if err != nil || strings.Contains(string(data), testToken) || strings.Contains(string(data), "stream") {
			return
		}
		here, there := net.Pipe()
		defer here.Close()
		defer there.Close()
		k := &client{Conn: tcpEnd{here}, gate: &gate{s: s, work: make(chan struct{}, maxWork)}, address: "192.0.2.1"}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), clientKey{}, k)))
		s.guesses = newGuesses()
		if done := node.took(); done != "" && !strings.HasPrefix(done, "explain ") {
			t.Errorf("the node was asked to %s", done)
		}
		if w.Code == http.StatusInternalServerError && !strings.Contains(r.URL.Path, "192.0.2.66") {
			t.Errorf("a fault: %s", w.Body)
		}
		if w.Code >= 400 && r.Method != http.MethodHead && !strings.Contains(w.Body.String(), `"error":"`) && w.Code != http.StatusServiceUnavailable {
			t.Errorf("%d without a text: %s", w.Code, w.Body)
		}
	})
}

// tcpEnd is one end of a pipe that says it is of TCP.
type tcpEnd struct{ net.Conn }

func (tcpEnd) LocalAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9650} }
