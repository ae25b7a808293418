package lb

import (
	"context"
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
)

// TCP relays the connections of a listener to a pool. Set the fields before
// Serve and leave them alone after it; Replace changes them.
//
// On Linux plain connections are relayed by one event loop per processor, which
// copies at first and splices what has proved to be bulk, 64 KB or more; an idle
// connection costs no buffer and no goroutine. Connections with TLS on either side
// have goroutines of their own. A program whose business is relaying should set
// GOMAXPROCS to twice the number of processors, as havip does: the loops then wait
// for events without the scheduler's help, which costs a third less. This package
// does not: the setting belongs to the whole program.
type TCP struct {
	// Pool is where connections go. Required, unless Routes are given: then
	// connections that no route fits are closed if there is no Pool.
	Pool *Pool
	// Routes send TLS connections to a pool by their server name (SNI), without
	// decrypting them unless TLS is set: exact, or *.example.org for one label.
	// Names are in lower case.
	Routes map[string]*Pool
	// TLS terminates TLS. See Certificates.
	TLS *tls.Config
	// BackendTLS makes connections to backends use TLS. Without a ServerName the
	// host of the backend's address is verified.
	BackendTLS *tls.Config
	// AcceptProxy are the peers that begin each connection with a PROXY protocol
	// header, version 1 or 2; one of theirs without it is closed.
	AcceptProxy []netip.Prefix
	// SendProxy is the version of the PROXY header that backends get, 1 or 2. 0: none.
	SendProxy int
	// PrefaceTimeout bounds the wait for the PROXY header, the ClientHello and the
	// TLS handshake. Default 10 s.
	PrefaceTimeout time.Duration
	// ConnectTimeout bounds each attempt to reach a backend. Default 5 s.
	ConnectTimeout time.Duration
	// IdleTimeout ends a connection on which nothing moved in either direction
	// for so long. Default 10 min.
	IdleTimeout time.Duration
	// DrainTimeout is how long connections may go on after Serve's context
	// has ended, before they are cut. Default 30 s; negative: not at all.
	DrainTimeout time.Duration
	// Tries bounds the backends that are tried for a connection, 1 to 8. Default 3.
	Tries int
	// Limits bounds connections.
	Limits Limits
	// NoSplice copies bulk instead of splicing it.
	NoSplice bool
	// Record is told of each connection that has ended; it must not block.
	Record func(Record)
	// Logger gets failures to reach a backend. Nothing waits for it. nil: silent.
	Logger *slog.Logger

	log      *slog.Logger
	shared   atomic.Pointer[tcpShared] // See state.
	replaced atomic.Pointer[TCP]       // Whose fields count for new connections.
	conns    atomic.Int64              // Those that go by these fields.
}

// tcpShared is what a TCP and those that replace it have in common.
type tcpShared struct {
	sessions registry
	limiter  limiter
	counters counters

	mu      sync.Mutex
	configs []*TCP           // The current one, and those with connections.
	watched map[*Pool]func() // With the undo.
}

// state is what t shares with those that replace it.
func (t *TCP) state() *tcpShared {
	if s := t.shared.Load(); s != nil {
		return s
	}
	t.shared.CompareAndSwap(nil, new(tcpShared))
	return t.shared.Load()
}

// Validate checks t and fills in its defaults. Serve and Replace call it.
func (t *TCP) Validate() error {
	if err := t.validate(); err != nil {
		return fmt.Errorf("lb: TCP: %w", err)
	}
	return nil
}

