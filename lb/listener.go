package lb

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/internal/inet"
)

// Listener puts in front of a net.Listener what TCP does by itself, for servers such as
// http.Server: peers that are trusted begin each connection with a PROXY header, whose
// addresses the connection then has; limits are kept; and an error of accepting that
// passes, such as a want of descriptors or memory, is waited for. Make one with
// [NewListener]. All methods may be called concurrently.
type Listener struct {
	net.Listener
	gate      *gate
	finishing atomic.Bool
	once      sync.Once
	closed    chan struct{}
}

// ListenerConfig configures a Listener. The zero value only waits for errors to pass.
type ListenerConfig struct {
	// AcceptProxy are the peers that begin each connection with a PROXY protocol
	// header, version 1 or 2, in front of TLS if there is TLS; a connection of theirs
	// without it is closed.
	AcceptProxy []netip.Prefix
	// Limits bounds connections.
	Limits Limits
	// TLS ends encryption here: Accept returns a *tls.Conn, which has not shaken hands yet.
	// nil: connections stay as they are.
	TLS *tls.Config
	// Logger gets what accepting waits for. Nothing waits for it. nil: silent.
	Logger *slog.Logger
}

// WithDefaults returns c with its zero fields filled in.
func (c ListenerConfig) WithDefaults() ListenerConfig {
	c.Limits = c.Limits.WithDefaults()
	return c
}

// Validate returns all that is wrong with c: FieldErrors, joined.
func (c ListenerConfig) Validate() error {
	return errors.Join(validatePrefixes("AcceptProxy", c.AcceptProxy), field.In("Limits", c.Limits.Validate()), validateServerTLS(c.TLS))
}

// gate is what the Listeners of one service have in common.
type gate struct {
	settings atomic.Pointer[gateSettings] // for new connections
	limiter  limiter
	counters counters

	mu    sync.Mutex    // guards what follows
	freed chan struct{} // closed when there may be a place; nil: nobody waits
}

// gateSettings are the settings of the connections that were accepted while they were
// current.
type gateSettings struct {
	ListenerConfig // with its defaults
	log            *slog.Logger
}

// NewListener returns a Listener that accepts the connections of ln.
func NewListener(ln net.Listener, cfg ListenerConfig) (*Listener, error) {
	if ln == nil {
		return nil, errors.New("lb: Listener: ln nil: want a listener")
	}
	return configured(newListener(ln, new(gate)), cfg)
}

func newListener(ln net.Listener, g *gate) *Listener {
	return &Listener{Listener: ln, gate: g, closed: make(chan struct{})}
}

// With returns a Listener that accepts the connections of another listener, with the
// settings of l, now and later. Limits hold for both together, and so does Stats.
func (l *Listener) With(ln net.Listener) *Listener { return newListener(ln, l.gate) }

// Reconfigure makes connections that are accepted from now on use cfg. The connections
// that there are count on. On error nothing changes.
func (l *Listener) Reconfigure(cfg ListenerConfig) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("lb: Listener: %w", err)
	}
	l.gate.configure(cfg)
	return nil
}

// Stats returns what l has done: Active, Accepted, Refused and Paused.
func (l *Listener) Stats() Stats { return l.gate.counters.stats() }

// Accept waits for the next connection.
func (l *Listener) Accept() (net.Conn, error) {
	g, pause := l.gate, acceptPause(0)
	for {
		// First room, then a connection: without room it stays in the backlog.
		if !l.awaitPlace() {
			return nil, net.ErrClosed
		}
		c, err := l.acceptNext()
		noteAccepted(c, err)
		cfg := g.settings.Load()
		if err == nil {
			pause = 0
			if p := g.admit(cfg, c); p != nil {
				return cfg.decrypt(p), nil
			}
			continue
		}
		g.leavePlace()
		switch {
		case l.isClosed():
			return nil, net.ErrClosed
		case l.finishing.Load() && isTimeout(err): // look for more
		case isTransient(err):
			d := pause.lengthen()
			g.counters.pause(cfg.log, l.Addr(), err, d)
			l.sleep(d)
		default:
			return nil, err
		}
	}
}

