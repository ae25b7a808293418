package lb

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/havip/havip/internal/lab/labtest"
)

// TestWhatNetHTTPDoesNotAllow: what happens today beside what is right, where net/http stands
// between the two. The event loops do what is right, but for HTTP/2, which they leave to
// net/http. Whoever makes a row right turns it round.
func TestWhatNetHTTPDoesNotAllow(t *testing.T) {
	const (
		chunks = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
		fields = "SOAPAction: 1\r\nx-lower: 2\r\nA: 3\r\n"
	)
	get := strings.Replace(aLastGet, "\r\n\r\n", "\r\n"+fields+"\r\n", 1)
	answer := func(status, fields string) string {
		return "HTTP/1.1 " + status + "\r\nDate: x\r\n" + fields + "Content-Length: 2\r\n\r\nok"
	}
	status := func(request, response string) func(*testing.T) string {
		return func(t *testing.T) string { client, _ := exchanged(t, request, response); return statusLines(client) }
	}
	pipeline := func(requests string) func(*testing.T) string {
		return func(t *testing.T) string {
			s, _ := front(t, HandlerConfig{}, webBackend(t, name("ok")))
			c := newReader(t, s.Listener.Addr().String())
			io.WriteString(c, requests)
			return statusLines(everything(t, c))
		}
	}
	for _, tt := range []struct {
		name         string
		got          func(*testing.T) string
		today, right string
	}{
		// RFC 9112 §2.2: at least one empty line before a request is ignored.
		{"empty line before a request", status("\r\n"+aLastGet, anOK), "400 Bad Request", "200 OK"},
		// net/http does so after a POST, for old browsers.
		{"empty line between requests", pipeline(aGet + "\r\n" + aLastGet), "200 OK|400 Bad Request", "200 OK|200 OK"},
		// RFC 9112 §6.1: only a Content-Length beside it is a reason to close.
		{"next request after chunks", pipeline(chunks + aLastGet), "200 OK", "200 OK|200 OK"},
		// RFC 9112 §4: clients should ignore it. Old ones do not.
		{"reason phrase", status(aLastGet, answer("200 Fine", "")), "200 OK", "200 Fine"},
		{"reason phrase of an unknown status", status(aLastGet, answer("299 Fine", "")), "299 status code 299", "299 Fine"},
		// RFC 9110 §5.1, §5.3: neither matters. Some implementations mind nevertheless.
		{"case and order of the header of a request", func(t *testing.T) string {
			_, backend := exchanged(t, get, anOK)
			return testFields(backend)
		}, "A: 3|Soapaction: 1|X-Lower: 2", "SOAPAction: 1|x-lower: 2|A: 3"},
		{"case and order of the header of a response", func(t *testing.T) string {
			client, _ := exchanged(t, aLastGet, answer("200 OK", fields))
			return testFields(client)
		}, "A: 3|Soapaction: 1|X-Lower: 2", "SOAPAction: 1|x-lower: 2|A: 3"},
		// Chunks may come in pieces. net/http waits for the whole of one, or of a buffer.
		{"a piece of a chunk of a request", pieceOfChunk, "", "AB"},
		// RFC 8446 §6.1: who has said farewell may still read.
		{"half-closed client, by TLS", halfClosedTLS, "", "200 OK"},
		{"unfinished header of HTTP/2", unfinishedHeader2, "waits on", "ends"},
		// MaxHeader allows both.
		{"trailer of more than 4 KB", status("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTrailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"+
			"X-T: "+strings.Repeat("t", 5000)+"\r\n\r\n", anOK), "400 Bad Request", "200 OK"},
		// net/http takes its beginning for the beginning of a long one.
		{"trailer that does not come", unfinishedTrailer, "", "408 Request Timeout"},
		{"trailer of HTTP/2 beyond MaxHeaderBytes", longTrailer2, "X-A", "X-A X-B"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // some wait
			want := tt.today
			if *onEngine && !strings.HasPrefix(tt.name, "unfinished header of HTTP/2") {
				want = tt.right
			}
			switch got := tt.got(t); got {
			case want:
			case tt.right:
				t.Errorf("%q: this is right now", got)
			default:
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

// statusLines returns what follows the version in the status lines of responses, parted by |.
func statusLines(responses string) string {
	var lines []string
	for line := range strings.SplitSeq(responses, "\r\n") {
		if _, status, ok := strings.Cut(line, "HTTP/1.1 "); ok {
			lines = append(lines, status)
		}
	}
	return strings.Join(lines, "|")
}

// testFields returns the lines of a message whose value is a digit, but for the length.
func testFields(message string) string {
	var lines []string
	for line := range strings.SplitSeq(message, "\r\n") {
		if _, value, ok := strings.Cut(line, ": "); ok && len(value) == 1 && value[0] <= '9' && !strings.HasPrefix(line, "Content-Length") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "|")
}

// halfClosedTLS returns the status that a client gets which says farewell after its request.
func halfClosedTLS(t *testing.T) string {
	address := listeningTLS(t, shell{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		r.Peek(1) // the farewell comes to the proxy meanwhile
		io.WriteString(c, anOK)
	}))
	c, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(bound))
	io.WriteString(c, aGet)
	_ = c.CloseWrite()
	got, _ := io.ReadAll(c)
	return statusLines(string(got))
}

// pieceOfChunk returns what a backend gets of a request's chunk whose rest is to come.
func pieceOfChunk(t *testing.T) string {
	piece := make(chan string)
	s, _ := front(t, HandlerConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		req, _ := http.ReadRequest(r)
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		got := make([]byte, 2)
		n, _ := io.ReadFull(req.Body, got)
		piece <- string(got[:n])
	}))
	c := newReader(t, s.Listener.Addr().String())
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nAB")
	return <-piece
}

// unfinishedTrailer returns the status of a request that ends in its trailer, but not really.
func unfinishedTrailer(t *testing.T) string {
	s, _ := front(t, HandlerConfig{ClientTimeout: time.Second}, rawBackend(t, discard))
	c := newReader(t, s.Listener.Addr().String())
	io.WriteString(c, "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n")
	return statusLines(everything(t, c))
}

// unfinishedHeader2 returns what becomes of a header that goes on for longer than
// ReadHeaderTimeout.
func unfinishedHeader2(t *testing.T) string {
	const timeout = 2 * time.Second // of the handshake, too
	c := dial2(t, listeningTLS(t, shell{header: timeout}, rawBackend(t, discard)))
	if err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.fields(get2...), EndStream: true}); err != nil {
		t.Fatal(err)
	}
	_ = c.conn.SetReadDeadline(time.Now().Add(timeout + timeout/2))
	for {
		f, err := c.ReadFrame()
		if _, over := f.(*http2.GoAwayFrame); over || err != nil && !isTimeout(err) {
			return "ends"
		}
		if err != nil {
			return "waits on"
		}
	}
}

// longTrailer2 returns which fields of a trailer arrive that takes more than MaxHeaderBytes.
func longTrailer2(t *testing.T) string {
	b := labtest.Record(t, labtest.Answers(anOK))
	c := dial2(t, listeningTLS(t, shell{max: 4 << 10}, Backend{Address: b.Address}))
	value := strings.Repeat("v", 3000)
	c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.fields(append(get2, "trailer", "x-a, x-b")...), EndHeaders: true})
	c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.fields("x-a", value, "x-b", value), EndHeaders: true, EndStream: true})
	c.answer(1)
	var names []string
	for line := range strings.SplitSeq(b.Bytes(), "\r\n") {
		if name, ok := strings.CutSuffix(line, ": "+value); ok {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}
