package lb

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// A TRACE or OPTIONS goes over as many servers as its Max-Forwards says (RFC 9110 §7.6.2).
func TestMaxForwards(t *testing.T) {
	rec, b := record(t)
	s, h := front(t, HandlerConfig{}, b)
	for _, tt := range []struct {
		method, field string
		status        int
		want          string // the field as the backend gets it; empty: there is no request, or no field
		reached       bool
	}{
		{"OPTIONS", "", 200, "", true},
		{"OPTIONS", "Max-Forwards: 0\r\n", 200, "", false},
		{"OPTIONS", "Max-Forwards: 000\r\n", 200, "", false},
		{"OPTIONS", "Max-Forwards: 1\r\n", 200, "0", true},
		{"TRACE", "Max-Forwards: 0\r\n", 200, "", false},
		{"TRACE", "max-forwards: 10\r\n", 200, "9", true},
		{"TRACE", "Max-Forwards: 99999999999999999999\r\n", 200, "18446744073709551614", true},
		{"TRACE", "Max-Forwards: -1\r\n", 400, "", false},
		{"TRACE", "Max-Forwards: 1_0\r\n", 400, "", false},
		{"OPTIONS", "Max-Forwards:\r\n", 400, "", false},
		{"OPTIONS", "Max-Forwards: 1\r\nMax-Forwards: 1\r\n", 400, "", false},
		// For others the field means nothing.
		{"GET", "Max-Forwards: 0\r\n", 200, "0", true},
		{"options", "Max-Forwards: 0\r\n", 200, "0", true},
	} {
		if got := rawStatus(t, s, tt.method+" / HTTP/1.1\r\nHost: x\r\n"+tt.field+"\r\n"); got != tt.status {
			t.Errorf("%s %q: %d, want %d", tt.method, tt.field, got, tt.status)
		}
		requests, got := rec.Requests(), ""
		for _, r := range requests {
			req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(r)))
			if err != nil {
				t.Fatal(err)
			}
			got = strings.Join(req.Header["Max-Forwards"], "|")
		}
		if got != tt.want || (len(requests) == 1) != tt.reached {
			t.Errorf("%s %q: the backend got %q", tt.method, tt.field, requests)
		}
	}
	if st := h.Stats(); st.Failed != 0 || st.Refused != 4 {
		t.Errorf("%d failures, %d refused, want 4 refused", st.Failed, st.Refused)
	}
}

// What answers a TRACE in a backend's place shows the request, but no secrets: a script may
// have caused it, which must not see those of the browser (RFC 9110 §9.3.8).
func TestTraceHasNoSecrets(t *testing.T) {
	s, _ := front(t, HandlerConfig{}, closedBackend(t))
	c := newReader(t, s.Listener.Addr().String())
	io.WriteString(c, "TRACE /a|b?c HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\nAuthorization: secret\r\nCookie: secret\r\nProxy-Authorization: secret\r\nX-A: 1\r\n\r\n")
	for range 2 { // the connection can be used further
		res, err := http.ReadResponse(c.r, nil)
		want := "TRACE /a|b?c HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\nX-A: 1\r\n\r\n"
		if got := body(t, res, err); got != want || fmt.Sprint(res.StatusCode, res.Header["Content-Type"]) != "200 [message/http]" {
			t.Errorf("%d %v %q", res.StatusCode, res.Header, got)
		}
		io.WriteString(c, "TRACE /a|b?c HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\nX-A: 1\r\n\r\n")
	}
}

// TestMaxForwardsBehindRules: a request that may go no further is answered to those alone who
// could have had it passed on.
func TestMaxForwardsBehindRules(t *testing.T) {
	routed := func(path string, r Rules) Route {
		return Route{Name: path, Paths: []string{path}, HandlerConfig: HandlerConfig{Rules: r}}
	}
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			rec, b := record(t)
			open := routed("/open", Rules{})
			open.Pool = newPool(t, PoolConfig{Backends: []Backend{b}})
			s := front.serve(t, HandlerConfig{Rules: Rules{Access: []AccessRule{{Deny: true}}}, Routes: []Route{
				open,
				routed("/auth", Rules{Access: []AccessRule{{}}, Auth: &BasicAuth{Users: users(t, htpasswdText())}}),
				routed("/maintenance", Rules{Access: []AccessRule{{}}, Maintenance: true}),
				routed("/redirect", Rules{Access: []AccessRule{{}}, Redirect: Redirect{Location: "/"}}),
				routed("/answer", Rules{Access: []AccessRule{{}}, Answer: Answer{Status: 202}}),
				routed("/all", Rules{Access: []AccessRule{{}}}),
			}}, b)
			for _, method := range []string{"OPTIONS", "TRACE"} {
				for _, c := range []struct{ path, authorization, want string }{
					{"/denied", "", "403"}, {"/open", "", "403"}, {"/auth", "", "401"}, {"/auth", basic("sha", "no"), "401"}, {"/auth", basic("sha", "secret"), "200"},
					{"/maintenance", "", "503"}, {"/redirect", "", "302"}, {"/answer", "", "202"}, {"/all", "", "200"},
				} {
					request := method + strings.TrimPrefix(asked(c.path, c.authorization), "GET")
					request = strings.TrimSuffix(request, "\r\n") + "Max-Forwards: 0\r\nX-Token: of a proxy\r\n\r\n"
					got := s.askRaw(t, request)
					if statusOf(got) != c.want || strings.Contains(got, "of a proxy") != (method == "TRACE" && c.want == "200") {
						t.Errorf("%s %s: %q, want %s", method, c.path, got, c.want)
					}
				}
			}
			if got := rec.Requests(); len(got) > 0 {
				t.Errorf("a backend got %q", got)
			}
		})
	}
}
