package lb

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/havip/havip/internal/field"
)

// NewListener puts in front of ln what TCP does by itself, for servers such as
// http.Server: the trusted peers must begin each connection with a PROXY header,
// whose addresses the connection then has, and limits are kept. refused is called for
// each connection that is turned away; nil: nobody counts them. The error consists of
// FieldErrors.
func NewListener(ln net.Listener, trusted []netip.Prefix, limits Limits, refused func()) (net.Listener, error) {
	err := errors.Join(validatePrefixes("trusted", trusted), field.In("limits", limits.Validate()),
		field.If(ln == nil, "ln", "nil: want a listener"))
	if err != nil {
		return nil, fmt.Errorf("lb: listener: %w", err)
	}
	if refused == nil {
		refused = func() {}
	}
	return &listener{Listener: ln, trusted: trusted, limits: limits.WithDefaults(), refused: refused, closed: make(chan struct{}),
		slots: make(chan struct{}, cmp.Or(limits.Connections, maxCount))}, nil
}

type listener struct {
	net.Listener
	trusted []netip.Prefix
	limits  Limits
	limiter limiter
	refused func()
	slots   chan struct{} // one element for each connection
	once    sync.Once
	closed  chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		// First room, then a connection: without room it stays in the backlog.
		select {
		case l.slots <- struct{}{}:
		case <-l.closed:
			return nil, net.ErrClosed
		}
		c, err := l.Listener.Accept()
		if err != nil {
			<-l.slots
			return nil, err
		}
		peer := addrPort(c.RemoteAddr()).Addr()
		if !l.limiter.admit(&l.limits, peer, time.Now()) {
			c.Close()
			l.refused()
			<-l.slots
			continue
		}
		p := &proxiedConn{prefaced: prefaced{Conn: c}}
		p.origin = sync.OnceValues(func() (origin, error) { return l.readOrigin(p, peer) })
		p.done = sync.OnceFunc(func() { l.limiter.release(&l.limits, peer); <-l.slots })
		return p, nil
	}
}

// Close also ends an Accept that waits for room.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// readOrigin reads the PROXY header of a connection, if one is due.
func (l *listener) readOrigin(p *proxiedConn, peer netip.Addr) (o origin, err error) {
	if containsAddr(l.trusted, peer) {
		if p.early, err = readBeginning(p.Conn, defaultHandshakeTimeout, o.parseProxy); err != nil {
			l.refused()
			p.Conn.Close()
		}
	}
	return o, err
}

// proxiedConn reads its PROXY header when it is first used, in the goroutine of the
// server that uses it: a slow sender must not hold up accepting.
type proxiedConn struct {
	prefaced
	origin func() (origin, error) // of the header; zero: there is none, or it names nobody
	done   func()
}

func (p *proxiedConn) Read(b []byte) (int, error) {
	if _, err := p.origin(); err != nil {
		return 0, err
	}
	return p.prefaced.Read(b)
}

func (p *proxiedConn) RemoteAddr() net.Addr {
	if o, _ := p.origin(); o.client.IsValid() {
		return net.TCPAddrFromAddrPort(o.client)
	}
	return p.Conn.RemoteAddr()
}

func (p *proxiedConn) LocalAddr() net.Addr {
	if o, _ := p.origin(); o.local.IsValid() {
		return net.TCPAddrFromAddrPort(o.local)
	}
	return p.Conn.LocalAddr()
}

func (p *proxiedConn) Close() error {
	p.done()
	return p.Conn.Close()
}
