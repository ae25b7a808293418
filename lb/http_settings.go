package lb

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync/atomic"
	"time"
)

// generation is a configuration of a Handler, with its defaults. Requests end by the
// configuration with which they began.
type generation struct {
	HandlerConfig
	log     *slog.Logger
	dialer  dialer
	idle    *idleConns
	users   atomic.Int64 // requests, and the Handler while the generation is its current one
	unwatch func()       // called by the last user
}

// Reconfigure makes requests that begin from now on go by cfg. Stats go on. Idle
// connections to backends stay, unless Pool or BackendTLS is another one or there is a
// Dial. After an error nothing has changed; after Shutdown the error is ErrClosed.
func (h *Handler) Reconfigure(cfg HandlerConfig) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("lb: Handler: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return fmt.Errorf("lb: Handler: %w", ErrClosed)
	}
	cfg = cfg.WithDefaults()
	// The caller may change his before the next Reconfigure.
	cfg.RequestHeaders, cfg.ResponseHeaders = maps.Clone(cfg.RequestHeaders), maps.Clone(cfg.ResponseHeaders)
	next := &generation{
		HandlerConfig: cfg,
		log:           limitedLog(cfg.Logger),
		dialer:        dialer{timeout: cfg.ConnectTimeout, tls: cfg.BackendTLS, dial: cfg.Dial},
		idle:          new(idleConns),
	}
	prev := h.current.Load()
	keep := prev != nil && prev.Pool == cfg.Pool && prev.BackendTLS == cfg.BackendTLS && prev.Dial == nil && cfg.Dial == nil
	if keep {
		next.idle = prev.idle
	}
	next.unwatch = cfg.Pool.watchGone(func(s *server) {
		h.sessions.cut(s)
		next.idle.drop(s)
	})
	h.replace(next)
	if prev != nil && !keep {
		prev.idle.close()
	}
	return nil
}

// replace makes next the current generation. h.mu is held.
func (h *Handler) replace(next *generation) {
	next.users.Store(1)
	if prev := h.current.Swap(next); prev != nil {
		prev.leave()
	}
}

// enter returns the current generation for a request, which must leave it.
func (h *Handler) enter() *generation {
	for {
		g := h.current.Load()
		// Without users g has ended: there is another one.
		for n := g.users.Load(); n > 0; n = g.users.Load() {
			if g.users.CompareAndSwap(n, n+1) {
				return g
			}
		}
	}
}

// leave takes a user from g, which ends with the last one.
func (g *generation) leave() {
	if g.users.Add(-1) == 0 {
		g.unwatch()
	}
}

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
