package lb

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/lb/internal/reactor"
)

// intake is what the event loops of a listener have in common. All of them wait for the one
// listener (EPOLLEXCLUSIVE). With a listener for each loop (SO_REUSEPORT) the kernel would
// deal connections out by their hash, to a busy loop as well as to an idle one; the backlog
// of a loop that ends would be lost; and a second program could take a part of the
// traffic without any error. The kernel always wakes the loop that has waited longest:
// [acceptor.yieldListener] makes up for that.
type intake struct {
	counters *counters
	limiter  *limiter
	rules    func() (*Limits, *slog.Logger) // those that count now
	ending   func()                         // is called when no more is accepted soon; nil: nothing is
	fd       int32                          // of the listener
	loops    []*acceptor
	failed   chan error // of the listener; has room for one
}

// newIntake returns an intake of ln that has no loops yet. It must end with close.
func newIntake(ln *net.TCPListener, c *counters, l *limiter, rules func() (*Limits, *slog.Logger)) (*intake, error) {
	fd, err := dupFD(ln)
	if err != nil {
		return nil, fmt.Errorf("lb: listener %s: %w", ln.Addr(), err)
	}
	prepareListener(fd) // it may not come from Listen
	return &intake{counters: c, limiter: l, rules: rules, fd: fd, failed: make(chan error, 1)}, nil
}

// runner is an event loop with an acceptor.
type runner interface {
	run()
	freeAll() // gives up what a loop holds that does not run (any more)
}

// makeLoops returns what makeLoop makes for each processor.
func makeLoops[L runner](in *intake, makeLoop func() (L, error)) ([]L, error) {
	var loops []L
	for range min(runtime.GOMAXPROCS(0), runtime.NumCPU()) {
		l, err := makeLoop()
		if err != nil {
			for _, l := range loops {
				l.freeAll()
			}
			in.close()
			return nil, fmt.Errorf("lb: event loop: %w", err)
		}
		loops = append(loops, l)
	}
	return loops, nil
}

// runLoops has the loops of e run. r knows e until all connections of the loops have ended.
func runLoops[L runner](r *registry, e cutter, loops []L) {
	r.add(e)
	var running sync.WaitGroup
	for _, l := range loops {
		running.Go(l.run)
	}
	go func() {
		running.Wait()
		r.remove(e)
	}()
}

// acceptUntil waits until ctx has ended, or the listener has failed: that is the error. It
// returns when all that the backlog held then is accepted, and ln may be closed.
func (in *intake) acceptUntil(ctx context.Context, ln net.Listener) (err error) {
	select {
	case <-ctx.Done():
		if in.ending != nil {
			in.ending()
		}
		awaitAccepted(ln)
	case err = <-in.failed:
		err = fmt.Errorf("lb: accept on %s: %w", ln.Addr(), err)
	}
	var accepting sync.WaitGroup
	for _, a := range in.loops {
		accepting.Add(1)
		a.Post(func() {
			a.stopAccepting()
			accepting.Done()
		})
	}
	accepting.Wait()
	in.close()
	return err
}

func (in *intake) close() { reactor.Close(in.fd) }

// awaitAccepted waits until the backlog is empty for a moment. Limits may leave no room for
// its connections at first.
func awaitAccepted(ln net.Listener) {
	for end := time.Now().Add(acceptWithin); hasPending(ln) && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
}

// fail ends accepting: the listener is of no use any more.
func (in *intake) fail(err error) {
	select {
	case in.failed <- err:
	default: // another loop was faster
	}
}

// acceptor is an event loop as far as it accepts connections. A loop embeds it, and has
// its goroutine call acceptSome for an event at placeListener, resumeAccepting at resumeAt,
// and go on until listener is negative and no connection is live.
type acceptor struct {
	*reactor.Loop
	in       *intake
	open     func(fd int32, peer netip.AddrPort) // begins an accepted connection, which is active already
	listener int32                               // -1 after stopAccepting
	resumeAt int64                               // until when accepting pauses; reactor.Never: it does not
	live     atomic.Int32                        // connections; other loops read it
}

// join makes a an acceptor of in, with a Loop that the caller closes.
func (a *acceptor) join(in *intake, open func(int32, netip.AddrPort)) error {
	r, err := reactor.NewLoop()
	if err != nil {
		return err
	}
	a.Loop, a.in, a.open, a.listener, a.resumeAt = r, in, open, in.fd, reactor.Never
	if errno := a.watchListener(); errno != 0 {
		r.Close()
		return errno
	}
	in.loops = append(in.loops, a)
	return nil
}

