package lb

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/havip/havip/internal/inet"
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
	pause := acceptPause(0)
	for t.awaitRoom(ctx, ln.Addr(), time.Duration(pause)) {
		conn, err := ln.Accept()
		noteAccepted(conn, err)
		switch {
		case err == nil:
			pause = 0
			t.serveConn(work, conn)
		case ctx.Err() != nil:
			return nil
		case isTransient(err):
			// Connections wait in the backlog until others have ended.
			t.counters.pause(t.settings.Load().log, ln.Addr(), err, pause.lengthen())
		default:
			return fmt.Errorf("lb: accept on %s: %w", ln.Addr(), err)
		}
	}
	return nil
}

// acceptWithin bounds the wait for the connections of a backlog to be accepted.
const acceptWithin = time.Second

// acceptPause is how long accepting pauses after errors that follow one another.
type acceptPause time.Duration

// lengthen returns the next pause.
func (p *acceptPause) lengthen() time.Duration {
	*p = acceptPause(min(max(2*time.Duration(*p), 5*time.Millisecond), 200*time.Millisecond))
	return time.Duration(*p)
}

// pause counts a pause of accepting, and says why.
func (c *counters) pause(log *slog.Logger, listener net.Addr, err error, d time.Duration) {
	log.Warn("accept paused", "listener", listener, "err", err, "for", d)
	c.paused.Add(1)
}

// awaitRoom waits for pause, and until another connection may be accepted from a listener;
// false if ctx ended first.
func (t *TCP) awaitRoom(ctx context.Context, listener net.Addr, pause time.Duration) bool {
	c := &t.counters
	for waited := false; ; waited = true {
		if pause > 0 && !retry.Pause(ctx, pause) {
			return false
		}
		cfg := t.settings.Load()
		limit := cfg.Limits.Connections
		if err := crowdedError(); err != nil {
			pause = starvedFor
			c.pause(cfg.log, listener, err, pause)
			continue
		}
		if (limit == 0 || c.active.Load() < int64(limit)) && c.starved.Load() == 0 {
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
	t.counters.begin()
	now := time.Now()
	c := cfg.newConn(conn, now)
	go func() {
		defer t.sessions.remove(c) // last: Serve may return then
		// A connection of NewListener waits for its PROXY header here.
		c.origin = origin{client: inet.AddrPort(conn.RemoteAddr()), local: inet.AddrPort(conn.LocalAddr())}
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
