package lb

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// idleFor is how long a connection to a backend is kept without a request.
	idleFor = 30 * time.Second
	// freshFor is how long it may have been idle for a request that cannot be
	// repeated: a backend may be closing others at this very moment.
	freshFor = time.Second
	// maxIdle is how many are kept per backend.
	maxIdle = 1024
	// maxResponseHeader bounds the header of a response, in bytes, together with
	// the informational ones before it.
	maxResponseHeader = 64 << 10
)

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

// dial makes a connection to a picked backend.
func (g *generation) dial(ctx context.Context, pick Pick) (*upstream, error) {
	start := time.Now()
	c, err := g.dialer.connect(ctx, pick)
	if err != nil {
		return nil, err
	}
	pick.Connected(time.Since(start))
	u := &upstream{Conn: c, to: g.destination(pick)}
	u.r, u.w = bufio.NewReader(u), bufio.NewWriter(u)
	return u, nil
}

func (g *generation) destination(pick Pick) destination {
	return destination{pick.member.server, pick.Address(), g.dialer.tlsFor(pick)}
}

// idleConns are the connections to backends that wait for a request.
type idleConns struct {
	mu     sync.Mutex
	conns  map[destination][]*upstream // The one used last comes last.
	closed bool
}

// put keeps u, whose response has been read to its end.
func (i *idleConns) put(u *upstream) {
	u.kept, u.since, u.intact, u.parked = true, time.Now(), false, make(chan struct{})
	u.headerLeft = -1
	u.sent.Store(false)
	_ = u.SetReadDeadline(u.since.Add(idleFor))
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed || len(i.conns[u.to]) >= maxIdle {
		u.Close()
		return
	}
	if i.conns == nil {
		i.conns = make(map[destination][]*upstream)
	}
	i.conns[u.to] = append(i.conns[u.to], u)
	go i.watch(u)
}

// watch waits for what may come on an idle connection: its end, its time, and bytes
// that belong to no request. The next one must not take those for its response.
func (i *idleConns) watch(u *upstream) {
	_, err := u.r.Peek(1)
	u.intact = isTimeout(err)
	if i.remove(u) {
		u.Conn.Close()
	}
	close(u.parked)
}

// remove takes u out; false if someone else has.
func (i *idleConns) remove(u *upstream) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	l := i.conns[u.to]
	for at := len(l) - 1; at >= 0; at-- {
		if l[at] == u {
			i.set(u.to, append(l[:at], l[at+1:]...))
			return true
		}
	}
	return false
}

// set replaces the list of a destination. i.mu is held.
func (i *idleConns) set(to destination, l []*upstream) {
	if len(l) == 0 {
		delete(i.conns, to)
		return
	}
	i.conns[to] = l
}

// take returns a connection that has not been idle for longer than limit; nil if
// there is none.
func (i *idleConns) take(to destination, limit time.Duration) *upstream {
	for {
		u := i.last(to, limit)
		if u == nil {
			return nil
		}
		_ = u.SetReadDeadline(time.Unix(1, 0)) // Ends watch.
		<-u.parked
		if u.intact && u.SetReadDeadline(time.Time{}) == nil {
			return u
		}
		u.Close()
	}
}

func (i *idleConns) last(to destination, limit time.Duration) *upstream {
	i.mu.Lock()
	defer i.mu.Unlock()
	l := i.conns[to]
	if len(l) == 0 || time.Since(l[len(l)-1].since) > limit {
		return nil
	}
	u := l[len(l)-1]
	i.set(to, l[:len(l)-1])
	return u
}

// drop closes the connections to a server. It does not wait for anything.
func (i *idleConns) drop(server *server) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for to, l := range i.conns {
		if to.server == server {
			expire(l)
		}
	}
}

// close closes all connections, and keeps none any more.
func (i *idleConns) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = true
	for _, l := range i.conns {
		expire(l)
	}
}

// expire makes watch end, which closes the connections.
func expire(l []*upstream) {
	for _, u := range l {
		_ = u.SetReadDeadline(time.Unix(1, 0))
	}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}
