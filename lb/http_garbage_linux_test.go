package lb

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
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
		"a frame that is no SETTINGS":  {preface2 + "GET / HTTP/1.1\r\n\r\n", false, false, 400, "PRI * HTTP/2.0", "want a SETTINGS frame"},
		"a preface, and an end":        {preface2, true, false, 0, "", ""},
		"TLS on a port without":        {hello, false, false, 400, hello, "TLS on a port without TLS"},
		"HTTP on a port with TLS":      {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", false, true, 400, "GET /", "HTTP on a port with TLS"},
		"garbage on a port with TLS":   {"\x00\x01\x02\x03\x04\x05", false, true, 0, "\x00\x01\x02\x03\x04", "TLS handshake"},
		"half a hello, and an end":     {hello, true, true, 0, "", "TLS handshake"},
		"half a hello, and no more":    {hello, false, true, 0, "", "TLS handshake"},
		"nothing, and an end":          {"", true, false, 0, "", ""},
		"empty lines, and an end":      {"\r\n\r\n", true, false, 0, "", ""},
		"nothing with TLS, and an end": {"", true, true, 0, "", ""},
	} {
		eachListener(t, func(t *testing.T, wrap func(net.Listener) net.Listener) {
			t.Run(title, func(t *testing.T) {
				t.Parallel()
				records := make(chan Record, 4)
				cfg := HTTPConfig{HandlerConfig: HandlerConfig{Record: func(r Record) { records <- r.Clone() }}, HeaderTimeout: 300 * time.Millisecond}
				if tt.tls {
					a := newAuthority(t)
					cfg.TLS = &tls.Config{GetCertificate: a.certificates(a.issue("a", "a.test")).GetCertificate}
				}
				p, ln := newHTTP(t, cfg, webBackend(t, name("a"))), listenTest(t)
				serveHTTP(t, p, wrap(ln))
				c := dialTest(t, ln.Addr().String())
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
				refused := uint64(0)
				if !tt.tls && !tt.leaves && tt.status != 408 && !strings.HasPrefix(tt.says, preface2) {
					refused = 1
				}
				if s := p.Stats(); !tt.tls && (s.Accepted != refused || s.Refused != refused || s.Active != 0) {
					t.Errorf("%+v, want %d refused", s, refused)
				}
				if r.Client != c.LocalAddr().(*net.TCPAddr).AddrPort() {
					t.Errorf("of %v", r.Client)
				}
			})
		})
	}
}

// TestGarbageAfterARequest: requests on a connection leave their own records, and garbage behind
// them one more. An end without garbage leaves none.
func TestGarbageAfterARequest(t *testing.T) {
	eachListener(t, func(t *testing.T, wrap func(net.Listener) net.Listener) {
		for _, garbage := range []string{"", "nonsense\r\n\r\n"} {
			records := make(chan Record, 8)
			cfg := HTTPConfig{HandlerConfig: HandlerConfig{Record: func(r Record) { records <- r.Clone() }}}
			p, ln := newHTTP(t, cfg, webBackend(t, name("a"))), listenTest(t)
			serveHTTP(t, p, wrap(ln))
			c := dialTest(t, ln.Addr().String())
			in := bufio.NewReader(c)
			for range 2 {
				io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
				res, err := http.ReadResponse(in, nil)
				if got := body(t, res, err); got != "a" {
					t.Fatalf("%q", got)
				}
				if r := nextRecord(t, records); r.Status != 200 {
					t.Errorf("%+v", r)
				}
			}
			io.WriteString(c, garbage)
			c.CloseWrite()
			_, _ = io.Copy(io.Discard, in)
			waitFor(t, "the connection to end", func() bool { return p.gate.counters.active.Load() == 0 })
			if garbage != "" {
				if r := nextRecord(t, records); r.Status != 400 || r.HTTP.Line != "nonsense" {
					t.Errorf("%+v, %+v", r, r.HTTP)
				}
			}
			if len(records) != 0 {
				t.Errorf("%d records too many", len(records))
			}
		}
	})
}

