package lb

import (
	"bufio"
	"cmp"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// retryCases are requests whose first backend is in trouble, and what becomes of them: the answer,
// and how often each backend is asked.
var retryCases = []struct {
	name    string
	method  string
	backend []string // what each does: a status, refuses, hangs up, or is silent
	nginx   string   // the directives
	cfg     HandlerConfig
	want    string
	// differs is what nginx does, and why; empty: the same.
	differs, why string
}{
	{"refused, by default", "GET", []string{"refuses", "200"}, "", HandlerConfig{}, "200 by 1, asked 0 1", "", ""},
	{"refused, POST", "POST", []string{"refuses", "200"}, "", HandlerConfig{}, "200 by 1, asked 0 1", "", ""},
	{"error", "GET", []string{"hangs up", "200"}, "proxy_next_upstream error;", HandlerConfig{}, "200 by 1, asked 1 1", "", ""},
	{"error, PUT", "PUT", []string{"hangs up", "200"}, "proxy_next_upstream error;", HandlerConfig{}, "200 by 1, asked 1 1", "", ""},
	{"error, POST", "POST", []string{"hangs up", "200"}, "proxy_next_upstream error;", HandlerConfig{}, "502, asked 1 0", "", ""},
	{"error, PATCH", "PATCH", []string{"hangs up", "200"}, "proxy_next_upstream error;", HandlerConfig{}, "502, asked 1 0", "", ""},
	{"error, POST, non_idempotent", "POST", []string{"hangs up", "200"}, "proxy_next_upstream error non_idempotent;",
		HandlerConfig{Rules: Rules{RetryNonIdempotent: true}}, "200 by 1, asked 1 1", "", ""},
	{"error, a method that nobody knows", "RPC", []string{"hangs up", "200"}, "proxy_next_upstream error;", HandlerConfig{}, "502, asked 1 0",
		"200 by 1, asked 1 1", "of such a method it is not known what it does: nginx knows three that may not be repeated, and here six may"},
	{"timeout", "GET", []string{"is silent", "200"}, "proxy_next_upstream timeout; proxy_read_timeout 3s;", HandlerConfig{Timeout: 3 * time.Second}, "200 by 1, asked 1 1", "", ""},
	{"timeout, POST", "POST", []string{"is silent", "200"}, "proxy_next_upstream timeout; proxy_read_timeout 3s;", HandlerConfig{Timeout: 3 * time.Second}, "504, asked 1 0", "", ""},
	{"statuses, by default", "GET", []string{"503", "200"}, "", HandlerConfig{}, "503 by 0, asked 1 0", "", ""},
	{"http_502", "GET", []string{"502", "200"}, "proxy_next_upstream error http_502;", HandlerConfig{Rules: Rules{RetryStatuses: []int{502}}}, "200 by 1, asked 1 1", "", ""},
	{"http_503", "GET", []string{"503", "200"}, "proxy_next_upstream error http_503;", HandlerConfig{Rules: Rules{RetryStatuses: []int{503}}}, "200 by 1, asked 1 1", "", ""},
	{"http_504", "GET", []string{"504", "200"}, "proxy_next_upstream error http_504;", HandlerConfig{Rules: Rules{RetryStatuses: []int{504}}}, "200 by 1, asked 1 1", "", ""},
	{"http_404", "GET", []string{"404", "200"}, "proxy_next_upstream error http_404;", HandlerConfig{Rules: Rules{RetryStatuses: []int{404}}}, "200 by 1, asked 1 1", "", ""},
	{"another status", "GET", []string{"500", "200"}, "proxy_next_upstream error http_503;", HandlerConfig{Rules: Rules{RetryStatuses: []int{503}}}, "500 by 0, asked 1 0", "", ""},
	{"http_503, POST", "POST", []string{"503", "200"}, "proxy_next_upstream error http_503;", HandlerConfig{Rules: Rules{RetryStatuses: []int{503}}}, "503 by 0, asked 1 0", "", ""},
	{"http_503, POST, non_idempotent", "POST", []string{"503", "200"}, "proxy_next_upstream error http_503 non_idempotent;",
		HandlerConfig{Rules: Rules{RetryStatuses: []int{503}, RetryNonIdempotent: true}}, "200 by 1, asked 1 1", "", ""},
	{"http_503, all of them", "GET", []string{"503", "503"}, "proxy_next_upstream error http_503;", HandlerConfig{Rules: Rules{RetryStatuses: []int{503}}}, "503 by 1, asked 1 1", "", ""},
	{"off", "GET", []string{"hangs up", "200"}, "proxy_next_upstream off;", HandlerConfig{Tries: 1}, "502, asked 1 0", "", ""},
	{"tries", "GET", []string{"503", "503", "200"}, "proxy_next_upstream error http_503; proxy_next_upstream_tries 2;",
		HandlerConfig{Rules: Rules{RetryStatuses: []int{503}}, Tries: 2}, "503 by 1, asked 1 1 0", "", ""},
}

// troubled returns backends that do as what says, and a function that tells of an answer whose it
// is and how often each has been asked.
func troubled(t *testing.T, what []string) ([]Backend, func(answer string) string) {
	asked := make([]atomic.Int32, len(what))
	var bs []Backend
	for i, w := range what {
		if w == "refuses" {
			bs = append(bs, closedBackend(t))
			continue
		}
		does := says(fmt.Sprintf("HTTP/1.1 %s X\r\nContent-Length: 4\r\n\r\nby %d", w, i))
		switch w {
		case "hangs up":
			does = says()
		case "is silent":
			does = saysAndWaits("")
		}
		bs = append(bs, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
			if _, err := r.Peek(1); err == nil {
				asked[i].Add(1)
				does(c, r)
			}
		}))
	}
	return bs, func(answer string) string {
		status, content, _ := strings.Cut(answer, "\n")
		if strings.HasPrefix(content, "by ") { // pages of our own, and nginx's, differ
			status += " " + content
		}
		status += ", asked"
		for i := range asked {
			status += fmt.Sprint(" ", asked[i].Load())
		}
		return status
	}
}

// TestRetriesBesideNginx: the same requests are tried as often, and by the same backends, as with
// nginx, but for the differences that the table gives reasons for.
func TestRetriesBesideNginx(t *testing.T) {
	for _, tt := range retryCases {
		request := tt.method + " / HTTP/1.1\r\nHost: x\r\n\r\n"
		if tt.method != "GET" {
			request = tt.method + " / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
		}
		t.Run(tt.name+"/nginx", func(t *testing.T) {
			t.Parallel() // some wait
			bs, outcome := troubled(t, tt.backend)
			address := besideNginx(t, "location / { proxy_pass http://backends; "+tt.nginx+" }", bs...)
			if got, want := outcome(askRaw(t, address, request)), cmp.Or(tt.differs, tt.want); got != want {
				t.Errorf("%q, want %q", got, want)
			}
			if (tt.differs == "") != (tt.why == "") {
				t.Error("want a reason for what differs")
			}
		})
		for _, front := range trapFronts() {
			t.Run(tt.name+"/"+front.name, func(t *testing.T) {
				t.Parallel()
				bs, outcome := troubled(t, tt.backend)
				s := front.serve(t, tt.cfg, bs...)
				if got := outcome(s.askRaw(t, request)); got != tt.want {
					t.Errorf("%q, want %q", got, tt.want)
				}
			})
		}
	}
}