// decrypt returns c as servers get it, which know TLS by its type.
func (cfg *gateSettings) decrypt(c net.Conn) net.Conn {
	if cfg.TLS == nil {
		return c
	}
	return tlsServer(c, cfg.TLS)
}

// acceptNext accepts a connection. When l is finishing it closes l if there is none.
func (l *Listener) acceptNext() (net.Conn, error) {
	if l.finishing.Load() && (!hasPending(l.Listener) || l.setDeadline(time.Now().Add(pendingWithin)) != nil) {
		l.Close()
	}
	return l.Listener.Accept()
}

// pendingWithin bounds the wait for a connection that was in the backlog a moment ago:
// another listener of the same socket may be faster.
const pendingWithin = 50 * time.Millisecond

// awaitPlace waits for a place among Limits.Connections, and for a descriptor; false if l
// was closed first.
func (l *Listener) awaitPlace() bool {
	for !l.isClosed() {
		if err := crowdedError(); err != nil {
			l.gate.counters.pause(l.gate.settings.Load().log, l.Addr(), err, starvedFor)
			l.sleep(starvedFor)
			continue
		}
		freed := l.gate.takePlace()
		if freed == nil {
			return true
		}
		l.gate.counters.paused.Add(1)
		select {
		case <-freed:
		case <-l.closed:
		}
	}
	return false
}

// sleep waits, but not longer than until l is closed.
func (l *Listener) sleep(d time.Duration) {
	select {
	case <-time.After(d):
	case <-l.closed:
	}
}

// Close also ends an Accept that waits. Connections in the backlog are reset, if no other
// listener has the socket.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// Finish closes l when Accept has got all connections of the backlog, and does not wait
// for that: their clients have connections already. Whoever limits the time calls Close.
func (l *Listener) Finish() {
	l.finishing.Store(true)
	// An Accept may be waiting.
	if l.setDeadline(time.Unix(1, 0)) != nil {
		l.Close()
	}
}

// setDeadline sets until when Accept may wait.
func (l *Listener) setDeadline(t time.Time) error {
	if d, ok := l.Listener.(interface{ SetDeadline(time.Time) error }); ok {
		return d.SetDeadline(t)
	}
	return errors.ErrUnsupported
}

func (l *Listener) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

// configure makes connections that are accepted from now on use cfg, which is valid.
func (g *gate) configure(cfg ListenerConfig) {
	cfg = cfg.WithDefaults()
	cfg.AcceptProxy = slices.Clone(cfg.AcceptProxy)
	g.settings.Store(&gateSettings{cfg, limitedLog(cfg.Logger)})
	g.wake() // there may be more places
}

// takePlace takes the place of a connection. If there is none, it returns what is closed
// when there may be one.
func (g *gate) takePlace() (freed <-chan struct{}) {
	limit := g.settings.Load().Limits.Connections
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.counters.reserve(limit) {
		return nil
	}
	if g.freed == nil {
		g.freed = make(chan struct{})
	}
	return g.freed
}

// leavePlace gives a place back for which no connection has come.
func (g *gate) leavePlace() {
	g.counters.reserved.Add(-1)
	g.wake()
}

// wake has those look again who wait for a place.
func (g *gate) wake() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.freed != nil {
		close(g.freed)
		g.freed = nil
	}
}

// admit returns c, which has a place, as servers get it; nil if it was turned away.
func (g *gate) admit(cfg *gateSettings, c net.Conn) net.Conn {
	peer := inet.AddrPort(c.RemoteAddr()).Addr()
	if !g.limiter.admit(&cfg.Limits, peer, time.Now()) {
		g.counters.refused.Add(1)
		g.counters.accepted.Add(1)
		c.Close()
		g.leavePlace()
		return nil
	}
	g.counters.begin() // before the place is given back: nobody overlooks c
	g.counters.reserved.Add(-1)
	return &proxiedConn{prefaced: prefaced{Conn: c}, gate: g, cfg: cfg, peer: peer}
}

// release undoes what was counted of a connection that was admitted.
func (g *gate) release(cfg *gateSettings, peer netip.Addr) {
	g.limiter.release(&cfg.Limits, peer)
	g.counters.active.Add(-1)
	g.wake()
}
