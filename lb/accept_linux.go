package lb

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/lb/internal/reactor"
)

func (l *loop) watchListener() unix.Errno {
	return l.Watch(l.listener, reactor.Acceptable, placeListener, 0)
}

// acceptBatch is how many connections a loop accepts before it serves its other
// connections again. backlogMax is more than any backlog that somaxconn usually allows.
const acceptBatch, backlogMax = 32, 8192

// acceptSome accepts connections, but not so many that the other connections of this
// loop would wait for long. It reports whether there may be more.
func (l *loop) acceptSome() bool {
	cfg := l.e.plane.settings.Load()
	c := &l.e.plane.counters
	defer l.yieldListener()
	for range acceptBatch {
		if l.listener < 0 || l.resumeAt != reactor.Never {
			return false
		}
		// Those that are accepted already come first.
		if c.starved.Load() > 0 {
			l.pauseAccepting(starvedFor, nil)
			return false
		}
		if !c.reserve(cfg.Limits.Connections) {
			l.pauseAccepting(5*time.Millisecond, nil)
			return false
		}
		if reactor.Crowded() {
			c.reserved.Add(-1)
			l.pauseAccepting(starvedFor, unix.EMFILE)
			return false
		}
		fd, peer, errno := l.Accept(l.listener)
		if errno == 0 {
			c.active.Add(1)
		}
		c.reserved.Add(-1)
		switch {
		case errno == 0:
			l.openLink(fd, peer)
		case errno == unix.EAGAIN:
			return false
		case errno == unix.ECONNABORTED || errno == unix.EINTR || errno == unix.EPROTO || errno == unix.EPERM:
		case starved(errno):
			l.pauseAccepting(starvedFor, errno)
			return false
		case !isTransient(errno):
			l.e.fail(errno)
			l.pauseAccepting(starvedFor, errno)
			return false
		default:
			// The network's own errors, which accept(2) says to treat like EAGAIN.
			l.pauseAccepting(5*time.Millisecond, errno)
			return false
		}
	}
	return true
}

// yieldListener lets a loop that has clearly fewer connections accept the next one.
// The kernel wakes the loop that has waited for the listener longest. Unless a loop
// steps back in the line, connections that arrive one by one all become its own. A busy
// loop does not wait for the listener, so no connection waits for a busy loop.
func (l *loop) yieldListener() {
	if l.listener < 0 || l.resumeAt != reactor.Never {
		return
	}
	mine := l.live.Load()
	for _, other := range l.e.loops {
		if other.live.Load() < mine-mine/8 {
			l.Unwatch(l.listener)
			l.resumeAccepting()
			return
		}
	}
}

// pauseAccepting leaves connections in the backlog for a while.
func (l *loop) pauseAccepting(d time.Duration, reason error) {
	if reason != nil {
		l.e.plane.settings.Load().log.Warn("accept paused", "err", explain(reason), "for", d)
	}
	l.e.plane.counters.paused.Add(1)
	l.Unwatch(l.listener)
	l.resumeAt = l.Now() + int64(d)
}

func (l *loop) resumeAccepting() {
	l.resumeAt = reactor.Never
	if errno := l.watchListener(); errno != 0 {
		l.pauseAccepting(50*time.Millisecond, errno)
	}
}

// stopAccepting accepts the whole backlog and then nothing more. The clients in the
// backlog have connections already, which closing the listener would reset.
func (l *loop) stopAccepting() {
	for i := 0; i < backlogMax/acceptBatch && l.acceptSome(); i++ {
	}
	if l.resumeAt == reactor.Never {
		l.Unwatch(l.listener)
	}
	l.listener, l.resumeAt = -1, reactor.Never
}

// openLink begins the life of an accepted connection, which is counted already.
func (l *loop) openLink(fd int32, peer netip.AddrPort) {
	cfg := l.e.plane.settings.Load()
	c := &cfg.plane.counters
	c.accepted.Add(1)
	if !cfg.plane.limiter.admit(&cfg.Limits, peer.Addr(), reactor.Time(l.Now())) {
		c.refused.Add(1)
		c.active.Add(-1)
		reactor.Close(fd)
		return
	}
	k := l.newLink()
	k.cfg, k.fd[0], k.fd[1], k.start, k.peer = cfg, fd, -1, l.Now(), peer.Addr()
	k.origin = origin{client: peer, pool: cfg.Pool}
	k.proxied = cfg.wantsProxy(peer.Addr())
	k.begin()
}