func (t *TCP) validate() error {
	if t.Pool == nil && len(t.Routes) == 0 {
		return errors.New("no pool")
	}
	for name, p := range t.Routes {
		if name == "" || p == nil {
			return fmt.Errorf("route %q: no name or no pool", name)
		}
	}
	setDefault(&t.PrefaceTimeout, 10*time.Second)
	setDefault(&t.ConnectTimeout, 5*time.Second)
	setDefault(&t.IdleTimeout, 10*time.Minute)
	setDefault(&t.DrainTimeout, 30*time.Second)
	setDefault(&t.Tries, 3)
	switch {
	case t.PrefaceTimeout < 0:
		return fmt.Errorf("preface timeout %v: must not be negative", t.PrefaceTimeout)
	case t.ConnectTimeout < 0:
		return fmt.Errorf("connect timeout %v: must not be negative", t.ConnectTimeout)
	case t.IdleTimeout < 0:
		return fmt.Errorf("idle timeout %v: must not be negative", t.IdleTimeout)
	case t.Tries < 1 || t.Tries > maxTries:
		return fmt.Errorf("tries %d: want 1 to %d", t.Tries, maxTries)
	case t.SendProxy < 0 || t.SendProxy > 2:
		return fmt.Errorf("PROXY version %d: want 1 or 2, or 0 for none", t.SendProxy)
	}
	if t.TLS != nil && len(t.TLS.Certificates) == 0 && t.TLS.GetCertificate == nil && t.TLS.GetConfigForClient == nil {
		return errors.New("TLS without a certificate")
	}
	t.log = limitedLog(t.Logger)
	t.Limits = t.Limits.WithDefaults()
	return t.Limits.Validate()
}

// Replace makes connections that are accepted from now on use next's fields;
// those that are established go on as they are. next must not be served itself.
func (t *TCP) Replace(next *TCP) error {
	if err := next.Validate(); err != nil {
		return err
	}
	next.shared.Store(t.state())
	t.state().use(next, func() { t.replaced.Store(next) })
	return nil
}

// current is the configuration for new connections.
func (t *TCP) current() *TCP {
	if next := t.replaced.Load(); next != nil {
		return next
	}
	return t
}

// use makes next the current configuration, by means of publish: its pools, and those
// of connections that older ones have left, cut the sessions of backends that are gone.
func (s *tcpShared) use(next *TCP, publish func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.configs = slices.DeleteFunc(s.configs, func(t *TCP) bool { return t == next || t.conns.Load() == 0 })
	s.configs = append(s.configs, next)
	needed := make(map[*Pool]bool)
	for _, t := range s.configs {
		for _, p := range t.Routes {
			needed[p] = true
		}
		needed[t.Pool] = true
	}
	delete(needed, nil)
	if s.watched == nil {
		s.watched = make(map[*Pool]func())
	}
	for p := range needed {
		if s.watched[p] == nil {
			s.watched[p] = p.watchGone(s.sessions.cut)
		}
	}
	publish()
	for p, undo := range s.watched {
		if !needed[p] {
			undo()
			delete(s.watched, p)
		}
	}
}

// unwatch undoes watch.
func (s *tcpShared) unwatch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, undo := range s.watched {
		undo()
		delete(s.watched, p)
	}
}

// Stats returns what t has done. It may be called at any time.
func (t *TCP) Stats() Stats {
	return t.state().counters.stats()
}

// Serve is called once, with one listener. It accepts connections until ctx ends, then closes ln and lets those that
// are established finish within DrainTimeout. It returns when all of them have
// ended: nil after ctx ended, the listener's error otherwise.
func (t *TCP) Serve(ctx context.Context, ln net.Listener) error {
	defer ln.Close()
	if err := t.Validate(); err != nil {
		return err
	}
	t.state().use(t.current(), func() {})
	defer t.state().unwatch()
	// Connections outlive ctx; connecting stops with it only at the deadline.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	err := t.accept(ctx, work, ln)
	ln.Close()
	drain, cancel := context.WithTimeout(context.Background(), max(t.current().DrainTimeout, 0))
	defer cancel()
	defer context.AfterFunc(drain, stop)()
	t.state().sessions.drain(drain)
	return err
}

// addrPort is the IP address and port of a; zero if it has none.
func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}
