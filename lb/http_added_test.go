package lb

import (
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/havip/havip/lb/internal/h1"
)

// heardBackend returns a backend that answers with header, and what it gets.
func heardBackend(t *testing.T, header http.Header) (Backend, chan http.Header) {
	heard := make(chan http.Header, 1)
	return webBackend(t, func(w http.ResponseWriter, r *http.Request) {
		for name, values := range header {
			w.Header()[name] = values
		}
		heard <- r.Header
	}), heard
}

// TestAddedHeaders: on every way, headers are added beside those that are there.
func TestAddedHeaders(t *testing.T) {
	var cfg HandlerConfig
	cfg.AddRequestHeaders = http.Header{"X-Tag": {"${method}", "", "second"}, "X-None": {"${arg_none}"}, "X-New": {"1"}}
	cfg.AddResponseHeaders = http.Header{"Set-Cookie": {"lb=${arg_a}", "none", "${arg_none}", "c=${method}"}, "Link": {"</x>; rel=preload"}}
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			b, heard := heardBackend(t, http.Header{"Set-Cookie": {"a=1", "b=2"}})
			s := front.serve(t, cfg, b)
			res, _ := s.send(t, request{target: "/?a=7", fields: []string{"X-Tag", "mine", "X-None", "kept"}})
			got := <-heard
			if fmt.Sprint(got["X-Tag"], got["X-None"], got["X-New"]) != "[mine GET second] [kept] [1]" {
				t.Errorf("the backend got %v", got)
			}
			if h := res.Header; fmt.Sprint(h["Set-Cookie"], h["Link"]) != "[a=1 b=2 lb=7 none c=GET] [</x>; rel=preload]" {
				t.Errorf("the client got %v", h)
			}
		})
	}
}

// replyRules are rules by which answers are made here, and the status of those.
var replyRules = map[string]struct {
	cfg    HandlerConfig
	nginx  string // a location
	status int
}{
	"maintenance":   {HandlerConfig{Rules: Rules{Maintenance: true}}, "return 503;", 503},
	"access denied": {HandlerConfig{Rules: Rules{Access: []AccessRule{{Deny: true}}}}, "deny all;", 403},
	"no backend":    {HandlerConfig{}, "proxy_pass http://127.0.0.1:1;", 502},
}

// TestHeadersOfReplies: answers that are made here have the headers of responses, as those of
// nginx with add_header and always.
func TestHeadersOfReplies(t *testing.T) {
	for name, tt := range replyRules {
		cfg := tt.cfg
		cfg.ResponseHeaders = map[string]string{"X-Set": "${method} ${host}", "X-Backend": "${backend}", "Server": "", "Content-Type": "text/x"}
		cfg.AddResponseHeaders = http.Header{"Link": {"</${arg_a}>"}, "Set-Cookie": {"a=b", "c=d"}}
		for _, front := range trapFronts() {
			t.Run(name+"/"+front.name, func(t *testing.T) {
				s := front.serve(t, cfg, closedBackend(t))
				res, _ := s.send(t, request{target: "/?a=7"})
				h := res.Header
				if got := fmt.Sprint(res.StatusCode, h["X-Set"], h["X-Backend"], h["Content-Type"], h["Link"], h["Set-Cookie"]); got != fmt.Sprint(tt.status, " [GET web.test] [] [text/x] [</7>] [a=b c=d]") {
					t.Error(got)
				}
				if len(h["Date"]) != 1 || len(h["Content-Length"]) != 1 {
					t.Errorf("%v", h)
				}
			})
		}
	}
}

// TestVia: a message says by which version it has come here, behind what it says already.
func TestVia(t *testing.T) {
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			version := "1.1"
			if front.http2 {
				version = "2.0"
			}
			b, heard := heardBackend(t, http.Header{"Via": {"1.0 app"}})
			s := front.serve(t, HandlerConfig{Rules: Rules{Via: "lb"}}, b)
			res, _ := s.send(t, request{target: "/", fields: []string{"Via", "1.1 a, 1.1 b"}})
			if got := strings.Join((<-heard)["Via"], ", "); got != "1.1 a, 1.1 b, "+version+" lb" {
				t.Errorf("the backend got %q", got)
			}
			if got := strings.Join(res.Header["Via"], ", "); got != "1.0 app, 1.1 lb" {
				t.Errorf("the client got %q", got)
			}
			cut := front.serve(t, HandlerConfig{Rules: Rules{Via: "lb", Maintenance: true}})
			if res, _ := cut.send(t, request{target: "/"}); res.StatusCode != 503 || res.Header["Via"] != nil {
				t.Errorf("an answer made here: %d, Via %q", res.StatusCode, res.Header["Via"])
			}
		})
	}
	x := testExchange(t, HandlerConfig{Rules: Rules{Via: "lb"}}, "GET / HTTP/1.0\r\n\r\n")
	if x.prepare(); !strings.Contains(string(x.appendRequest(nil, false, false)), "\r\nVia: 1.0 lb\r\n") {
		t.Errorf("HTTP/1.0: %q", x.appendRequest(nil, false, false))
	}
	got := x.responseFields(parsedResponse(t, "GET", "HTTP/1.0 200 OK\r\n\r\n"), netip.Addr{})
	if i := slices.IndexFunc(got, func(f h1.Field) bool { return f.Name == "Via" }); i < 0 || got[i].Value != "1.0 lb" {
		t.Errorf("response of HTTP/1.0: %v", got)
	}
}