// placeListener is the place of the listener among the descriptors of a loop.
const placeListener = -1

func (a *acceptor) watchListener() unix.Errno {
	return a.Watch(a.listener, reactor.Acceptable, placeListener, 0)
}

// acceptBatch is how many connections a loop accepts before it serves its other
// connections again. backlogMax is more than any backlog that somaxconn usually allows.
const acceptBatch, backlogMax = 32, 8192

// acceptSome accepts connections, but not so many that the other connections of this
// loop would wait for long. It reports whether there may be more.
func (a *acceptor) acceptSome() bool {
	limits, _ := a.in.rules()
	c := a.in.counters
	defer a.yieldListener()
	for range acceptBatch {
		if a.listener < 0 || a.resumeAt != reactor.Never {
			return false
		}
		// Those that are accepted already come first.
		if c.starved.Load() > 0 {
			a.pauseAccepting(starvedFor, nil)
			return false
		}
		if !c.reserve(limits.Connections) {
			a.pauseAccepting(5*time.Millisecond, nil)
			return false
		}
		if reactor.Crowded() {
			c.reserved.Add(-1)
			a.pauseAccepting(starvedFor, unix.EMFILE)
			return false
		}
		fd, peer, errno := a.Accept(a.listener)
		if errno == 0 {
			c.active.Add(1)
		}
		c.reserved.Add(-1)
		switch {
		case errno == 0:
			a.open(fd, peer)
		case errno == unix.EAGAIN:
			return false
		case errno == unix.ECONNABORTED || errno == unix.EINTR || errno == unix.EPROTO || errno == unix.EPERM:
		case starved(errno):
			a.pauseAccepting(starvedFor, errno)
			return false
		case !isTransient(errno):
			a.in.fail(errno)
			a.pauseAccepting(starvedFor, errno)
			return false
		default:
			// The network's own errors, which accept(2) says to treat like EAGAIN.
			a.pauseAccepting(5*time.Millisecond, errno)
			return false
		}
	}
	return true
}

// yieldListener lets a loop that has clearly fewer connections accept the next one.
// The kernel wakes the loop that has waited for the listener longest. Unless a loop
// steps back in the line, connections that arrive one by one all become its own. A busy
// loop does not wait for the listener, so no connection waits for a busy loop.
func (a *acceptor) yieldListener() {
	if a.listener < 0 || a.resumeAt != reactor.Never {
		return
	}
	mine := a.live.Load()
	for _, other := range a.in.loops {
		if other.live.Load() < mine-mine/8 {
			a.Unwatch(a.listener)
			a.resumeAccepting()
			return
		}
	}
}

// pauseAccepting leaves connections in the backlog for a while.
func (a *acceptor) pauseAccepting(d time.Duration, reason error) {
	if reason != nil {
		_, log := a.in.rules()
		log.Warn("accept paused", "err", explain(reason), "for", d)
	}
	a.in.counters.paused.Add(1)
	a.Unwatch(a.listener)
	a.resumeAt = a.Now() + int64(d)
}

func (a *acceptor) resumeAccepting() {
	a.resumeAt = reactor.Never
	if errno := a.watchListener(); errno != 0 {
		a.pauseAccepting(50*time.Millisecond, errno)
	}
}

// stopAccepting accepts the whole backlog and then nothing more. The clients in the
// backlog have connections already, which closing the listener would reset.
func (a *acceptor) stopAccepting() {
	for i := 0; i < backlogMax/acceptBatch && a.acceptSome(); i++ {
	}
	if a.resumeAt == reactor.Never {
		a.Unwatch(a.listener)
	}
	a.listener, a.resumeAt = -1, reactor.Never
}

// admit counts an accepted connection. One that exceeds the limits is closed: false.
func (a *acceptor) admit(limits *Limits, fd int32, peer netip.Addr) bool {
	c := a.in.counters
	c.accepted.Add(1)
	if a.in.limiter.admit(limits, peer, reactor.Time(a.Now())) {
		return true
	}
	c.refused.Add(1)
	c.active.Add(-1)
	reactor.Close(fd)
	return false
}