// TestGarbageWithARequest: what has come together with the request before has a record, too. With
// net/http nobody knows how it began.
func TestGarbageWithARequest(t *testing.T) {
	eachListener(t, func(t *testing.T, wrap func(net.Listener) net.Listener) {
		records := make(chan Record, 8)
		cfg := HTTPConfig{HandlerConfig: HandlerConfig{Record: func(r Record) { records <- r.Clone() }}}
		p, ln := newHTTP(t, cfg, webBackend(t, name("a"))), listenTest(t)
		serveHTTP(t, p, wrap(ln))
		c := dialTest(t, ln.Addr().String())
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /nonsense HTTP/4.0\r\n\r\n")
		got, err := io.ReadAll(c)
		if err != nil || !strings.Contains(string(got), "HTTP/1.1 505 ") {
			t.Errorf("%q, %v", got, err)
		}
		first, second := nextRecord(t, records), nextRecord(t, records)
		if first.Status != 200 || second.Status != 505 || second.HTTP.Method != "" {
			t.Errorf("%+v, then %+v, %+v", first, second, second.HTTP)
		}
		if _, tcp := wrap(ln).(*net.TCPListener); tcp && second.HTTP.Line != "GET /nonsense HTTP/4.0" {
			t.Errorf("line %q", second.HTTP.Line)
		}
	})
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

// TestGarbageHasTheStatusOfItsAnswer: a head that is refused leaves a record with the status that
// the client got, whoever gives the answer, with TLS as without.
func TestGarbageHasTheStatusOfItsAnswer(t *testing.T) {
	long := strings.Repeat("x", 64<<10)
	for title, tt := range map[string]struct {
		says           string
		status, behind int // behind net/http; 0: the same
	}{
		"no request line":       {"nonsense of all kinds\r\n\r\n", 400, 0},
		"no host":               {"GET / HTTP/1.1\r\n\r\n", 400, 0},
		"another version":       {"GET /" + long[:80] + " HTTP/3.0\r\n\r\n", 505, 0},
		"a field too long":      {"GET / HTTP/1.1\r\nHost: x\r\nA: " + long + "\r\n\r\n", 431, 0},
		"a target too long":     {"GET /" + long + " HTTP/1.1\r\nHost: x\r\n\r\n", 431, 0},
		"an unknown coding":     {"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain; a=" + long[:64] + "\r\nTransfer-Encoding: br\r\n\r\n", 501, 0},
		"a bad preface":         {"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", 505, 0},
		"a field that is none":  {"GET / HTTP/1.1\r\nHost: x\r\nContent-Type: " + long[:64] + "\r\nA B: c\r\n\r\n", 400, 0},
		"two lengths":           {"POST / HTTP/1.1\r\nHost: x\r\nA: " + long[:64] + "\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, 0},
		"a strange expectation": {"GET / HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\n\r\n", 200, 417},
	} {
		for _, secure := range []bool{false, true} {
			eachListener(t, func(t *testing.T, wrap func(net.Listener) net.Listener) {
				t.Run(fmt.Sprintf("%s, TLS %v", title, secure), func(t *testing.T) {
					t.Parallel()
					records := make(chan Record, 4)
					cfg := HTTPConfig{HandlerConfig: HandlerConfig{MaxHeader: 1 << 10, Record: func(r Record) { records <- r.Clone() }}}
					a := newAuthority(t)
					if secure {
						cfg.TLS = &tls.Config{GetCertificate: a.certificates(a.issue("a", "a.test")).GetCertificate}
					}
					p, ln := newHTTP(t, cfg, webBackend(t, name("a"))), listenTest(t)
					serveHTTP(t, p, wrap(ln))
					var c net.Conn = dialTest(t, ln.Addr().String())
					if secure {
						c = tls.Client(c, &tls.Config{RootCAs: a.pool, ServerName: "a.test"})
					}
					_ = c.SetDeadline(time.Now().Add(20 * time.Second))
					go io.WriteString(c, tt.says)
					res, err := http.ReadResponse(bufio.NewReader(c), nil)
					if err != nil {
						t.Fatal(err)
					}
					_ = res.Body.Close()
					want := tt.status
					if _, tcp := wrap(ln).(*net.TCPListener); !tcp {
						want = cmp.Or(tt.behind, want)
					}
					r := nextRecord(t, records)
					if res.StatusCode != want || r.Status != want || r.Reason == "" && want != 200 {
						t.Errorf("client: %v, want %d, record: %+v, %+v", res.Status, want, r, r.HTTP)
					}
					if secure != (r.HTTP.TLS != "") || want != 200 && (r.HTTP.Line == "" || !strings.HasPrefix(tt.says, r.HTTP.Line)) {
						t.Errorf("%+v", r.HTTP)
					}
				})
			})
		}
	}
}

// TestHeadBeginningHasItsFirstByte: net/http may read the first byte of a head while the request
// before is under way; bytes of a body do not count.
func TestHeadBeginningHasItsFirstByte(t *testing.T) {
	for body, want := range map[string]string{"": "nonsense", "ab": "onsense"} {
		h := new(headBeginning)
		h.noteRead([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), 4096, nil)
		h.handled(1)
		h.noteRead([]byte("n"), 1, nil)
		if body != "" {
			h.noteRead([]byte(body), 4096, nil)
		}
		h.restart()
		h.noteRead([]byte("onsense\r\n"), 4096, nil)
		if line, status, _, err := h.take(false); line != want || status != 400 || err == nil {
			t.Errorf("after %q: %q, %d, %v", body, line, status, err)
		}
	}
}
