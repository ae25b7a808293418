package lb

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/havip/havip/lb/internal/h1"
)

// aMoment is when the records of these tests end.
var aMoment = time.Date(2026, 11, 28, 10, 54, 40, 5e6, time.FixedZone("", -5400))

// aRecord is one of a usual request.
func aRecord() Record {
	return Record{
		Service: "web", Client: netip.MustParseAddrPort("192.0.2.1:1234"), Backend: "app", Duration: 1500 * time.Millisecond,
		Connect: 50 * time.Microsecond, Received: 3, Sent: 612, Retries: 1, Status: 200,
		HTTP: &RequestRecord{Method: "GET", Target: "/a?b=1", Proto: "HTTP/1.1", Host: "www.example.org", Route: "api", RequestID: "f00",
			Upstream: "192.0.2.3:80", UpstreamStatus: 200, HeaderTime: 2 * time.Millisecond, TLS: "TLSv1.3",
			fields: []h1.Field{{Name: "Referer", Value: "https://x/"}, {Name: "User-Agent", Value: "curl/8"}, {Name: "Authorization", Value: "Basic Ym9iOnNlY3JldA=="}}},
	}
}

func TestAccessLogLines(t *testing.T) {
	for name, tt := range map[string]struct {
		change         func(*Record)
		combined, json string
	}{
		"a usual request": {func(r *Record) {},
			`192.0.2.1 - bob [28/Nov/2026:10:54:40 -0130] "GET /a?b=1 HTTP/1.1" 200 612 "https://x/" "curl/8"`,
			`{"time":"2026-11-28T10:54:40.005-01:30","service":"web","client":"192.0.2.1:1234","method":"GET","target":"/a?b=1","proto":"HTTP/1.1","host":"www.example.org","status":200,` +
				`"route":"api","request_id":"f00","referer":"https://x/","user_agent":"curl/8","user":"bob","tls":"TLSv1.3","received":3,"sent":612,"duration":1.500000,"connect":0.000050,` +
				`"backend":"app","upstream":"192.0.2.3:80","upstream_status":200,"header":0.002000,"retries":1}`},
		"a request by way of a proxy": {func(r *Record) {
			*r = Record{Service: "web", Pool: "web/api", Client: netip.AddrPortFrom(netip.MustParseAddr("2001:db8::1"), 0), Peer: netip.MustParseAddrPort("[2001:db8::2]:443"), Status: 200,
				HTTP: &RequestRecord{Method: "GET", Target: "/", Proto: "HTTP/1.1", fields: []h1.Field{{Name: "x-forwarded-for", Value: "\"\n"}, {Name: "X-Forwarded-For", Value: "2001:db8::1"}}}}
		},
			`2001:db8::1 - - [28/Nov/2026:10:54:40 -0130] "GET / HTTP/1.1" 200 0 "-" "-"`,
			`{"time":"2026-11-28T10:54:40.005-01:30","service":"web","pool":"web/api","client":"2001:db8::1","peer":"[2001:db8::2]:443","method":"GET","target":"/","proto":"HTTP/1.1","status":200,` +
				`"x_forwarded_for":"\"\u000a, 2001:db8::1","received":0,"sent":0,"duration":0.000000,"connect":0.000000,"retries":0}`},
		"nothing but a method": {func(r *Record) {
			*r = Record{Status: 404, HTTP: &RequestRecord{Method: "GET", Target: "/", Proto: "HTTP/1.0"}}
		},
			`- - - [28/Nov/2026:10:54:40 -0130] "GET / HTTP/1.0" 404 0 "-" "-"`,
			`{"time":"2026-11-28T10:54:40.005-01:30","service":"","client":"","method":"GET","target":"/","proto":"HTTP/1.0","status":404,"received":0,"sent":0,"duration":0.000000,"connect":0.000000,"retries":0}`},
		"empty fields are not those that are missing": {func(r *Record) {
			*r = Record{Client: netip.MustParseAddrPort("[fe80::1%eth0]:1"), Status: 200, HTTP: &RequestRecord{Method: "GET", Target: "/", Proto: "HTTP/1.1",
				fields: []h1.Field{{Name: "referer"}, {Name: "USER-AGENT"}}}}
		},
			`fe80::1 - - [28/Nov/2026:10:54:40 -0130] "GET / HTTP/1.1" 200 0 "" ""`,
			`{"time":"2026-11-28T10:54:40.005-01:30","service":"","client":"[fe80::1%eth0]:1","method":"GET","target":"/","proto":"HTTP/1.1","status":200,"received":0,"sent":0,"duration":0.000000,"connect":0.000000,"retries":0}`},
		"what was no request": {func(r *Record) {
			*r = Record{Status: 400, Reason: "TLS on a port without TLS", HTTP: &RequestRecord{Line: "\x16\x03\x01\"\\"}}
		},
			`- - - [28/Nov/2026:10:54:40 -0130] "\x16\x03\x01\x22\x5C" 400 0 "-" "-"`,
			`{"time":"2026-11-28T10:54:40.005-01:30","service":"","client":"","line":"\u0016\u0003\u0001\"\\","status":400,"received":0,"sent":0,"duration":0.000000,"connect":0.000000,"retries":0,"reason":"TLS on a port without TLS"}`},
		"a client that has left": {func(r *Record) {
			*r = Record{Reason: "client has left", HTTP: &RequestRecord{Method: "GET", Target: "/", Proto: "HTTP/2.0", Left: true}}
		},
			`- - - [28/Nov/2026:10:54:40 -0130] "GET / HTTP/2.0" 499 0 "-" "-"`,
			`{"time":"2026-11-28T10:54:40.005-01:30","service":"","client":"","method":"GET","target":"/","proto":"HTTP/2.0","status":499,"received":0,"sent":0,"duration":0.000000,"connect":0.000000,"retries":0,"reason":"client has left"}`},
		"a connection": {func(r *Record) { *r = Record{Service: "db", Backend: "b", Sent: 5, Reason: "reset"} },
			`- - - [28/Nov/2026:10:54:40 -0130] "-" 000 5 "-" "-"`,
			`{"time":"2026-11-28T10:54:40.005-01:30","service":"db","client":"","received":0,"sent":5,"duration":0.000000,"connect":0.000000,"backend":"b","retries":0,"reason":"reset"}`},
		"bytes that are no text": {func(r *Record) {
			*r = Record{Status: 200, HTTP: &RequestRecord{Method: "GET", Target: "/\xe9\u00e9\u2028\x7f\u0085", Proto: "HTTP/1.1"}}
		},
			`- - - [28/Nov/2026:10:54:40 -0130] "GET /\xE9\xC3\xA9\xE2\x80\xA8\x7F\xC2\x85 HTTP/1.1" 200 0 "-" "-"`,
			`{"time":"2026-11-28T10:54:40.005-01:30","service":"","client":"","method":"GET","target":"/\ufffdé\u2028\u007f\u0085","proto":"HTTP/1.1","status":200,"received":0,"sent":0,"duration":0.000000,"connect":0.000000,"retries":0}`},
	} {
		r := aRecord()
		tt.change(&r)
		if got := string(appendCombinedLine(nil, aMoment, &r)); got != tt.combined+"\n" {
			t.Errorf("%s:\n%s, want\n%s", name, got, tt.combined)
		}
		if got := string(appendJSONLine(nil, aMoment, &r)); got != tt.json+"\n" {
			t.Errorf("%s:\n%s, want\n%s", name, got, tt.json)
		}
	}
}

