package lb

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/havip/havip/internal/retry"
)

// acceptConns serves the connections of ln in goroutines until ctx ends.
func (t *TCP) acceptConns(ctx, work context.Context, ln net.Listener) error {
	defer context.AfterFunc(ctx, func() {
		if l, ok := ln.(*Listener); ok {
			l.Finish()
		} else {
			ln.Close()
		}
	})()
	log := t.settings.Load().log
	pause, crowded := acceptPause(0), false
	for t.awaitRoom(ctx, time.Duration(pause), crowded) {
		conn, err := ln.Accept()
		switch {
		case err == nil:
			pause, crowded = 0, isLastAccepted(conn)
			t.serveConn(work, conn)
		case ctx.Err() != nil:
			return nil
		case isTransient(err):
			// Connections wait in the backlog until others have ended.
			log.Warn("accept paused", "listener", ln.Addr(), "err", err, "for", pause.lengthen())
			t.counters.paused.Add(1)
		default:
			return fmt.Errorf("lb: accept on %s: %w", ln.Addr(), err)
		}
	}
	return nil
}

// acceptPause is how long accepting pauses after errors that follow one another.
type acceptPause time.Duration

// lengthen returns the next pause.
func (p *acceptPause) lengthen() time.Duration {
	*p = acceptPause(min(max(2*time.Duration(*p), 5*time.Millisecond), 200*time.Millisecond))
	return time.Duration(*p)
}

// awaitRoom waits for pause, and until another connection may be accepted; false if ctx
// ended first. crowded says that the last one was accepted with one of the last
// descriptors.
func (t *TCP) awaitRoom(ctx context.Context, pause time.Duration, crowded bool) bool {
	c := &t.counters
	for waited := false; ; waited = true {
		if pause > 0 && !retry.Pause(ctx, pause) {
			return false
		}
		limit := t.settings.Load().Limits.Connections
		if (limit == 0 || c.active.Load() < int64(limit)) && c.starved.Load() == 0 && !(crowded && isCrowded()) {
			return true
		}
		if !waited {
			c.paused.Add(1)
		}
		pause = 5 * time.Millisecond
	}
}

// serveConn serves a connection in a goroutine. It is counted before that runs, and
// so before the next one is accepted.
func (t *TCP) serveConn(work context.Context, conn net.Conn) {
	cfg := t.settings.Load()
	t.counters.active.Add(1)
	t.counters.accepted.Add(1)
	now := time.Now()
	c := cfg.newConn(conn, now)
	go func() {
		defer t.sessions.remove(c) // last: Serve may return then
		// A connection of NewListener waits for its PROXY header here.
		c.origin = origin{client: addrPort(conn.RemoteAddr()), local: addrPort(conn.LocalAddr())}
		peer := c.origin.client.Addr()
		if t.limiter.admit(&cfg.Limits, peer, now) {
			defer cfg.leave(peer)
			c.serve(work)
			return
		}
		t.counters.refused.Add(1)
		c.close()
		t.counters.active.Add(-1)
	}()
}
