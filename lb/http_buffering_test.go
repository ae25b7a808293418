package lb

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab/labtest"
	"github.com/havip/havip/internal/quietlog"
)

// bufferedBodies are requests, and what a backend gets of them behind the request line. 5 kB
// is the content that does not fit into memory.
var bufferedBodies = []struct {
	name, says string
	want       string // framing and trailer
	content    string
}{
	{"in memory, with a length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", "length 5, trailer map[]", "hello"},
	{"in memory, in chunks", inOnePut("", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"), "length 5, trailer map[]", "hello"},
	{"nothing, in chunks", inOnePut("", "0\r\n\r\n"), "length 0, trailer map[]", ""},
	{"in a file, with a length", "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n" + fiveKB, "length 5000, trailer map[]", fiveKB},
	{"in a file, in chunks", inOnePut("", "1388\r\n"+fiveKB+"\r\n0\r\n\r\n"), "length 5000, trailer map[]", fiveKB},
	{"a trailer that was announced", inOnePut("Trailer: X-Sum\r\n", "5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n"), "length -1, trailer map[X-Sum:[7]]", "hello"},
	{"the same behind a file", inOnePut("Trailer: X-Sum\r\n", "1388\r\n"+fiveKB+"\r\n0\r\nX-Sum: 7\r\n\r\n"), "length -1, trailer map[X-Sum:[7]]", fiveKB},
	{"nothing, in chunks, before a trailer", inOnePut("Trailer: X-Sum\r\n", "0\r\nX-Sum: 7\r\n\r\n"), "length -1, trailer map[X-Sum:[7]]", ""},
	{"a trailer that was not", inOnePut("", "5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n"), "length 5, trailer map[]", "hello"},
}

// inOnePut is a request with a body in chunks.
func inOnePut(fields, chunks string) string {
	return "PUT / HTTP/1.1\r\nHost: x\r\n" + fields + "Transfer-Encoding: chunked\r\n\r\n" + chunks
}

var fiveKB = string(numbered(5000))

// A backend gets a request when its body has come whole, whichever way that came, and with the
// length of that. What follows on the connection is another request.
func TestBufferedBodies(t *testing.T) {
	for _, f := range bufferFronts() {
		for _, tt := range bufferedBodies {
			for _, split := range []string{"head", "body", "byte"} {
				b := labtest.Record(t, labtest.Answers(anOK))
				s := f.serve(t, HandlerConfig{}, Backend{Address: b.Address})
				head := strings.Index(tt.says, "\r\n\r\n") + 4
				at := map[string]int{"head": head, "body": (head + len(tt.says)) / 2, "byte": len(tt.says) - 1}[split]
				c := s.begin(t, tt.says[:at])
				// Others are served meanwhile, and none of what has come goes to the backend.
				other := newReader(t, s.address)
				io.WriteString(other, aGet)
				other.status(t)
				if got := b.Bytes(); !strings.HasPrefix(got, "GET /") || strings.Contains(got, "PUT /") || strings.Contains(got, "POST /") {
					t.Errorf("%s, %s, %s: the backend gets %.80q before the body is whole", f.name, tt.name, split, got)
				}
				b.Requests()
				io.WriteString(c, tt.says[at:]+aGet)
				answers := f.answers(t, c, tt.says)
				requests := b.Requests()
				if len(requests) != answers {
					t.Fatalf("%s, %s, %s: requests %.100q", f.name, tt.name, split, requests)
				}
				r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(requests[0])))
				if err != nil {
					t.Fatal(err)
				}
				content, err := io.ReadAll(r.Body)
				if got := fmt.Sprintf("length %d, trailer %v", r.ContentLength, r.Trailer); got != tt.want || string(content) != tt.content || err != nil {
					t.Errorf("%s, %s, %s: %s, %d bytes, %v; want %s, %d", f.name, tt.name, split, got, len(content), err, tt.want, len(tt.content))
				}
			}
		}
	}
}

