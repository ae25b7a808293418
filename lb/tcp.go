package lb

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync/atomic"
)

// TCP relays the connections of a listener to a pool.
//
// On Linux plain connections are relayed by one event loop per processor, which
// copies at first and splices what has proved to be bulk, 64 KB or more; an idle
// connection costs no buffer and no goroutine. Connections with TLS on either side
// begin in a goroutine, and go on in the loop after the handshakes. A program whose
// business is relaying should set GOMAXPROCS to twice the number of processors, as havip
// does: the loops then wait for events without the scheduler's help, which costs a third
// less. This package does not: the setting belongs to the whole program.
type TCP struct {
	settings atomic.Pointer[tcpSettings] // for new connections
	sessions registry
	limiter  limiter
	counters counters
	serving  atomic.Bool
}

// NewTCP returns a TCP that does not serve yet.
func NewTCP(cfg TCPConfig) (*TCP, error) { return configured(new(TCP), cfg) }

// Reconfigure makes connections that are accepted from now on use cfg; those that
// are established go on as they are. On error nothing changes.
func (t *TCP) Reconfigure(cfg TCPConfig) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("lb: TCP: %w", err)
	}
	for _, p := range append(slices.Collect(maps.Values(cfg.Routes)), cfg.Pool) {
		if p != nil {
			p.watchGone(&t.sessions)
		}
	}
	t.settings.Store(newTCPSettings(t, cfg))
	return nil
}

// Stats returns what t has done. It may be called at any time.
func (t *TCP) Stats() Stats { return t.counters.stats() }

// Serve accepts connections until ctx ends, then closes ln and lets those that are
// established finish within ShutdownTimeout. It returns when all of them have
// ended: nil after ctx ended, the listener's error otherwise. It closes ln whatever
// it returns. At the same time t serves one listener only: ErrServing. It may serve
// another one after that.
func (t *TCP) Serve(ctx context.Context, ln net.Listener) error {
	return t.ServeNext(ctx, ln, func(_ context.Context, err error) (net.Listener, error) { return nil, err })
}

// ServeNext is Serve, but where accepting fails for good, connections stay, and t goes on
// with the listener that next returns. next gets the error, and ln is closed by then. An
// error of next ends t as an error of the listener ends Serve.
func (t *TCP) ServeNext(ctx context.Context, ln net.Listener, next func(context.Context, error) (net.Listener, error)) error {
	if tcp, ok := ln.(*net.TCPListener); ln == nil || ok && tcp == nil {
		return errors.New("lb: TCP: listener nil: want one")
	}
	defer ln.Close()
	if !t.serving.CompareAndSwap(false, true) {
		return fmt.Errorf("lb: TCP on %s: %w", ln.Addr(), ErrServing)
	}
	defer t.serving.Store(false)
	t.sessions.open()
	// Connections outlive ctx; connecting stops with it only at the deadline.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	err := t.serveListener(ctx, work, ln)
	ln.Close()
	for err != nil && ctx.Err() == nil {
		if ln, err = next(ctx, err); err != nil {
			break
		}
		err = t.serveListener(ctx, work, ln)
		ln.Close()
	}
	if ctx.Err() != nil {
		err = nil
	}
	drain, cancel := context.WithTimeout(context.Background(), max(t.settings.Load().ShutdownTimeout, 0))
	defer cancel()
	defer context.AfterFunc(drain, stop)()
	t.sessions.drain(drain)
	return err
}
