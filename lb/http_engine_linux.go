package lb

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/havip/havip/lb/internal/reactor"
)

// httpEngine serves connections in event loops, one per processor.
type httpEngine struct {
	plane   *HTTP
	leaving *atomic.Bool    // of the plane: connections end with their present requests
	work    context.Context // ends when connections must end
	loops   []*httpLoop
	dueFrom int // see dueFrom
}

// settings are those of requests that begin now.
func (e *httpEngine) settings() *handlerSettings { return e.plane.handler.settings.Load() }

// conns are the settings of connections that count now.
func (e *httpEngine) conns() *httpSettings { return e.plane.settings.Load() }

// count counts requests.
func (e *httpEngine) count() *counters { return &e.plane.handler.counters }

// sessions knows what the pool, and the end of the plane, must cut.
func (e *httpEngine) sessions() *registry { return &e.plane.handler.sessions }

// inLoops reports whether requests with these settings are served here: see loopable.
func (e *httpEngine) inLoops(cfg *handlerSettings) bool {
	return cfg.inLoops && !cfg.Pool.snap.Load().again
}

// serveListener serves the connections of ln until ctx ends. Connections that are left
// then go on until they end, or work does.
func (p *HTTP) serveListener(ctx, work context.Context, ln net.Listener) error {
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		return p.acceptConns(ctx, work, ln)
	}
	in, err := newIntake(tcp, &p.gate.counters, &p.gate.limiter, p.acceptRules)
	if err != nil {
		return err
	}
	in.ending = func() { p.leaving.Store(true) } // who is still in the backlog gets one answer
	e := &httpEngine{plane: p, leaving: &p.leaving, work: work, dueFrom: dueFrom}
	if e.loops, err = makeLoops(in, func() (*httpLoop, error) { return newHTTPLoop(e, in) }); err != nil {
		return err
	}
	runLoops(&p.handler.sessions, e, e.loops)
	return in.acceptUntil(ctx, ln)
}

// cut ends the connections of servers.
func (e *httpEngine) cut(gone servers) {
	for _, l := range e.loops {
		l.Post(func() { l.cut(gone) })
	}
}

// endIdle ends the connections that have had a request and wait for the next one.
func (e *httpEngine) endIdle() {
	for _, l := range e.loops {
		l.Post(l.endIdle)
	}
}

// arrival is a connection whose client has said nothing as yet, but for a PROXY header.
type arrival struct {
	fd     int32
	cfg    *httpSettings // of the time when it was accepted
	peer   netip.Addr    // whom Limits counts; the origin may name another
	origin origin        // local is zero if nobody has looked
	early  []byte        // what has been read
}

// openHTTP begins the life of an accepted connection, which is active already.
func (l *httpLoop) openHTTP(fd int32, peer netip.AddrPort) {
	cfg := l.e.plane.settings.Load()
	if !l.admit(&cfg.gate.Limits, fd, peer.Addr()) {
		return
	}
	l.live.Add(1)
	a := arrival{fd: fd, cfg: cfg, peer: peer.Addr(), origin: origin{client: peer}}
	if containsAddr(cfg.gate.AcceptProxy, a.peer) {
		l.greetings.await(a)
	} else {
		l.welcome(a)
	}
}

// welcome serves a connection whose PROXY header has been read, if there is one.
func (l *httpLoop) welcome(a arrival) {
	if a.cfg.tls != nil {
		l.handOff(a, movedSock{fd: a.fd}, func(f *httpFront, c net.Conn) { l.e.plane.secure(l.e.work, f, c, a.cfg, l.adoptTLS(a)) })
		return
	}
	l.openConn(a)
}

// dismiss closes a connection of which nothing has come that counts.
func (l *httpLoop) dismiss(a arrival) {
	reactor.Close(a.fd)
	l.e.plane.gate.release(a.cfg.gate, a.peer)
	l.live.Add(-1)
}

// handOver has net/http go on with a connection that the loop does not watch any more.
func (l *httpLoop) handOver(a arrival, m movedSock) {
	l.handOff(a, m, func(f *httpFront, c net.Conn) { f.give(c) })
}

// handOff gives a connection to a goroutine, which calls use. The loop stays until that has
// ended.
func (l *httpLoop) handOff(a arrival, m movedSock, use func(*httpFront, net.Conn)) {
	p := l.e.plane
	front := p.useFront()
	go func() {
		defer l.Post(func() { l.live.Add(-1) })
		conn, err := m.socket(l.e.work, &p.gate.counters, time.Now().Add(a.cfg.IdleTimeout))
		if err != nil {
			a.cfg.gate.log.Warn("connection not served", "client", a.origin.client, "err", err)
			p.gate.release(a.cfg.gate, a.peer)
			front.leave()
			return
		}
		c := &proxiedConn{prefaced: prefaced{Conn: conn}, gate: &p.gate, cfg: a.cfg.gate, peer: a.peer, origin: a.origin}
		c.begin.Do(func() {}) // there is no header (any more)
		if m.tls != nil {
			use(front, m.over(c, a.early))
			return
		}
		c.early = a.early
		use(front, c)
	}()
}
