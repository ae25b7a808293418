package lb

import (
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestClosedConnectionGetsNoRequestThatIsSentOnce: the end of a kept connection counts as
// soon as it is here, even if nobody has had the time to see it: with one processor, nobody
// has.
func TestClosedConnectionGetsNoRequestThatIsSentOnce(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	const tries = 20
	used := map[string]int{}
	for range tries {
		for _, method := range []string{http.MethodPost, http.MethodGet} {
			x := &handling{exchange: exchange{cfg: newHandlerSettings(HandlerConfig{})}, in: httptest.NewRequest(method, "/", nil)}
			u := newUpstream(dialTest(t, ln.Addr().String()), destination{})
			backend, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			x.cfg.idle.keepConn(u)
			time.Sleep(time.Millisecond) // watchConn waits
			backend.Close()
			if u := x.takeConn(destination{}, time.Hour); u != nil {
				used[method]++
				u.Close()
			}
		}
	}
	if used[http.MethodPost] > 0 {
		t.Errorf("%d of %d closed connections are used for a POST", used[http.MethodPost], tries)
	}
	t.Logf("%d of %d for a GET, which can be repeated", used[http.MethodGet], tries)
}

// TestPartOfAHeadIsForgotten: what a backend has sent of a head when it dies is no part of the
// next backend's head.
func TestPartOfAHeadIsForgotten(t *testing.T) {
	dying := rawBackend(t, says("HTTP/1.1 200 OK\r\nX-Long: "+strings.Repeat("a", 100)+"\r\nContent-Le"))
	handler, _ := front(t, HandlerConfig{}, dying, webBackend(t, name("good")))
	p, ln := newHTTP(t, HTTPConfig{}, dying, webBackend(t, name("good"))), listenTest(t)
	serveHTTP(t, p, ln)
	for _, url := range []string{handler.URL, "http://" + ln.Addr().String()} {
		res, err := http.Get(url)
		if got := body(t, res, err); got != "good" {
			t.Errorf("%d %q", res.StatusCode, got)
		}
	}
}
