package lb

import (
	"net"
	"net/netip"
	"sync"
)

// proxiedConn is a connection of a Listener. It reads its PROXY header when it is first
// used, in the goroutine of the server that uses it: a slow sender must not hold up
// accepting.
type proxiedConn struct {
	prefaced
	gate *gate
	cfg  *gateSettings
	peer netip.Addr // whom Limits counts

	head *headBeginning // of what net/http reads for a front; nil: for somebody else

	begin, end sync.Once
	origin     origin // of the header; zero: there is none, or it names nobody
	err        error  // there should have been one

	mu    sync.Mutex // guards what follows; nothing waits while it is held
	begun bool       // something of the response under way has been written
	ahead bool       // its first byte has been, by sound
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
	_, err := p.readOrigin()
	n := 0
	if err == nil {
		n, err = p.prefaced.Read(b)
	}
	if p.head != nil {
		p.head.noteRead(b[:n], len(b), err)
	}
	return n, err
}

// Write leaves out the byte that sound has written.
func (p *proxiedConn) Write(b []byte) (int, error) {
	if p.head != nil {
		p.head.noteWrite(b)
	}
	if len(b) == 0 || !p.beginWrite() {
		return p.Conn.Write(b)
	}
	n, err := p.Conn.Write(b[1:])
	return n + 1, err
}

// beginWrite reports whether the first byte of what is written next has been written.
func (p *proxiedConn) beginWrite() (ahead bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ahead, p.begun, p.ahead = p.ahead, true, false
	return ahead
}

// inResponse reports whether a response has begun and not ended, as far as p knows.
func (p *proxiedConn) inResponse() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.begun
}

// endResponse tells p that what was written is whole responses.
func (p *proxiedConn) endResponse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun = false
}

// sound makes the peer show whether it still is there: it resets a connection that it has
// closed as soon as something comes. What comes is the byte with which each response of
// HTTP/1 begins, so that a peer which is there misses nothing. Nothing happens while a
// response is under way, maybe one that somebody else writes, where there is no room, and
// at a second call.
func (p *proxiedConn) sound() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.begun && !p.ahead {
		p.ahead = sendAtOnce(p, 'H')
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
