package lb

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/havip/havip/lb/internal/h1"
)

// clientOf returns a client of a trapSite, whatever that speaks.
func (s *trapSite) clientOf(t *testing.T) *http.Client {
	if s.client != nil {
		return s.client
	}
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// TestRecordOfRequest: all fronts say the same of a request, and of the backend's response.
func TestRecordOfRequest(t *testing.T) {
	for _, f := range trapFronts() {
		t.Run(f.name, func(t *testing.T) {
			records := make(chan Record, 2)
			b := webBackend(t, func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusTeapot)
				io.WriteString(w, "short")
			})
			s := f.serve(t, HandlerConfig{Record: func(r Record) { records <- r.Clone() }}, closedBackend(t), b)
			req, _ := http.NewRequestWithContext(t.Context(), "PUT", s.url+"/a%2Fb?q=\"1\"", strings.NewReader("body"))
			req.Host = "www.example.org"
			req.Header.Set("Referer", "https://www.example.org/")
			req.Header.Set("User-Agent", "curl/8")
			req.SetBasicAuth("bob", "secret")
			res, err := s.clientOf(t).Do(req)
			body(t, res, err)
			r := nextRecord(t, records)
			h := r.HTTP
			if h == nil {
				t.Fatalf("%+v: nothing of a request", r)
			}
			proto := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[f.http2]
			agent, _ := h.Header("user-agent")
			referer, _ := h.Header("Referer")
			got := fmt.Sprint(h.Method, h.Target, h.Proto, h.Line, h.Host, referer, agent, h.User(), h.Upstream, h.UpstreamStatus, h.Left, r.Status, r.Sent, r.Received)
			want := fmt.Sprint("PUT", "/a%2Fb?q=\"1\"", proto, "", "www.example.org", "https://www.example.org/", "curl/8", "bob", b.Address, 418, false, 418, 5, 4)
			if got != want {
				t.Errorf("%s, want %s", got, want)
			}
			if h.HeaderTime < r.Connect || h.HeaderTime > r.Duration {
				t.Errorf("the head came after %v, the connection after %v, the end after %v", h.HeaderTime, r.Connect, r.Duration)
			}
			if tls := strings.HasPrefix(s.url, "https:"); (h.TLS == "TLSv1.3") != tls || (h.TLS == "") == tls {
				t.Errorf("TLS %q", h.TLS)
			}
		})
	}
}

// TestRecordOfClientThatLeft: what nobody waits for has no status, and says that the client
// has left.
func TestRecordOfClientThatLeft(t *testing.T) {
	for _, f := range trapFronts() {
		if f.http2 {
			continue // a client of raw bytes
		}
		t.Run(f.name, func(t *testing.T) {
			records := make(chan Record, 1)
			asked := make(chan struct{})
			s := f.serve(t, HandlerConfig{Record: func(r Record) { records <- r.Clone() }}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
				r.ReadString('\n')
				close(asked)
				io.Copy(io.Discard, r)
			}))
			c := s.dial()
			io.WriteString(c, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
			<-asked
			reset(c)
			if r := nextRecord(t, records); r.HTTP == nil || !r.HTTP.Left || r.Status != 0 || r.HTTP.Target != "/slow" || r.HTTP.UpstreamStatus != 0 {
				t.Errorf("%+v, %+v", r, r.HTTP)
			}
		})
	}
}

func TestUserOfBasicAuthentication(t *testing.T) {
	for value, want := range map[string]string{
		"Basic Ym9iOnNlY3JldA==":   "bob", // bob:secret
		"basic   Ym9iOnNlY3JldA":   "bob",
		"Basic Ym9iOg==":           "bob", // bob:
		"Basic Ym9iOnNlY3JldA=x":   "bob",
		"Basic Ym9i":               "", // bob, without a colon
		"Basic OnNlY3JldA==":       "", // :secret
		"Basic Ym9iOnNlY3JldA!":    "",
		"Basic ":                   "",
		"Bearer Ym9iOnNlY3JldA==":  "",
		"Basic YiJvXGI6c2VjcmV0":   `b"o\b`,
		"Basic Ym9iOnNlY3JldDp4eA": "bob", // bob:secret:xx
	} {
		r := RequestRecord{fields: []h1.Field{{Name: "authorization", Value: value}}}
		if got := r.User(); got != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
		if got := string(r.appendUser(make([]byte, 3, 100))[3:]); got != want {
			t.Errorf("%q: %q behind other bytes, want %q", value, got, want)
		}
		if spare := r.appendUser(make([]byte, 0, 100)); strings.Contains(string(spare[:cap(spare)]), "secret") {
			t.Errorf("%q: the password stays in memory", value)
		}
	}
}

// TestCloneOfRecordStays: nothing of a clone is in the request's memory.
func TestCloneOfRecordStays(t *testing.T) {
	memory := []byte("GET /a HTTP/1.1\r\nHost: x\r\nReferer: y\r\n\r\n")
	req := new(h1.Request)
	if _, err := req.Parse(memory, h1.Limits{}); err != nil {
		t.Fatal(err)
	}
	var kept Record
	x := testExchange(t, HandlerConfig{Record: func(r Record) { kept = r.Clone() }}, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	x.req = req
	x.refusal()
	x.close(x.record.Start)
	copy(memory, bytes.Repeat([]byte("#"), len(memory)))
	referer, _ := kept.HTTP.Header("Referer")
	if got := kept.HTTP.Method + kept.HTTP.Target + kept.HTTP.Host + referer; got != "GET/axy" {
		t.Errorf("%q", got)
	}
}

// TestLogRecordsTellsOfRequests: the line has what tells a request from others, although the
// log writes the line after the request.
func TestLogRecordsTellsOfRequests(t *testing.T) {
	var out bytes.Buffer
	record, flush := LogRecords(slog.New(slog.NewTextHandler(&out, nil)))
	target := []byte("/a\nb")
	record(Record{Service: "web", Status: 200, HTTP: &RequestRecord{Method: "GET", Target: bytesText(target), Host: "x", Route: "api"}})
	copy(target, "####")
	flush()
	if got, want := out.String(), `status=200 method=GET target="/a\nb" host=x route=api`+"\n"; !strings.HasSuffix(got, want) {
		t.Errorf("%q, want %q at the end", got, want)
	}
}

// TestHeadSendsNoContent: of an answer to HEAD that is made here, nothing counts as sent, whoever
// makes it.
func TestHeadSendsNoContent(t *testing.T) {
	for _, front := range trapFronts() {
		for name, cfg := range map[string]HandlerConfig{
			"an answer": {Rules: Rules{Answer: Answer{Status: 200, Content: "content"}}},
			"a page":    {Rules: Rules{Maintenance: true, MaintenancePage: &Page{Content: []byte("content")}}},
			"an ErrorHandler's": {Rules: Rules{Maintenance: true}, ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
				http.Error(w, "content", http.StatusServiceUnavailable)
			}},
		} {
			records := make(chan Record, 2)
			cfg.Record = func(r Record) { records <- r }
			s := front.serve(t, cfg)
			for method, sends := range map[string]bool{"HEAD": false, "GET": true} {
				s.askRaw(t, method+" / HTTP/1.1\r\nHost: x\r\n\r\n")
				if r := <-records; (r.Sent >= int64(len("content"))) != sends || !sends && r.Sent != 0 {
					t.Errorf("%s, %s by %s: %d bytes sent", front.name, name, method, r.Sent)
				}
			}
		}
	}
}
