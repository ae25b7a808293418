package lb

import (
	"context"
	"log/slog"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/lb/internal/reactor"
)

// serveListener serves the connections of ln until ctx ends. Connections that are left
// then go on until they end, or work does.
func (t *TCP) serveListener(ctx, work context.Context, ln net.Listener) error {
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		return t.acceptConns(ctx, work, ln)
	}
	in, err := newIntake(tcp, &t.counters, &t.limiter, t.acceptRules)
	if err != nil {
		return err
	}
	e := &engine{plane: t, work: work}
	if e.loops, err = makeLoops(in, func() (*loop, error) { return newLoop(e, in) }); err != nil {
		return err
	}
	runLoops(&t.sessions, e, e.loops)
	return in.acceptUntil(ctx, ln)
}

// acceptRules are the settings that accepting needs.
func (t *TCP) acceptRules() (*Limits, *slog.Logger) {
	cfg := t.settings.Load()
	return &cfg.Limits, cfg.log
}

// cut ends the connections of servers.
func (e *engine) cut(gone servers) {
	for _, l := range e.loops {
		l.Post(func() {
			for _, k := range l.links {
				if k != nil && gone.end(k.pick) {
					k.cut(gone != nil)
				}
			}
		})
	}
}

func newLoop(e *engine, in *intake) (*loop, error) {
	l := &loop{e: e, scratch: make([]byte, scratchSize)}
	return l, l.join(in, l.openLink)
}

// openLink begins the life of an accepted connection, which is counted already.
func (l *loop) openLink(fd int32, peer netip.AddrPort) {
	cfg := l.e.plane.settings.Load()
	if !l.admit(&cfg.Limits, fd, peer.Addr()) {
		return
	}
	k := l.newLink()
	k.cfg, k.fd[0], k.fd[1], k.start, k.peer = cfg, fd, -1, l.Now(), peer.Addr()
	k.origin = origin{client: peer, pool: cfg.Pool}
	k.proxied = cfg.wantsProxy(peer.Addr())
	k.begin()
}

// run serves until accepting has stopped and the last connection has ended.
func (l *loop) run() {
	defer l.freeAll()
	for l.listener >= 0 || l.live.Load() > 0 {
		for _, ev := range l.Wait(l.deadline()) {
			if ev.Fd == placeListener {
				l.acceptSome()
			} else {
				l.noteEvent(ev)
			}
		}
		runq := l.runq
		l.runq = nil
		for _, k := range runq {
			k.queued = false
			k.handleEvents()
		}
		l.expireTimers()
	}
}

// deadline is when the loop has something to do, whatever happens.
func (l *loop) deadline() int64 {
	if len(l.runq) > 0 {
		return l.Now()
	}
	return min(l.timers.Next(), l.resumeAt)
}

// expireTimers ends what has waited for too long.
func (l *loop) expireTimers() {
	if l.Now() >= l.resumeAt {
		l.resumeAccepting()
	}
	for t := l.timers.Expired(l.Now()); t != nil; t = l.timers.Expired(l.Now()) {
		t.Owner.expireTimer()
	}
}

// noteEvent notes what epoll says about one side of a connection.
func (l *loop) noteEvent(ev reactor.Event) {
	slot, side := ev.Fd>>1, ev.Fd&1
	if int(slot) >= len(l.links) {
		return // as below
	}
	k := l.links[slot]
	if k == nil || k.mark[side] != ev.Pad {
		return // of a descriptor that was closed in this very round
	}
	const failure = unix.EPOLLHUP | unix.EPOLLERR
	if ev.Events&failure != 0 {
		// A hang-up is also what is left when both sides have ended in order. A client
		// that has sent everything and then resets, because it does not want the answer,
		// has not failed either.
		if side == 1 || !k.half[0].ending && (ev.Events&unix.EPOLLERR != 0 || !k.half[1].shut) {
			k.failed[side] = true
		}
		k.gone[side] = k.gone[side] || ev.Events&unix.EPOLLERR != 0
	}
	if r := k.tls[side]; r != nil {
		r.noteEvents(ev.Events)
	}
	if ev.Events&(unix.EPOLLIN|unix.EPOLLRDHUP|failure) != 0 {
		k.half[side].readable = true
	}
	if ev.Events&unix.EPOLLPRI != 0 {
		k.half[side].urgent = true
	}
	if ev.Events&(unix.EPOLLRDHUP|failure) != 0 {
		k.half[side].ending = true
	}
	if ev.Events&(unix.EPOLLOUT|failure) != 0 {
		k.half[1-side].writable = true
	}
	k.handleEvents()
}
