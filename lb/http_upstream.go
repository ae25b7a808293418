package lb

import (
	"bufio"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/havip/havip/lb/internal/h2"
)

// maxResponseHeader bounds the header of a response in bytes, together with the
// informational responses before it.
const maxResponseHeader = 64 << 10

// destination says for which requests a kept connection may be used. The address alone
// does not: two backends may share an address and differ in the name that TLS verifies.
type destination struct {
	server  *server
	address string
	tls     *tls.Config
	header  string      // PROXY header that it begins with; empty: none
	owner   *clientConn // whose requests alone may use it; nil: anybody's
	login   bool        // because it is authenticated as the owner
}

// upstream is a connection to a backend, used by one request at a time. http.Transport
// will not do: it repeats requests by itself, and uses a connection again although the
// last response was followed by bytes that nobody asked for.
type upstream struct {
	net.Conn
	below *frankConn // which TLS reads
	to    destination
	r     *bufio.Reader
	w     *bufio.Writer

	stream *h2.Stream  // of HTTP/2; nil: it is a connection of HTTP/1.1
	shared *sharedConn // which stream is a part of

	greeting string // that goes out ahead of the first request; empty: none, or it has

	// During a request.
	timeout    time.Duration // silence that is accepted
	headerLeft int           // bytes of response header still allowed; negative after the header
	heard      bool          // something has come back
	filled     bool          // the latest Read did not find the end of what had come
	err        error         // of the latest Read
	sent       atomic.Bool   // the request is out: now silence counts
	written    atomic.Int64  // bytes of the request
	reader     *handling     // that passes the body on as it comes; nil: nobody does

	// While idle.
	since  time.Time
	intact bool          // nothing has come; valid once parked is closed
	parked chan struct{} // closed when watchConn has ended
}

// newUpstream returns an upstream that needs beginRequest before its first use.
func newUpstream(c net.Conn, to destination) *upstream {
	below := frankBelow(c)
	if below == nil {
		below = &frankConn{Conn: c}
		c = below
	}
	u := &upstream{Conn: c, below: below, to: to}
	below.awaiting = u.flushOwed
	u.r, u.w = bufio.NewReader(u), bufio.NewWriter(u)
	return u
}

var errHeaderTooLong = errors.New("response header is too long")

// beginRequest prepares u for a request.
func (u *upstream) beginRequest(timeout time.Duration) {
	u.timeout = timeout
	u.headerLeft, u.heard, u.err = maxResponseHeader, false, nil
	u.written.Store(0)
}

// expectAnswer is called when the request is out, or as much of it as will be sent: from
// now on the backend may not be silent for longer than the timeout.
func (u *upstream) expectAnswer() {
	u.sent.Store(true)
	// A Read may be waiting already.
	_ = u.SetReadDeadline(time.Now().Add(u.timeout))
}

func (u *upstream) Read(p []byte) (int, error) {
	if u.headerLeft == 0 {
		u.err = errHeaderTooLong
		return 0, u.err
	}
	if u.headerLeft > 0 {
		p = p[:min(len(p), u.headerLeft)]
	}
	if u.sent.Load() {
		_ = u.SetReadDeadline(time.Now().Add(u.timeout))
	}
	n, err := u.Conn.Read(p)
	u.heard, u.filled, u.err = u.heard || n > 0, n == len(p), err
	if u.headerLeft > 0 {
		u.headerLeft -= n
	}
	return n, err
}

func (u *upstream) Write(p []byte) (int, error) {
	_ = u.SetWriteDeadline(time.Now().Add(u.timeout))
	n, err := u.Conn.Write(p)
	u.written.Add(int64(n))
	return n, err
}

// hasSent reports whether the backend may have begun to look at the request. It has not if it says
// so, however much has gone out. It may say so while the upload is still about to count.
func (u *upstream) hasSent() bool {
	return u.written.Load() > 0 && (u.stream == nil || !u.stream.Unprocessed())
}

// flushOwed lets the client have what it is owed before the backend is awaited. It is called
// below TLS, which may have what is read next already, or a half of it.
func (u *upstream) flushOwed() error {
	if u.reader == nil || !u.reader.owed || u.below.hasMore() {
		return nil
	}
	return u.reader.flush()
}

// hasMore reports whether it is known that a Read would not wait.
func (u *upstream) hasMore() bool { return u.filled && u.to.tls == nil && u.below.hasMore() }

// isTorn reports whether the end that a Read has found is the connection's alone, and not one of
// its TLS: whoever cuts the connection off can make it. What has no other end is incomplete then
// (RFC 9112 §9.8).
func (u *upstream) isTorn() bool { return u.to.tls != nil && u.below.ended }

// Close does not wait until a TLS peer has taken a farewell.
func (u *upstream) Close() error { return u.NetConn().Close() }

// NetConn returns the connection below TLS, as that of tls.Conn does.
func (u *upstream) NetConn() net.Conn { return innermost(u.Conn).(net.Conn) }

// isTimeout reports whether something took too long.
func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}
