package lb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// isTransient tells whether accepting may work again later.
func isTransient(err error) bool {
	return starved(err) || isAny(err, syscall.ECONNABORTED, syscall.EINTR, syscall.EPROTO)
}

// starved tells whether something failed because this host is out of descriptors,
// memory or, ENOSPC, places in epoll instances. It goes away when other connections end.
func starved(err error) bool {
	return isAny(err, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ENOSPC)
}

func isAny(err error, errnos ...syscall.Errno) bool {
	return slices.ContainsFunc(errnos, func(e syscall.Errno) bool { return errors.Is(err, e) })
}

// Errors of an attempt to connect that was given up: because of the backend, or
// together with the connection.
var (
	errDown = errors.New("down or removed while connecting")
	errCut  = errors.New("cut")
)

// blame is how a failed attempt to connect counts: not against the backend if it
// failed for want of something on this side, or was given up.
func blame(err error) Result {
	if starved(err) || isAny(err, syscall.EADDRNOTAVAIL) || errors.Is(err, errDown) {
		return Neutral
	}
	return Failure
}

// starvedFor is how long a connection, or accepting, waits for descriptors or
// memory before it tries again.
const starvedFor = 50 * time.Millisecond

// starve waits for what this host is out of; false if ctx ended first.
func (c *counters) starve(ctx context.Context) bool {
	c.starved.Add(1)
	defer c.starved.Add(-1)
	return sleep(ctx, starvedFor)
}

// acceptLoop serves the connections of ln in goroutines until ctx ends.
func (t *TCP) acceptLoop(ctx, work context.Context, ln net.Listener) error {
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	log := t.settings.Load().log
	pause := time.Duration(0)
	for t.room(ctx, pause) {
		conn, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
			t.accepted(work, conn)
		case ctx.Err() != nil:
			return nil
		case isTransient(err):
			// Connections wait in the backlog until others have ended.
			pause = min(max(2*pause, 5*time.Millisecond), 200*time.Millisecond)
			log.Warn("accept paused", "listener", ln.Addr(), "err", err, "for", pause)
			t.counters.paused.Add(1)
		default:
			return fmt.Errorf("lb: accept on %s: %w", ln.Addr(), err)
		}
	}
	return nil
}

// room waits for pause, and until another connection may be accepted; false if ctx
// ended first.
func (t *TCP) room(ctx context.Context, pause time.Duration) bool {
	c := &t.counters
	for waited := false; ; waited = true {
		if pause > 0 && !sleep(ctx, pause) {
			return false
		}
		limit := t.settings.Load().Limits.Connections
		if (limit == 0 || c.active.Load() < int64(limit)) && c.starved.Load() == 0 {
			return true
		}
		if !waited {
			c.paused.Add(1)
		}
		pause = 5 * time.Millisecond
	}
}

// accepted serves a connection in a goroutine. It is counted before that runs, and
// so before the next one is accepted.
func (t *TCP) accepted(work context.Context, conn net.Conn) {
	cfg := t.settings.Load()
	t.counters.active.Add(1)
	t.counters.accepted.Add(1)
	cfg.conns.Add(1)
	now := time.Now()
	c := cfg.newConn(conn, now)
	go func() {
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
		t.sessions.remove(c)
		cfg.conns.Add(-1)
		t.counters.active.Add(-1)
	}()
}

// leave undoes what was counted of a connection when it was accepted.
func (cfg *tcpSettings) leave(peer netip.Addr) {
	cfg.conns.Add(-1)
	cfg.plane.counters.active.Add(-1)
	cfg.plane.limiter.release(&cfg.Limits, peer)
}

// sleep waits for d; false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
