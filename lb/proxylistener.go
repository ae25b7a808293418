package lb

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

// proxiedConn is a connection of a Listener. It reads its PROXY header when it is first
// used, in the goroutine of the server that uses it: a slow sender must not hold up
// accepting.
type proxiedConn struct {
	prefaced
	gate *gate
	cfg  *gateSettings
	peer netip.Addr // whom Limits counts

	begin, end sync.Once
	origin     origin // of the header; zero: there is none, or it names nobody
	err        error  // there should have been one

	ahead atomic.Bool // the first byte of the next response has been written
}

// readOrigin reads the PROXY header, if one is due.
func (p *proxiedConn) readOrigin() (*origin, error) {
	p.begin.Do(func() {
		if !containsAddr(p.cfg.AcceptProxy, p.peer) {
			return
		}
		if p.early, p.err = readBeginning(p.Conn, defaultHandshakeTimeout, p.origin.parseProxy); p.err != nil {
			p.gate.counters.refused.Add(1)
			p.Conn.Close()
		}
	})
	return &p.origin, p.err
}

func (p *proxiedConn) Read(b []byte) (int, error) {
	if _, err := p.readOrigin(); err != nil {
		return 0, err
	}
	return p.prefaced.Read(b)
}

// Write leaves out the byte that sound has written.
func (p *proxiedConn) Write(b []byte) (int, error) {
	if len(b) == 0 || !p.ahead.Load() {
		return p.Conn.Write(b)
	}
	p.ahead.Store(false)
	n, err := p.Conn.Write(b[1:])
	return n + 1, err
}

// sound makes the peer show whether it still is there: it resets a connection that it has
// closed as soon as something comes. What comes is the byte with which each response of
// HTTP/1 begins, so that a peer which is there misses nothing. No response may be under
// way. A second call does nothing.
func (p *proxiedConn) sound() {
	if p.ahead.Load() {
		return
	}
	if n, _ := p.Conn.Write([]byte("H")); n > 0 {
		p.ahead.Store(true)
	}
}

func (p *proxiedConn) RemoteAddr() net.Addr {
	if o, _ := p.readOrigin(); o.client.IsValid() {
		return net.TCPAddrFromAddrPort(o.client)
	}
	return p.Conn.RemoteAddr()
}

func (p *proxiedConn) LocalAddr() net.Addr {
	if o, _ := p.readOrigin(); o.local.IsValid() {
		return net.TCPAddrFromAddrPort(o.local)
	}
	return p.Conn.LocalAddr()
}

func (p *proxiedConn) Close() error {
	p.end.Do(func() { p.gate.release(p.cfg, p.peer) })
	return p.Conn.Close()
}
