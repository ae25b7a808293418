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
		p := &proxiedConn{prefaced: prefaced{Conn: c}, proxied: containsAddr(l.trusted, peer), refused: l.refused}
		p.done = sync.OnceFunc(func() { l.limiter.release(&l.limits, peer); <-l.slots })
		return p, nil
	}
}

// Close also ends an Accept that waits for room.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// proxiedConn reads its PROXY header when it is first used, in the goroutine of the
// server that uses it: a slow sender must not hold up accepting.
type proxiedConn struct {
	prefaced
	proxied bool // a PROXY header is due
	refused func()
	once    sync.Once
	err     error
	origin  origin
	done    func()
}

func (p *proxiedConn) preface() {
	p.once.Do(func() {
		p.origin = origin{client: addrPort(p.Conn.RemoteAddr()), local: addrPort(p.Conn.LocalAddr())}
		if !p.proxied {
			return
		}
		if p.early, p.err = readBeginning(p.Conn, defaultHandshakeTimeout, p.origin.parseProxy); p.err != nil {
			p.refused()
			p.Conn.Close()
		}
	})
}

func (p *proxiedConn) Read(b []byte) (int, error) {
	if p.preface(); p.err != nil {
		return 0, p.err
	}
	return p.prefaced.Read(b)
}

func (p *proxiedConn) RemoteAddr() net.Addr {
	if p.preface(); !p.origin.client.IsValid() {
		return p.Conn.RemoteAddr()
	}
	return net.TCPAddrFromAddrPort(p.origin.client)
}

func (p *proxiedConn) LocalAddr() net.Addr {
	if p.preface(); !p.origin.local.IsValid() {
		return p.Conn.LocalAddr()
	}
	return net.TCPAddrFromAddrPort(p.origin.local)
}

func (p *proxiedConn) Close() error {
	p.done()
	return p.Conn.Close()
}
