package lb

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestAnswerThatCloses: with 444 a client gets no byte, its connection ends at once, of HTTP/2 the
// stream alone, and the record says 444, as nginx logs it.
func TestAnswerThatCloses(t *testing.T) {
	backend := webBackend(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "in") })
	closed := Route{Name: "closed", Paths: []string{"/closed"}, HandlerConfig: HandlerConfig{Rules: Rules{Answer: Answer{Status: 444}}}}
	for _, front := range trapFronts() {
		records := make(chan Record, 10)
		s := front.serve(t, HandlerConfig{Routes: []Route{closed}, Record: func(r Record) { records <- r.Clone() }}, backend)
		for name, request := range map[string]string{
			"GET":           get("x /closed"),
			"HEAD":          "HEAD /closed HTTP/1.1\r\nHost: x\r\n\r\n",
			"POST":          "POST /closed HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
			"half a POST":   "POST /closed HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na",
			"after another": get("x /") + get("x /closed"),
		} {
			if front.http2 {
				if strings.Contains(name, " ") {
					continue // what a client of HTTP/2 cannot send so
				}
				if got := s.askRaw(t, request); got != "no answer" {
					t.Errorf("%s, %s: %q, want no answer", front.name, name, got)
				}
			} else {
				c := s.dial()
				_, _ = io.WriteString(c, request)
				got, err := io.ReadAll(c)
				c.Close()
				if answers := strings.Count(string(got), "HTTP/1.1 "); answers != strings.Count(request, "GET / ") {
					t.Errorf("%s, %s: %q", front.name, name, got)
				}
				if timeout := (interface{ Timeout() bool })(nil); errors.As(err, &timeout) && timeout.Timeout() {
					t.Errorf("%s, %s: the connection stays", front.name, name)
				}
			}
			r := nextRecord(t, records)
			if r.Status == http.StatusOK { // the request before
				r = nextRecord(t, records)
			}
			if r.Status != 444 || r.Sent != 0 || r.HTTP.Route != "closed" || r.Reason != "closed without an answer" {
				t.Errorf("%s, %s: status %d, %d bytes, route %q, %q", front.name, name, r.Status, r.Sent, r.HTTP.Route, r.Reason)
			}
		}
		if got := s.askRaw(t, get("x /")); got != "200\nin" {
			t.Errorf("%s, afterwards: %q", front.name, got)
		}
	}
}