var madeIDs = regexp.MustCompile("^[0-9a-f]{32}$")

// TestRequestID: backend, client, variables and the record have the same X-Request-ID, and a
// client can make nothing else of it than an ID.
func TestRequestID(t *testing.T) {
	const valid, made = "Root=1-67891233:abcdef/012+_.~@", ""
	for _, tt := range []struct {
		name string
		mode RequestID
		sent []string
		want string
	}{
		{"kept", RequestIDKeep, []string{valid}, valid},
		{"none to keep", RequestIDKeep, nil, made},
		{"as long as may be", RequestIDKeep, []string{strings.Repeat("a", maxRequestID)}, strings.Repeat("a", maxRequestID)},
		{"too long", RequestIDKeep, []string{strings.Repeat("a", maxRequestID+1)}, made},
		{"empty", RequestIDKeep, []string{""}, made},
		{"twice", RequestIDKeep, []string{"a", "a"}, made},
		{"a list", RequestIDKeep, []string{"a, b"}, made},
		{"a space", RequestIDKeep, []string{"a b"}, made},
		{"a tab", RequestIDKeep, []string{"a\tb"}, made},
		{"quotes", RequestIDKeep, []string{`a"b`}, made},
		{"braces", RequestIDKeep, []string{"{a}"}, made},
		{"a tag", RequestIDKeep, []string{"<b>"}, made},
		{"a byte of UTF-8", RequestIDKeep, []string{"\xc3\xa4"}, made},
		{"made", RequestIDMake, []string{valid}, made},
		{"made in any case", RequestIDMake, nil, made},
	} {
		for _, front := range trapFronts() {
			t.Run(tt.name+"/"+front.name, func(t *testing.T) {
				records := make(chan Record, 1)
				b, heard := heardBackend(t, http.Header{"X-Request-Id": {"backend"}})
				cfg := HandlerConfig{RequestHeaders: map[string]string{"X-Same": "${request_id}"}, Record: func(r Record) { records <- r.Clone() }}
				cfg.RequestID = tt.mode
				s := front.serve(t, cfg, b)
				r := request{target: "/"}
				for _, id := range tt.sent {
					r.fields = append(r.fields, "X-Request-Id", id)
				}
				res, _ := s.send(t, r)
				got := <-heard
				id := got.Get("X-Request-Id")
				if tt.want != made && id != tt.want || tt.want == made && !madeIDs.MatchString(id) {
					t.Errorf("%q, want %q", id, tt.want)
				}
				ids := []string{strings.Join(got["X-Request-Id"], ","), strings.Join(res.Header["X-Request-Id"], ","), got.Get("X-Same"), (<-records).HTTP.RequestID}
				if len(slices.Compact(ids)) != 1 {
					t.Errorf("not the same everywhere: %q", ids)
				}
			})
		}
	}
}

// TestRequestIDsDiffer: no two requests of a connection have the same, those that are answered
// here do have one, and without the rule each side's passes.
func TestRequestIDsDiffer(t *testing.T) {
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			s := front.serve(t, HandlerConfig{Rules: Rules{RequestID: RequestIDKeep, Maintenance: true}})
			seen := make(map[string]bool)
			for range 5 {
				res, _ := s.send(t, request{target: "/"})
				id := res.Header.Get("X-Request-Id")
				if seen[id] || !madeIDs.MatchString(id) {
					t.Errorf("%q after %v", id, seen)
				}
				seen[id] = true
			}
			b, heard := heardBackend(t, http.Header{"X-Request-Id": {"backend"}})
			off := front.serve(t, HandlerConfig{}, b)
			res, _ := off.send(t, request{target: "/", fields: []string{"X-Request-Id", "a b"}})
			if got := <-heard; got.Get("X-Request-Id") != "a b" || res.Header.Get("X-Request-Id") != "backend" {
				t.Errorf("off: backend %q, client %q", got["X-Request-Id"], res.Header["X-Request-Id"])
			}
		})
	}
}

// TestRequestIDByAnotherName: a name that programs behind CGI take for X-Request-ID is dropped.
func TestRequestIDByAnotherName(t *testing.T) {
	x := testExchange(t, HandlerConfig{Underscores: UnderscoresPass, Rules: Rules{RequestID: RequestIDKeep}},
		"GET / HTTP/1.1\r\nHost: x\r\nX_Request_ID: evil\r\nx.request.id: evil\r\n\r\n")
	if x.prepare(); strings.Contains(string(x.appendRequest(nil, false, false)), "evil") {
		t.Errorf("%q", x.appendRequest(nil, false, false))
	}
}

// TestTraceContext: what a tracer says (W3C Trace Context) passes untouched, whatever is set.
func TestTraceContext(t *testing.T) {
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	states := []string{"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "vendor@x=a b;c:1"}
	var cfg HandlerConfig
	cfg.RequestID, cfg.Via, cfg.Forwarded = RequestIDMake, "lb", true
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			b, heard := heardBackend(t, http.Header{"Traceresponse": {parent}})
			s := front.serve(t, cfg, b)
			res, _ := s.send(t, request{target: "/", fields: []string{"Traceparent", parent, "Tracestate", states[0], "Tracestate", states[1]}})
			if got := <-heard; got.Get("Traceparent") != parent || !slices.Equal(got["Tracestate"], states) {
				t.Errorf("the backend got %q %q", got["Traceparent"], got["Tracestate"])
			}
			if res.Header.Get("Traceresponse") != parent {
				t.Errorf("the client got %v", res.Header)
			}
		})
	}
}
