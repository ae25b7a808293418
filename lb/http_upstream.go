package lb

import (
	"bufio"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"time"
)

// maxResponseHeader bounds the header of a response, in bytes, together with
// the informational ones before it.
const maxResponseHeader = 64 << 10

// destination is what a kept connection is good for. The address alone will not do:
// two backends may share it and differ in the name that TLS verifies.
type destination struct {
	server  *server
	address string
	tls     *tls.Config
}

// upstream is a connection to a backend, used by one request at a time. http.Transport
// has no such thing to offer: it repeats requests by itself, and hands a connection
// on although its last response was followed by bytes that nobody asked for.
type upstream struct {
	net.Conn
	to   destination
	r    *bufio.Reader
	w    *bufio.Writer
	kept bool // It has served a request before.

	// Of the present request:
	timeout    time.Duration // silence that is accepted
	headerLeft int           // Bytes of response header still allowed; negative when it is over.
	heard      bool          // Something has come back.
	err        error         // Of the latest Read.
	sent       atomic.Bool   // The request is out: now silence counts.
	written    atomic.Int64  // Bytes of the request.

	// While idle:
	since  time.Time
	intact bool          // Nothing has come; valid once parked is closed.
	parked chan struct{} // Closed when nobody reads any more.
}

var errHeaderTooLong = errors.New("response header is too long")

// begin makes u ready for a request.
func (u *upstream) begin(timeout time.Duration) {
	u.timeout = timeout
	u.headerLeft, u.heard, u.err = maxResponseHeader, false, nil
	u.sent.Store(false)
	u.written.Store(0)
}

// over tells that the request is out, or as much of it as there will be: from now
// on the backend may not be silent for longer than the timeout.
func (u *upstream) over() {
	u.sent.Store(true)
	// For a Read that is waiting already.
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
	u.heard, u.err = u.heard || n > 0, err
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

// Close does not wait for a farewell to a TLS peer.
func (u *upstream) Close() error { return u.NetConn().Close() }

// NetConn returns the connection below TLS, as that of tls.Conn does.
func (u *upstream) NetConn() net.Conn { return innermost(u.Conn).(net.Conn) }

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}
