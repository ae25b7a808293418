package healthcheck

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"runtime"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
)

// TestNothingLeaks: a check that is made every second for a year must leave
// nothing behind, whether it succeeds, fails, times out or is cancelled.
func TestNothingLeaks(t *testing.T) {
	page := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(page.Close)
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.EnableHTTP2 = true
	secure.StartTLS()
	t.Cleanup(secure.Close)
	health := healthServer(t, nil, func(w http.ResponseWriter, _ *http.Request, _ string) {
		reply(w, []byte{1 << 3, 1}, "Grpc-Status", "0")
	})
	mute, hung := serveUDP(t, func([]byte) [][]byte { return nil }), halfOpen(t)
	unverified := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}
	checks := []Checker{
		TCP{Address: address(page)}, TCP{Address: hung, Expect: []byte("x")}, TCP{Address: lab.FreeAddress(t)},
		HTTP{URL: page.URL}, HTTP{URL: page.URL, Status: []StatusRange{{404, 404}}, Body: regexp.MustCompile("not found")},
		HTTP{URL: secure.URL, TLS: unverified}, HTTP{URL: "http://" + hung}, HTTP{URL: "https://" + hung, TLS: unverified},
		GRPC{Address: address(health)}, GRPC{Address: hung}, GRPC{Address: address(page)},
		TLS{Address: address(secure), Config: unverified}, TLS{Address: hung},
		SMTP{Address: hung}, SMTP{Address: address(page)},
		UDP{Address: mute}, UDP{Address: mute, AllowSilence: true},
		DNS{Server: mute, Name: "example.com"}, DNS{Server: hung, Name: "example.com", TCP: true},
		Exec{Path: "/bin/true"}, Exec{Path: "/bin/sleep", Args: []string{"100"}},
		File{Path: "/etc/passwd", Content: regexp.MustCompile("root")}, Process{Name: "nosuchprocess"}, Interface{Name: "lo"},
	}
	// One context that outlives all checks: what hangs on it would stay.
	parent, cancel := context.WithCancel(t.Context())
	defer cancel()
	round := func() {
		for _, c := range checks {
			ctx, cancel := context.WithTimeout(parent, 30*time.Millisecond)
			_ = c.Check(ctx)
			cancel()
		}
		for _, c := range []Checker{checks[0], checks[2], checks[3], checks[8]} {
			_ = c.Check(parent) // these end by themselves
		}
	}
	round() // what is made once may stay
	settle := func() (goroutines, files int) {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return runtime.NumGoroutine(), len(entries)
	}
	const rounds = 5
	var goroutines, files int
	waitFor(t, "the servers to come to rest", func() bool {
		before, _ := settle()
		time.Sleep(50 * time.Millisecond)
		goroutines, files = settle()
		return before == goroutines
	})
	for range rounds {
		round()
	}
	// Fewer than one for each round: nothing leaks every time.
	var g, f int
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		g, f = settle()
		if g < goroutines+rounds && f < files+rounds {
			return
		}
		if time.Now().After(deadline) {
			break
		}
	}
	buf := make([]byte, 64<<10)
	t.Errorf("%d goroutines and %d files before, %d and %d after %d rounds\n%s", goroutines, files, g, f, rounds, buf[:runtime.Stack(buf, true)])
}
