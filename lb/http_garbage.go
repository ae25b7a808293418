package lb

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/havip/havip/internal/inet"
	"github.com/havip/havip/lb/internal/h1"
)

// net/http answers what is no request without asking a Handler. To have a record of it
// nevertheless, a front keeps how each head begins until the Handler gets the request.

// maxBeginning is how much is kept of a head.
const maxBeginning = 64

// headBeginning is how the head begins that net/http reads from a connection.
type headBeginning struct {
	mu   sync.Mutex // guards what follows; nothing waits while it is held
	text [maxBeginning]byte
	n    int   // bytes of text
	err  error // of the first read that has failed: net/http makes later ones fail itself
	off  bool  // a Handler has the request, or the connection is HTTP/2's
	two  bool  // off for good
}

// note adds what a read has brought.
func (h *headBeginning) note(b []byte, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.off {
		return
	}
	h.n += copy(h.text[h.n:], b)
	if h.err == nil {
		h.err = err
	}
}

// handled forgets a head: a Handler has its request.
func (h *headBeginning) handled(major int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n, h.off, h.two = 0, true, h.two || major > 1
}

// restart waits for the next head, of HTTP/1. net/http also says of HTTP/2 that it is idle.
func (h *headBeginning) restart() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.two || bytes.HasPrefix(h.text[:h.n], []byte(preface2)) {
		return
	}
	h.n, h.err, h.off = 0, nil, false
}

// preface2 is what a connection of HTTP/2 begins with (RFC 9113 §3.4).
const preface2 = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

var errNoSettings = errors.New("bad preface of HTTP/2: want a SETTINGS frame behind it")

// take returns what has come that was no request, and why it is none; nil: nothing is wrong.
// refused: the client has an answer, otherwise the status is the one that nginx logs.
func (h *headBeginning) take() (line string, status int, refused bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.text[:h.n]
	if line = firstLine(append([]byte(nil), b...)); h.off || line == "" || errors.Is(h.err, net.ErrClosed) {
		return "", 0, false, nil
	}
	if rest, ok := strings.CutPrefix(string(b), preface2); ok {
		const kind, settings = 3, 4 // where a frame has its type, and that of SETTINGS (RFC 9113 §4.1, §6.5)
		if len(rest) <= kind || rest[kind] == settings {
			return "", 0, false, nil
		}
		return line, http.StatusBadRequest, false, errNoSettings
	}
	var req h1.Request
	var refusal *h1.Error
	if !strings.HasPrefix(preface2, string(b)) { // otherwise it is not whole
		_, err = req.Parse(b, h1.Limits{})
	}
	var late net.Error
	switch {
	case errors.As(err, &refusal):
		return line, refusal.Status, true, wordsForGarbage(b, false, err)
	case errors.As(h.err, &late) && late.Timeout():
		status, err = http.StatusRequestTimeout, errHeadLate
	case h.err != nil:
		status, err = http.StatusBadRequest, errHeadShort
	default:
		return line, http.StatusBadRequest, true, errHeadMalformed
	}
	return line, status, false, wordsForGarbage(b, false, err)
}

// Why there is no request.
var (
	errHeadLate      = errors.New("head of a request did not come in time")
	errHeadShort     = errors.New("client left before the head of its request was complete")
	errHeadMalformed = errors.New("head of a request is malformed")
)

// isGarbage reports whether r is a preface of HTTP/2 that has gone wrong, which net/http takes for
// a request, and ends its connection. Of every other request it forgets how it began.
func (f *httpFront) isGarbage(w http.ResponseWriter, r *http.Request) bool {
	o := ownerOf(r)
	if o == nil {
		return false
	}
	c, ok := o.conn.(*proxiedConn)
	switch {
	case !ok:
		return false
	case !c.head.isPreface():
		c.head.handled(r.ProtoMajor)
		return false
	case c.head.isShort():
		panic(http.ErrAbortHandler) // nobody waits for an answer
	}
	w.Header().Set("Connection", "close")
	w.WriteHeader(http.StatusHTTPVersionNotSupported)
	return true
}

// isPreface reports whether what has come begins as a preface does, but is none.
func (h *headBeginning) isPreface() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.text[:h.n]
	return bytes.HasPrefix(b, []byte("PRI * HTTP/2.0\r\n")) && !bytes.HasPrefix(b, []byte(preface2))
}

// isShort reports whether what has come is a part of a preface.
func (h *headBeginning) isShort() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.HasPrefix(preface2, string(h.text[:h.n]))
}

// noteGarbage records what has come on a connection that ends, if that was no request.
func (f *httpFront) noteGarbage(c *proxiedConn) {
	line, status, refused, err := c.head.take()
	if err == nil {
		return
	}
	h := f.plane.handler
	cfg, from := h.settings.Load(), newRequestOrigin(inet.AddrPort(c.RemoteAddr()), inet.AddrPort(c.LocalAddr()), nil)
	if !refused {
		cfg.recordGarbage(&from, status, err, line)
		return
	}
	x, req, now := new(exchange), new(h1.Request), time.Now()
	x.open(cfg, &h.counters, &from, req, now)
	x.refused(err)
	x.told.Line, x.record.Status = line, status
	x.close(now)
}
