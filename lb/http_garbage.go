package lb

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/havip/havip/internal/inet"
	"github.com/havip/havip/lb/internal/h1"
)

// net/http answers what is no request without asking a Handler. To have a record of it
// nevertheless, a front keeps how each head begins until the Handler gets the request, and what
// net/http answers before that.

// maxBeginning is how much is kept of a head.
const maxBeginning = 64

// headBeginning is how the head begins that net/http reads from a connection.
type headBeginning struct {
	mu     sync.Mutex // guards what follows; nothing waits while it is held
	text   [maxBeginning]byte
	n      int    // bytes of text
	err    error  // of the first read that has failed: net/http makes later ones fail itself
	status int    // that net/http has answered without a Handler; 0: it has not
	phrase string // beside status, which says why
	early  bool   // text has the byte that came while a Handler had the request before
	off    bool   // a Handler has the request, or the connection is HTTP/2's
	two    bool   // off for good
}

// noteRead adds what a read of up to size bytes has brought.
func (h *headBeginning) noteRead(b []byte, size int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.off {
		// A read of one byte is how net/http learns whether the client leaves during a request.
		// What that brings is how the next head begins, unless it belongs to a body.
		if h.early = size == 1 && len(b) == 1; h.early {
			h.text[0] = b[0]
		}
		return
	}
	h.n += copy(h.text[h.n:], b)
	if h.err == nil {
		h.err = err
	}
}

// noteWrite looks for an answer that no Handler has given.
func (h *headBeginning) noteWrite(b []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.off || h.status != 0 {
		return
	}
	const version = "HTTP/1.1 "
	if line := firstLine(b); strings.HasPrefix(line, version) {
		code, phrase, _ := strings.Cut(line[len(version):], " ")
		h.status, _ = strconv.Atoi(code)
		h.phrase = strings.Clone(phrase)
	}
}

// handled forgets a head: a Handler has its request.
func (h *headBeginning) handled(major int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n, h.early, h.off, h.two = 0, false, true, h.two || major > 1
}

// restart waits for the next head, of HTTP/1. net/http also says of HTTP/2 that it is idle.
func (h *headBeginning) restart() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.two || bytes.HasPrefix(h.text[:h.n], []byte(preface2)) {
		return
	}
	if h.n = 0; h.early {
		h.n = 1
	}
	h.err, h.early, h.off = nil, false, false
}

// preface2 is what a connection of HTTP/2 begins with (RFC 9113 §3.4).
const preface2 = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

var errNoSettings = errors.New("bad preface of HTTP/2: want a SETTINGS frame behind it")

// take returns what has come that was no request, and why it is none; nil: nothing is wrong.
// refused: the client has an answer, otherwise the status is the one that nginx logs. secure:
// it has come by TLS.
func (h *headBeginning) take(secure bool) (line string, status int, refused bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.text[:h.n]
	line = firstLine(append([]byte(nil), b...))
	// net/http may also answer half a head that goes no further: nobody waits for that.
	answered := h.status != 0 && h.err == nil
	if h.off || !answered && (line == "" || errors.Is(h.err, net.ErrClosed)) {
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
	switch parsed := errors.As(err, &refusal); {
	case answered && (!parsed || refusal.Status != h.status):
		return line, h.status, true, wordsForGarbage(b, secure, fmt.Errorf("head of a request is refused: %s", h.phrase))
	case parsed:
		return line, refusal.Status, true, wordsForGarbage(b, secure, err)
	case errors.As(h.err, &late) && late.Timeout():
		status, err = http.StatusRequestTimeout, errHeadLate
	case h.err != nil:
		status, err = http.StatusBadRequest, errHeadShort
	default:
		return "", 0, false, nil // the plane has ended the connection
	}
	return line, status, false, wordsForGarbage(b, secure, err)
}

// Why there is no request.
var (
	errHeadLate  = errors.New("head of a request did not come in time")
	errHeadShort = errors.New("client left before the head of its request was complete")
)

// secureConn is a connection with TLS: a *tls.Conn, or one around it.
type secureConn interface {
	net.Conn
	ConnectionState() tls.ConnectionState
	CloseWrite() error
}

// heardConn is a connection with TLS and HTTP/1 of which a front hears what net/http does.
type heardConn struct {
	secureConn
	head headBeginning
}

func (c *heardConn) Read(b []byte) (int, error) {
	n, err := c.secureConn.Read(b)
	c.head.noteRead(b[:n], len(b), err)
	return n, err
}

func (c *heardConn) Write(b []byte) (int, error) {
	c.head.noteWrite(b)
	return c.secureConn.Write(b)
}

// hear returns the connection that a front gives to net/http in place of c. HTTP/2 within TLS
// stays as it is: net/http wants a *tls.Conn for that.
func hear(c net.Conn) net.Conn {
	switch w := c.(type) {
	case *proxiedConn:
		w.head = new(headBeginning)
	case secureConn:
		if w.ConnectionState().NegotiatedProtocol != "h2" {
			return &heardConn{secureConn: w}
		}
	}
	return c
}

// headOf returns what a front has heard of c; nil: nothing.
func headOf(c net.Conn) *headBeginning {
	switch c := c.(type) {
	case *proxiedConn:
		return c.head
	case *heardConn:
		return &c.head
	}
	return nil
}

// isGarbage reports whether r is a preface of HTTP/2 that has gone wrong, which net/http takes for
// a request, and ends its connection. Of every other request it forgets how it began.
func (f *httpFront) isGarbage(w http.ResponseWriter, r *http.Request) bool {
	o := ownerOf(r)
	if o == nil {
		return false
	}
	head := headOf(o.conn)
	switch {
	case head == nil:
		return false
	case !head.isPreface():
		head.handled(r.ProtoMajor)
		return false
	case head.isShort():
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
func (f *httpFront) noteGarbage(c net.Conn, head *headBeginning) {
	var secure *tls.ConnectionState
	if c, ok := c.(*heardConn); ok {
		state := c.ConnectionState()
		secure = &state
	}
	line, status, refused, err := head.take(secure != nil)
	if err == nil {
		return
	}
	h := f.plane.handler
	cfg, from := h.settings.Load(), newRequestOrigin(inet.AddrPort(c.RemoteAddr()), inet.AddrPort(c.LocalAddr()), secure)
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
