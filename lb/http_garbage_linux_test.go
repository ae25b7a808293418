package lb

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// TestGarbageHasARecord: whatever comes on a port that is no request leaves a record with what
// came, the status that nginx logs, and why in words.
func TestGarbageHasARecord(t *testing.T) {
	const hello = "\x16\x03\x01\x02\x00\x01\x00\x01"
	for title, tt := range map[string]struct {
		says         string
		leaves, tls  bool // tls: on a port with TLS
		status       int
		line, reason string
	}{
		"no request line":              {"nonsense\r\n\r\n", false, false, 400, "nonsense", "method is not a token"},
		"a bad field":                  {"GET / HTTP/1.1\r\nHost: x\r\nA B: c\r\n\r\n", false, false, 400, "GET / HTTP/1.1", "line 3: white space"},
		"another version":              {"GET / HTTP/3.0\r\n\r\n", false, false, 505, "GET / HTTP/3.0", "version"},
		"a quote and a control byte":   {"GET /\"\x01 HTTP/1.1 x\r\n\r\n", false, false, 400, "GET /\"\x01 HTTP/1.1 x", "line 1"},
		"half a head, and no more":     {"\r\nGET / HT", false, false, 408, "GET / HT", "did not come in time"},
		"half a head, and an end":      {"GET / HTTP/1.1\r\nHost:", true, false, 400, "GET / HTTP/1.1", "client left"},
		"half a preface, and an end":   {"PRI * HTTP/2.0\r\n\r\nS", true, false, 400, "PRI * HTTP/2.0", "bad preface of HTTP/2"},
		"a bad preface":                {"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", false, false, 505, "PRI * HTTP/2.0", "bad preface of HTTP/2"},
		"TLS on a port without":        {hello, false, false, 400, hello, "TLS on a port without TLS"},
		"HTTP on a port with TLS":      {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", false, true, 400, "GET /", "HTTP on a port with TLS"},
		"garbage on a port with TLS":   {"\x00\x01\x02\x03\x04\x05", false, true, 0, "\x00\x01\x02\x03\x04", "TLS handshake"},
		"half a hello, and an end":     {hello, true, true, 0, "", "TLS handshake"},
		"half a hello, and no more":    {hello, false, true, 0, "", "TLS handshake"},
		"nothing, and an end":          {"", true, false, 0, "", ""},
		"empty lines, and an end":      {"\r\n\r\n", true, false, 0, "", ""},
		"nothing with TLS, and an end": {"", true, true, 0, "", ""},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			records := make(chan Record, 4)
			cfg := HTTPConfig{HandlerConfig: HandlerConfig{Record: func(r Record) { records <- r.Clone() }}, HeaderTimeout: 300 * time.Millisecond}
			var address string
			var p *HTTP
			if tt.tls {
				address, _, p = secureEngine(t, cfg, webBackend(t, name("a")))
			} else {
				cfg.Pool = newPool(t, PoolConfig{Name: "web", Backends: []Backend{webBackend(t, name("a"))}})
				var err error
				if p, err = NewHTTP(cfg); err != nil {
					t.Fatal(err)
				}
				ln := listenTest(t)
				serveHTTP(t, p, ln)
				address = ln.Addr().String()
			}
			c := dialTest(t, address)
			io.WriteString(c, tt.says)
			if tt.leaves {
				c.CloseWrite()
			}
			_, _ = io.Copy(io.Discard, c)
			if tt.reason == "" {
				waitFor(t, "the connection to end", func() bool { return p.gate.counters.active.Load() == 0 })
				select {
				case r := <-records:
					t.Errorf("a record of nothing: %+v, %+v", r, r.HTTP)
				default:
				}
				return
			}
			r := nextRecord(t, records)
			if r.HTTP == nil || r.Status != tt.status || r.HTTP.Line != tt.line || r.HTTP.Method != "" || !strings.Contains(r.Reason, tt.reason) {
				t.Errorf("%+v, %+v", r, r.HTTP)
			}
			if r.Client != c.LocalAddr().(*net.TCPAddr).AddrPort() {
				t.Errorf("of %v", r.Client)
			}
		})
	}
}

// TestEveryGarbageHasALine: the access log has all of it, while the log of the program has next
// to nothing.
func TestEveryGarbageHasALine(t *testing.T) {
	var out bytes.Buffer
	l := openAccessLog(t, AccessLogConfig{Writer: &out, Sample: 1000})
	s := planeSite(t, HandlerConfig{Record: l.Record}, []Backend{webBackend(t, name("a"))})
	const n = 50
	for range n {
		c := s.dial()
		io.WriteString(c, "\x16\x03\x01\r\n")
		_, _ = io.Copy(io.Discard, c)
		c.Close()
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(out.String(), `"\x16\x03\x01" 400 `); got != n {
		t.Errorf("%d lines, want %d:\n%s", got, n, out.String())
	}
}
