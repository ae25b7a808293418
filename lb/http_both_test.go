package lb

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sort"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab/labtest"
	"github.com/havip/havip/lb/internal/h1"
)

// both are two services that should not differ: HTTP, with its event loops, and a Handler
// behind net/http, which is slower and has seen more of the world.
type both struct {
	loops, handler *oneOf
	piece          int // in how many bytes at a time a client speaks; 0: all at once
	tries          int // how often a request may get to backends
}

// oneOf is one of both, with a backend of its own.
type oneOf struct {
	address  string
	backend  *labtest.Recorder
	response atomic.Pointer[[]byte] // of the backend to every request, after which it hangs up
}

// serveBoth serves both, with rules, until the end of the test.
func serveBoth(t testing.TB, rules ruleSet) *both {
	cfg, tries := rules.build(t), 2
	if cfg.RetryStatuses == nil {
		tries = 1
	}
	// A kept connection that ends would be a matter of luck.
	cfg.Reuse = ReuseNever
	// As a Handler, if nothing is said of it.
	cfg.Buffering = cmp.Or(cfg.Buffering, BufferingOff)
	serve := func(begin func(HandlerConfig) (address string)) *oneOf {
		o := new(oneOf)
		o.backend = labtest.Record(t, func(c net.Conn, _ string) {
			_, _ = c.Write(*o.response.Load())
			_ = c.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, c)
			c.Close()
		})
		backends := []Backend{{Name: "1", Address: o.backend.Address}}
		if tries > 1 { // the same once more: which of them is asked depends on the keys
			_, port, _ := net.SplitHostPort(o.backend.Address)
			backends = append(backends, Backend{Name: "2", Address: "[::ffff:127.0.0.1]:" + port})
		}
		cfg.Pool = newPool(t, PoolConfig{Balance: KeyHash, MaxFails: -1, Backends: backends})
		o.address = begin(cfg)
		return o
	}
	return &both{
		tries: tries,
		handler: serve(func(cfg HandlerConfig) string {
			s, _ := shell{HandlerConfig: cfg, tracked: true}.serve(t)
			return s.Listener.Addr().String()
		}),
		loops: serve(func(cfg HandlerConfig) string {
			p, err := NewHTTP(HTTPConfig{HandlerConfig: cfg})
			if err != nil {
				t.Fatal(err)
			}
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			labtest.Run(t, func(ctx context.Context) error { return p.Serve(ctx, ln) })
			return ln.Addr().String()
		}),
	}
}

// seen is what a backend and a client have seen.
type seen struct {
	requests []string // of those that came whole
	answers  []received
}

// received is a response as a client understands it.
type received struct {
	text   string // with all that counts, but for its body
	status int
	body   string
	broken bool // the body is not complete
	last   bool // it says that the connection ends
}

// talk sends what a client says, and its end, and returns what becomes of that. methods are
// those of the requests.
func (o *oneOf) talk(t testing.TB, said, response []byte, methods []string, piece int) seen {
	t.Helper()
	o.response.Store(&response)
	c, err := net.Dial("tcp", o.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(bound))
	written := make(chan error, 1)
	go func(said []byte) { // a response may come before all is said
		var err error
		for len(said) > piece && piece > 0 && err == nil {
			_, err = c.Write(said[:piece])
			said = said[piece:]
			time.Sleep(200 * time.Microsecond) // mostly it is read before the next one
		}
		if err == nil {
			_, err = c.Write(said)
		}
		_ = c.(*net.TCPConn).CloseWrite()
		written <- err
	}(said)
	got, err := io.ReadAll(c)
	if isTimeout(err) {
		t.Fatalf("no end after %q\nto %q\nwith %q", got, said, response)
	}
	var s seen
	for _, r := range o.backend.Requests() {
		if err := strictRequest(r); err != nil {
			t.Errorf("%q\nbrings a backend %q\n%v", said, r, err)
		}
		s.requests = append(s.requests, understood(strings.ReplaceAll(r, o.address, "LOCAL")))
	}
	// The kernel tells of a reset once, and maybe the write was told. After an end in order it
	// is another error: see frankConn.
	reset := err != nil || errors.Is(<-written, syscall.ECONNRESET)
	s.answers = readAnswers(got, methods, reset)
	return s
}

// understood returns a request as net/http understands it. Neither the case nor the order of
// its fields, nor the sizes of its chunks mean anything.
func understood(request string) string {
	in := bufio.NewReader(strings.NewReader(request))
	r, err := http.ReadRequest(in)
	if err != nil {
		return fmt.Sprintf("%q: %v", request, err)
	}
	body, err := io.ReadAll(r.Body)
	rest, _ := io.ReadAll(in)
	return fmt.Sprintf("%s %s %s %s\n%slength %d %q, trailer %v, %v, rest %q", r.Method, r.RequestURI, r.Proto, r.Host,
		lines(r.Header), r.ContentLength, body, r.Trailer, err, rest)
}