// A slow client takes no place of a backend, however many of them there are.
func TestSlowBodiesOccupyNoBackend(t *testing.T) {
	for _, f := range bufferFronts() {
		b := echo(t)
		b.MaxConns = 1
		s := f.serve(t, HandlerConfig{}, b)
		var slow []*reader
		for range 10 {
			slow = append(slow, s.begin(t, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n"+fiveKB[:4000]))
		}
		free := func() bool { return s.handler.pool().Status().Backends[0].Active == 0 }
		c := newReader(t, s.address)
		for range 20 {
			io.WriteString(c, aPost)
			if got, content := c.status(t); got != 200 || content != "abc" {
				t.Errorf("%s: %d %q beside slow clients", f.name, got, content)
			}
			waitFor(t, "the place to be free", free)
		}
		for _, c := range slow {
			io.WriteString(c, fiveKB[4000:])
			if got, content := c.status(t); got != 200 || content != fiveKB {
				t.Errorf("%s: %d, %d bytes for a slow client", f.name, got, len(content))
			}
			waitFor(t, "the place to be free", free)
		}
	}
}

// A client that waits for 100 (Continue) gets that without a backend, and the backend is not
// asked any more.
func TestExpectationOfABufferedBody(t *testing.T) {
	for _, f := range bufferFronts() {
		b := labtest.Record(t, labtest.Answers(anOK))
		s := f.serve(t, HandlerConfig{}, Backend{Address: b.Address})
		c := s.begin(t, "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
		if line, err := c.r.ReadString('\n'); line != "HTTP/1.1 100 Continue\r\n" || err != nil {
			t.Fatalf("%s: %q, %v", f.name, line, err)
		}
		if line, err := c.r.ReadString('\n'); line != "\r\n" || err != nil {
			t.Fatalf("%s: %q, %v", f.name, line, err)
		}
		if got := b.Bytes(); got != "" {
			t.Errorf("%s: the backend gets %q", f.name, got)
		}
		io.WriteString(c, "hello")
		if got, _ := c.status(t); got != 200 {
			t.Errorf("%s: status %d", f.name, got)
		}
		if got := b.Bytes(); !strings.HasSuffix(got, "\r\n\r\nhello") || strings.Contains(got, "Expect") {
			t.Errorf("%s: the backend gets %q", f.name, got)
		}
	}
}

// What is wrong with a body is answered as ever, and no backend has been touched.
func TestBadBodiesReachNoBackend(t *testing.T) {
	for _, tt := range []struct {
		name, says string
		closes     bool
		want       int
		reason     string
		received   int64
	}{
		{"too large in chunks", inOnePut("", "1388\r\n"+fiveKB+"\r\n1388\r\n"+fiveKB+"\r\n0\r\n\r\n"), false, 413, "too large", 6000},
		{"no chunk", inOnePut("", "5\r\nhello\r\nx\r\n"), false, 400, "chunk", 5},
		{"a long trailer", inOnePut("", "5\r\nhello\r\n0\r\nX: "+strings.Repeat("y", 3000)+"\r\n\r\n"), false, 431, "trailer", 5},
		{"late", "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n" + fiveKB[:3000], false, 408, "time", 3000},
		{"short", "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n" + fiveKB[:3000], true, 400, "EOF", 3000},
	} {
		for _, f := range bufferFronts() {
			records := make(chan Record, 1)
			b := labtest.Record(t, labtest.Answers(anOK))
			s := f.serve(t, HandlerConfig{MaxBody: 6000, MaxHeader: 1 << 10, ClientTimeout: 500 * time.Millisecond,
				Record: func(r Record) { records <- r }}, Backend{Address: b.Address})
			c := newReader(t, s.address)
			io.WriteString(c, tt.says)
			if tt.closes {
				_ = c.Conn.(*net.TCPConn).CloseWrite()
			}
			res, err := http.ReadResponse(c.r, nil)
			if err != nil {
				t.Fatalf("%s, %s: %v", f.name, tt.name, err)
			}
			if res.StatusCode != tt.want || !res.Close {
				t.Errorf("%s, %s: status %d, the last: %v", f.name, tt.name, res.StatusCode, res.Close)
			}
			r := nextRecord(t, records)
			if got := b.Bytes(); got != "" || r.Backend != "" || r.Retries != 0 || r.Connect != 0 || r.Received != tt.received ||
				!strings.Contains(r.Reason, tt.reason) {
				t.Errorf("%s, %s: the backend gets %q; %+v", f.name, tt.name, got, r)
			}
			if st := s.handler.pool().Status().Backends[0]; st.Connects != 0 || st.Active != 0 {
				t.Errorf("%s, %s: %+v", f.name, tt.name, st)
			}
		}
	}
}

// Whatever its size, a body goes to a second backend if the first one fails.
func TestBufferedBodyIsRepeated(t *testing.T) {
	large := numbered(3 << 20)
	for _, f := range bufferFronts() {
		for _, chunks := range []bool{false, true} {
			bad := rawBackend(t, func(c net.Conn, r *bufio.Reader) {
				if _, err := http.ReadRequest(r); err == nil {
					_, _ = io.CopyN(io.Discard, r, 1<<20) // and hangs up
				}
			})
			s := f.serve(t, HandlerConfig{Rules: Rules{BufferMemory: 64 << 10}}, bad, echo(t))
			req, err := http.NewRequest("PUT", "http://"+s.address, bytes.NewReader(large))
			if err != nil {
				t.Fatal(err)
			}
			if chunks {
				req.ContentLength, req.Trailer = -1, http.Header{"X-Sum": {"7"}}
			}
			res, err := http.DefaultTransport.RoundTrip(req)
			if got := body(t, res, err); got != string(large) {
				t.Errorf("%s, chunks %v: %d %d bytes", f.name, chunks, res.StatusCode, len(got))
			}
			if st := s.handler.pool().Status().Backends[0]; st.Failures != 1 {
				t.Errorf("%s: %d failures", f.name, st.Failures)
			}
			waitFor(t, "the file to be closed", func() bool { return s.handler.settings.Load().bodies.used.Load() == 0 })
		}
	}
}

// What may go on for as long as both sides like is streamed, and so is all where buffering is
// off, or the folder cannot be written. The log says the latter, once.
func TestWhatIsNotBuffered(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none")
	for _, tt := range []struct {
		name, fields string
		cfg          Rules
		warns        int
	}{
		{"an upgrade", "Connection: upgrade\r\nUpgrade: other\r\n", Rules{}, 0},
		{"gRPC", "Content-Type: application/grpc+proto\r\n", Rules{}, 0},
		{"buffering is off", "", Rules{Buffering: BufferingOff, BufferFolder: missing}, 0},
		{"no such folder", "", Rules{BufferFolder: missing}, 1},
	} {
		for _, f := range bufferFronts() {
			var log labtest.Log
			b := labtest.Record(t, labtest.Answers(anOK))
			s := f.serve(t, HandlerConfig{Rules: tt.cfg, Logger: slog.New(quietlog.Unblocked(slog.NewTextHandler(&log, nil)))}, Backend{Address: b.Address})
			c := newReader(t, s.address)
			io.WriteString(c, "PUT / HTTP/1.1\r\nHost: x\r\n"+tt.fields+"Content-Length: 10\r\n\r\nhello")
			got := ""
			waitFor(t, tt.name+" by "+f.name+": the backend to get what has come", func() bool {
				got += b.Bytes()
				return strings.HasSuffix(got, "\r\n\r\nhello")
			})
			io.WriteString(c, "hello")
			if got, _ := c.status(t); got != 200 {
				t.Errorf("%s, %s: status %d", f.name, tt.name, got)
			}
			if lines := log.Lines("level=WARN", "folder="+missing); len(lines) != tt.warns {
				t.Errorf("%s, %s: %q", f.name, tt.name, log.String())
			}
		}
	}
}

// A stream of HTTP/2 is passed on as it comes.
func TestHTTP2IsNotBuffered(t *testing.T) {
	b := labtest.Record(t, labtest.Answers(anOK))
	s, _ := front2(t, HandlerConfig{Rules: Rules{Buffering: BufferingOn, BufferFolder: t.TempDir()}}, Backend{Address: b.Address})
	pr, pw := io.Pipe()
	req, _ := http.NewRequest("PUT", s.URL, pr)
	ended := make(chan error, 1)
	go func() {
		res, err := s.Client().Do(req)
		if err == nil {
			res.Body.Close()
		}
		ended <- err
	}()
	io.WriteString(pw, "hello")
	waitFor(t, "the backend to get what has come", func() bool { return strings.HasSuffix(b.Bytes(), "hello\r\n") })
	pw.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