// checkCombined reports what a reader of a combined line could take for something else.
func checkCombined(line []byte, target, referer, agent string) error {
	parts := strings.Split(string(line), `"`)
	switch {
	case bytes.Count(line, []byte("\n")) != 1 || line[len(line)-1] != '\n':
		return fmt.Errorf("not one line")
	case len(parts) != 7 || parts[2] != " 200 612 " || parts[4] != " " || parts[6] != "\n":
		return fmt.Errorf("not the parts of a line")
	}
	for i, want := range map[int]string{1: "GET " + target + " HTTP/1.1", 3: referer, 5: agent} {
		clear, err := strconv.Unquote(`"` + parts[i] + `"`)
		if err != nil || clear != want {
			return fmt.Errorf("part %d: %q, %v, want %q", i, clear, err, want)
		}
	}
	return nil
}

// checkJSON is checkCombined of a line of JSON.
func checkJSON(line []byte, target, referer, agent string) error {
	if bytes.Count(line, []byte("\n")) != 1 || line[len(line)-1] != '\n' || !utf8.Valid(line) {
		return fmt.Errorf("not one line of text")
	}
	var got struct {
		Target, Referer string
		Agent           string `json:"user_agent"`
		Status          int
	}
	if err := json.Unmarshal(line, &got); err != nil {
		return err
	}
	// encoding/json makes one U+FFFD of each byte that is none, as we do.
	want := func(s string) string { return string([]rune(s)) }
	if got.Target != want(target) || got.Referer != want(referer) || got.Agent != want(agent) || got.Status != 200 {
		return fmt.Errorf("%+v", got)
	}
	return nil
}