// lines returns the fields of h, sorted, but for those that concern one connection.
func lines(h http.Header) string {
	var list []string
	for name, values := range h {
		switch name {
		case "Date", "Connection", "Keep-Alive", "Trailer":
		default:
			list = append(list, fmt.Sprintf("%s: %q\n", name, values))
		}
	}
	sort.Strings(list)
	return strings.Join(list, "")
}

// readAnswers reads responses to requests with methods. reset: the connection did not end in
// order.
func readAnswers(got []byte, methods []string, reset bool) (list []received) {
	in := bufio.NewReader(bytes.NewReader(got))
	var interim string
	for {
		if _, err := in.Peek(1); err != nil {
			if interim != "" {
				list = append(list, received{text: interim, broken: true})
			}
			return list
		}
		method := "GET"
		if len(list) < len(methods) {
			method = methods[len(list)]
		}
		res, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			return append(list, received{text: interim + err.Error(), broken: true})
		}
		text := fmt.Sprintf("%d\n", res.StatusCode)
		if method != "HEAD" && res.StatusCode != http.StatusNoContent && res.StatusCode != http.StatusNotModified {
			res.Header.Del("Content-Length") // the content says it
		}
		text += lines(res.Header)
		if res.StatusCode == http.StatusContinue {
			continue // who sends the body at once may get it, or not
		}
		if res.StatusCode < 200 && res.StatusCode != http.StatusSwitchingProtocols {
			interim += text
			continue
		}
		a := received{status: res.StatusCode, last: res.Close}
		content, err := io.ReadAll(res.Body)
		if res.Header.Get("Content-Encoding") == "gzip" && len(content) > 0 {
			content = unzipped(content) // where it is flushed is a matter of luck
		}
		if res.StatusCode == http.StatusSwitchingProtocols {
			content, err = io.ReadAll(in)
		}
		unbounded := res.ContentLength < 0 && len(res.TransferEncoding) == 0 && res.Body != http.NoBody
		if a.body = string(content); res.Header.Get("Content-Type") == "message/http" {
			a.body = understood(a.body) // a TRACE's
		}
		a.broken = err != nil || unbounded && reset
		a.text, interim = interim+text+"trailer\n"+lines(res.Trailer), ""
		list = append(list, a)
	}
}

// unzipped returns as much of the content as there is.
func unzipped(content []byte) []byte {
	r, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		return content
	}
	clear, _ := io.ReadAll(r)
	return clear
}

// utterance is a piece of what a client says: a request, or what is none.
type utterance struct {
	bytes   []byte
	method  string
	req     bool      // it is one, with its whole body
	ends    bool      // nothing may follow
	why     *h1.Error // it is refused; nil with req, and for what is not complete
	trailer bool      // for its body, or what comes after that
}

// parseSaid parts what a client says into requests. What comes after the last one is one piece.
func parseSaid(b []byte, cfg HandlerConfig) (list []utterance) {
	for len(b) > 0 {
		for bytes.HasPrefix(b, []byte("\r\n")) {
			b = b[2:]
		}
		var r h1.Request
		n, err := r.Parse(b, h1.Limits{Header: int(cfg.MaxHeader), Fields: cfg.MaxFields})
		s := utterance{bytes: b, ends: true}
		if err != nil {
			errors.As(err, &s.why)
		}
		if n > 0 {
			s.method, s.ends = r.Method, r.Close
			body, whole, err := bodyOf(&r, b[n:])
			if s.req = whole; whole {
				s.bytes = b[:n+body]
			}
			s.trailer = errors.As(err, &s.why)
		}
		if len(b) > 0 {
			list = append(list, s)
		}
		b = b[len(s.bytes):]
	}
	return list
}

// bodyOf returns how many bytes of b are the body of r, and its trailer.
func bodyOf(r *h1.Request, b []byte) (n int, whole bool, err error) {
	if r.Length != h1.Chunked {
		return int(min(r.Length, int64(len(b)))), r.Length <= int64(len(b)), nil
	}
	var c h1.Chunks
	for !c.Ended() {
		_, used, err := c.Content(b[n:])
		if n += used; err != nil || used == 0 {
			return n, false, err
		}
	}
	var trailer h1.TrailerSection
	used, err := trailer.Parse(b[n:], h1.Limits{})
	return n + used, used > 0, err
}

