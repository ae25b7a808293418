package lb

import (
	"slices"
	"time"

	"golang.org/x/sys/cpu"

	"github.com/havip/havip/lb/internal/reactor"
)

// httpLoop owns some of the connections of an HTTP plane, and connections to backends for
// them; all but Post runs in its goroutine. What loops share is the policy: settings, pool and
// counters.
type httpLoop struct {
	acceptor
	e         *httpEngine
	greetings greetings

	socks  []*sock     // by slot; nil: unused
	unused []int32     // slots
	serial int32       // of the latest mark
	runq   []*httpConn // with more to do than one turn allows
	spareq []*httpConn // memory of the runq before
	effort int         // of compression, since the latest look at all sockets
	timers reactor.Timers[timed]
	idle   map[*server]*keptConns
	owned  map[*keptConns]struct{} // those of clients that are not empty

	scratch []byte // what is read goes here, with room before and behind it
	tls     tlsBuffers
	out     []byte // what is being made for a write
	heads   [][]byte
	turns   []*httpTurn
	pipes   []reactor.Pipe // not in use
	piping  int            // all there are
	box     outbox

	date    string // of the second dateOf
	dateOf  int64
	closing bool // connections to backends are not kept any more
	leaving bool // those of clients are not kept without a request

	_ cpu.CacheLinePad // loops are made side by side
}

// timed is what waits for a deadline.
type timed interface{ expireTimer() }

// newHTTPLoop returns a loop that accepts with others.
func newHTTPLoop(e *httpEngine, in *intake) (*httpLoop, error) {
	l := &httpLoop{e: e, idle: make(map[*server]*keptConns)}
	l.greetings.loop = l
	l.scratch = make([]byte, headroom+scratchSize+tailroom)
	if err := l.join(in, l.openHTTP); err != nil {
		return nil, err
	}
	return l, nil
}

// run serves until accepting has stopped and the last connection has ended.
func (l *httpLoop) run() {
	defer l.freeAll()
	for l.listener >= 0 || l.live.Load() > 0 {
		events := l.Wait(l.deadline())
		l.box.open = len(events)+len(l.runq) >= l.e.dueFrom
		for _, ev := range events {
			switch {
			case ev.Fd == placeListener:
				l.acceptSome()
			case ev.Fd < placeListener:
				l.greetings.read(ev)
			default:
				l.noteEvent(ev)
			}
		}
		l.effort = 0 // events alone do not keep the runq waiting
		l.runSome()
		l.effort = 0
		l.closeOutbox() // first: who waits for its end is not late
		l.expireTimers()
	}
}

// runSome has those go on that have more to do. Who has to wait for the next round comes first in
// that.
func (l *httpLoop) runSome() {
	runq := l.runq
	l.runq = l.spareq[:0]
	for i, c := range runq {
		if l.effort >= roundEffort {
			l.runq = slices.Insert(l.runq, 0, runq[i:]...)
			clear(runq[i:])
			break
		}
		runq[i] = nil
		c.queued = false
		c.handleEvents()
	}
	l.spareq = runq
}

// deadline is when the loop has something to do, whatever happens.
func (l *httpLoop) deadline() int64 {
	if len(l.runq) > 0 {
		return l.Now()
	}
	return min(l.timers.Next(), l.greetings.timers.Next(), l.resumeAt)
}

// expireTimers ends what has waited for too long.
func (l *httpLoop) expireTimers() {
	if l.Now() >= l.resumeAt {
		l.resumeAccepting()
	}
	l.greetings.expire()
	for t := l.timers.Expired(l.Now()); t != nil; t = l.timers.Expired(l.Now()) {
		t.Owner.expireTimer()
	}
}

// noteEvent notes what epoll says about a socket, and has its owner go on.
func (l *httpLoop) noteEvent(ev reactor.Event) {
	if int(ev.Fd) >= len(l.socks) {
		return // as below
	}
	s := l.socks[ev.Fd]
	if s == nil || s.mark != ev.Pad {
		return // of a socket that was closed in this very round
	}
	s.note(ev.Events)
	s.owner.handleEvents()
}

// later has c go on when others have had their turn.
func (l *httpLoop) later(c *httpConn) {
	if !c.queued {
		c.queued = true
		l.runq = append(l.runq, c)
	}
}

// time returns the present time, as of the last Wait.
func (l *httpLoop) time() time.Time { return reactor.Time(l.Now()) }

// cut ends the connections of servers.
func (l *httpLoop) cut(gone servers) {
	if gone == nil {
		l.greetings.dismissAll()
	}
	l.closing = l.closing || gone == nil
	l.dropIdle(gone)
	for _, s := range l.socks {
		if s == nil {
			continue
		}
		if c, ok := s.owner.(*httpConn); ok {
			switch {
			case gone == nil:
				c.cut(false)
			case c.bound != nil && gone.has(c.bound.to.server):
				c.bound.drop()
				c.bound = nil
			}
			if gone != nil && c.t != nil && gone.end(c.t.x.pick) {
				c.cut(true)
			}
		}
	}
}

// endIdle ends the connections that have had a request and wait for the next one, now and
// later.
func (l *httpLoop) endIdle() {
	l.leaving = true
	for _, s := range l.socks {
		if s == nil {
			continue
		}
		if c, ok := s.owner.(*httpConn); ok && c.state == connHead {
			c.readHead()
		}
	}
}

// freeAll gives up what a loop holds that does not run (any more).
func (l *httpLoop) freeAll() {
	l.dropIdle(nil)
	if l.box.ring != nil {
		l.box.ring.Close()
	}
	l.Close()
	for _, p := range l.pipes {
		p.Close()
	}
}