// FuzzAccessLog: whatever a client sends makes one line, of which each part is what the client
// has sent.
func FuzzAccessLog(f *testing.F) {
	f.Add("/", "https://x/", "curl/8")
	f.Add("/\" 200 1 \"-\" \"-\"\n192.0.2.9 - - [", "\"", "\\\"")                // a line in a line
	f.Add(`/","status":500,"x":"`, "\\", "\\x22\x00\r\n")                        // a member in a member
	f.Add("/\xff\xc3\xa9\xed\xa0\x80", "\u2028\u2029\u0085\x7f", "\xf0\x9f\x98") // no UTF-8, half a rune, ends of lines
	f.Fuzz(func(t *testing.T, target, referer, agent string) {
		r := aRecord()
		r.HTTP.Target = target
		r.HTTP.fields = []h1.Field{{Name: "Referer", Value: referer}, {Name: "User-Agent", Value: agent}}
		if line := appendCombinedLine(nil, aMoment, &r); checkCombined(line, target, referer, agent) != nil {
			t.Errorf("%q: %v", line, checkCombined(line, target, referer, agent))
		}
		if line := appendJSONLine(nil, aMoment, &r); checkJSON(line, target, referer, agent) != nil {
			t.Errorf("%q: %v", line, checkJSON(line, target, referer, agent))
		}
	})
}

// TestAccessLogSamples: of what is in order each third has a line, of what has failed
// everything.
func TestAccessLogSamples(t *testing.T) {
	var out bytes.Buffer
	l, err := NewAccessLog(AccessLogConfig{Writer: &out, Sample: 3})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 9 {
		for kind, change := range map[string]func(*Record){
			"fine":       func(r *Record) {},
			"failed":     func(r *Record) { r.Status = 502 },
			"broken off": func(r *Record) { r.Reason = "backend broke off" },
			"left":       func(r *Record) { r.Status, r.HTTP.Left = 0, true },
			"garbage":    func(r *Record) { r.Status, r.HTTP.Line, r.HTTP.Method = 400, r.HTTP.Target, "" },
		} {
			r := aRecord()
			r.HTTP.Target = fmt.Sprintf("/%s/%d", kind, i)
			change(&r)
			l.Record(r)
		}
	}
	denied := aRecord()
	denied.Status, denied.Reason, denied.HTTP.Target = 429, "too many requests", "/denied"
	l.Record(denied)
	l.Record(denied)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[string]int{"/fine/": 3, "/failed/": 9, "/broken off/": 9, "/left/": 9, "/garbage/": 9, "/denied": 1} {
		if got := strings.Count(out.String(), kind); got != want {
			t.Errorf("%s: %d lines, want %d", kind, got, want)
		}
	}
}

// TestAccessLogDoesNotAllocate: a line costs no memory beyond what the log keeps.
func TestAccessLogDoesNotAllocate(t *testing.T) {
	for _, format := range []AccessFormat{AccessCombined, AccessJSON} {
		l, err := NewAccessLog(AccessLogConfig{Writer: io.Discard, Format: format})
		if err != nil {
			t.Fatal(err)
		}
		r := aRecord()
		for range 100 {
			l.Record(r)
		}
		if got := testing.AllocsPerRun(1000, func() { l.Record(r) }); got > 0 {
			t.Errorf("%v: %v allocations a line", format, got)
		}
		l.Close()
	}
}

// BenchmarkAccessLog measures what a line costs the request.
func BenchmarkAccessLog(b *testing.B) {
	for _, format := range []AccessFormat{AccessCombined, AccessJSON} {
		b.Run(format.String(), func(b *testing.B) {
			l, err := NewAccessLog(AccessLogConfig{Writer: io.Discard, Format: format, Buffer: 64 << 20})
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			r := aRecord()
			b.ReportAllocs()
			for b.Loop() {
				l.Record(r)
			}
			b.StopTimer()
			if n := l.Lost(); n > 0 {
				b.Errorf("%d lines lost", n)
			}
		})
	}
}