// stricter reports whether the event loops refuse s although net/http takes it: lines without
// CR, folded lines, the same Content-Length twice, and any Transfer-Encoding in HTTP/1.0. Of a
// trailer, net/http drops what it does not understand.
func (s *utterance) stricter() bool {
	if s.why == nil || s.trailer {
		return s.trailer
	}
	switch s.why.Reason {
	case "line ends in LF without CR", "line begins with white space", "more than one Content-Length", "Transfer-Encoding in HTTP/1.0":
		return true
	}
	line, _, _ := bytes.Cut(s.bytes, []byte("\r\n"))
	return s.why.Status == 501 && bytes.HasSuffix(line, []byte("HTTP/1.0"))
}

// compare has both get the same from a client and from a backend, and compares what they make
// of it. The Handler gets one request per connection: net/http ends some after a request
// where the event loops need not. It returns how many requests backends got.
func (b *both) compare(t testing.TB, client, backend []byte) int {
	t.Helper()
	pieces := parseSaid(client, HandlerConfig{}.WithDefaults())
	var methods []string
	for _, p := range pieces {
		methods = append(methods, p.method)
	}
	all := b.loops.talk(t, client, backend, methods, b.piece)
	got := all
	for i := range pieces {
		want := b.handler.talk(t, pieces[i].bytes, backend, methods[i:i+1], 0)
		over, difference := pieces[i].compare(&got, &want, b.tries)
		if difference != "" {
			t.Fatalf("piece %d: %s\nclient %q\nbackend %q\nthe event loops %+v\nthe Handler %+v", i, difference, client, backend, all, want)
		}
		if over {
			return len(all.requests)
		}
	}
	if len(got.answers) > 0 || len(got.requests) > 0 {
		t.Fatalf("more comes than was asked for\nclient %q\nbackend %q\n%+v", client, backend, all)
	}
	return len(all.requests)
}

// compare takes from got, which the event loops make of p and what follows, what is about p,
// and compares it with what a Handler makes of p alone. tries: so many requests backends may
// get for it. over: nothing is left to compare.
func (p *utterance) compare(got, want *seen, tries int) (over bool, difference string) {
	if !p.req {
		return true, p.compareRefused(got, want)
	}
	if len(want.answers) > 1 && want.answers[0].last && want.answers[0].status == http.StatusBadRequest {
		want.answers = want.answers[:1] // net/http gives content even to a HEAD
	}
	if len(want.answers) != 1 || len(want.requests) > tries {
		return true, "not one request for the Handler"
	}
	theirs, served := want.answers[0], len(want.requests)
	switch {
	case p.method == "OPTIONS" && theirs.status == http.StatusOK && served == 0:
		return true, "" // net/http answers what concerns the server as a whole
	case len(got.answers) == 0 && theirs.broken:
		return true, "" // a reset may destroy what has come before
	case len(got.answers) == 0:
		return true, "no answer"
	case len(got.requests) < served || !slices.Equal(got.requests[:served], want.requests):
		return true, "another request for the backend"
	}
	a := got.answers[0]
	got.answers, got.requests = got.answers[1:], got.requests[served:]
	if difference := a.differs(theirs, served > 0); difference != "" {
		return true, difference
	}
	switched := a.status == http.StatusSwitchingProtocols
	over = p.ends || a.last || a.broken || switched
	switch {
	case over && (len(got.answers) > 0 || len(got.requests) > 0):
		return true, "something comes after the last answer"
	case over && !p.ends && !theirs.last && !theirs.broken && !switched:
		return true, "the connection ends"
	}
	return over, ""
}

// compareRefused is compare for what is no request, or not a whole one.
func (p *utterance) compareRefused(got, want *seen) string {
	switch {
	case len(got.requests) > 0 || len(got.answers) > 1:
		return "a request for the event loops"
	case p.trailer && len(got.answers) == 1 && len(want.answers) > 0 && got.answers[0].status == want.answers[0].status:
		return "" // rules may answer before what is wrong has come
	case p.why != nil && (len(got.answers) == 0 || got.answers[0].status != p.why.Status):
		return fmt.Sprint("not refused: ", p.why)
	case len(want.requests) > 0 && !p.stricter():
		return fmt.Sprint("a request for the Handler: ", p.why)
	}
	return ""
}

// differs tells what is different in two answers. What they say in a backend's place may be.
func (a received) differs(theirs received, fromBackend bool) string {
	switch {
	case a.status == http.StatusMethodNotAllowed && theirs.status == http.StatusBadRequest:
		return "" // net/http looks at the target of a CONNECT first
	case a.status != theirs.status:
		return "status"
	case !fromBackend && a.status >= 400:
		return ""
	case a.text != theirs.text:
		return "header"
	case a.broken != theirs.broken:
		return "end"
	case a.body != theirs.body && !a.broken:
		return "body"
	}
	return ""
}
