package lb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// engine relays plain TCP connections in event loops, one per processor, each
// with an epoll instance of its own. All of them wait for the one listener
// (EPOLLEXCLUSIVE). A listener for each (SO_REUSEPORT) would deal connections
// out by their hash, to a busy loop as well as to an idle one, would lose those
// in the backlog of a loop that ends, and would let a second program take a
// part of the traffic without any error. That the kernel always wakes the first
// of those that wait is set right by [loop.yield].
type engine struct {
	t     *TCP
	work  context.Context // Ends when connections must end.
	loops []*loop
}

// accept serves the connections of ln until ctx ends. What it leaves behind
// ends by itself, or by work.
func (t *TCP) accept(ctx, work context.Context, ln net.Listener) error {
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		return t.acceptLoop(ctx, work, ln)
	}
	lfd, err := dupListener(tcp)
	if err != nil {
		return fmt.Errorf("lb: listener %s: %w", ln.Addr(), err)
	}
	countSpare()
	e := &engine{t: t, work: work}
	for range min(runtime.GOMAXPROCS(0), runtime.NumCPU()) {
		l, err := newLoop(e, lfd)
		if err != nil {
			for _, l := range e.loops {
				l.free()
			}
			unix.Close(lfd)
			return fmt.Errorf("lb: event loop: %w", err)
		}
		e.loops = append(e.loops, l)
	}
	t.sessions.add(e) // until all connections of the loops have ended
	var accepting sync.WaitGroup
	accepting.Add(len(e.loops))
	var running atomic.Int32
	running.Store(int32(len(e.loops)))
	for _, l := range e.loops {
		l.accepting = accepting.Done
		go func() {
			l.run()
			if running.Add(-1) == 0 {
				t.sessions.remove(e)
			}
		}()
	}
	<-ctx.Done()
	for _, l := range e.loops {
		l.post(l.stopAccepting)
	}
	accepting.Wait()
	unix.Close(lfd)
	return nil
}

// dupListener returns a descriptor of ln's socket for the loops. Accepted
// sockets inherit TCP_NODELAY from it.
func dupListener(ln *net.TCPListener) (int, error) {
	raw, err := ln.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	cerr := raw.Control(func(f uintptr) {
		if fd, err = unix.FcntlInt(f, unix.F_DUPFD_CLOEXEC, 0); err == nil {
			err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		}
	})
	if err := errors.Join(cerr, err); err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		return -1, err
	}
	return fd, nil
}

// cut ends the connections of a server, or all if it is nil.
func (e *engine) cut(s *server) {
	for _, l := range e.loops {
		l.post(func() {
			for _, k := range l.links {
				if k.state != linkFree && (s == nil || k.picked && k.pick.member.server == s) {
					k.cut(s != nil)
				}
			}
		})
	}
}

// Markers in the place of a slot in an epoll event.
const (
	eventListener = -1
	eventWake     = -2
)

// loop owns some of the connections; all but post runs in its goroutine.
type loop struct {
	e         *engine
	epoll     int
	wake      int // eventfd
	listener  int // -1 after stopAccepting.
	accepting func()
	paused    time.Duration // How long accepting pauses, 0 if it does not,
	resumeAt  int64         // and until when.

	links  []*link      // By slot.
	unused []int32      // Slots.
	live   atomic.Int32 // Connections. Other loops read it.
	serial int32        // Of the latest mark.
	runq   []*link      // With more to do than one turn allows.
	now    int64        // Nanoseconds since epoch, as of the last wake-up.

	timings map[*tcpSettings]*timing
	scratch []byte
	pipes   []pipe              // Not in use.
	piping  int                 // All there are.
	addr    unix.RawSockaddrAny // Of accept and connect.

	mu     sync.Mutex
	posted []func()
	ended  bool
}

var epoch = time.Now()

func newLoop(e *engine, listener int) (*loop, error) {
	l := &loop{e: e, listener: listener, epoll: -1, wake: -1,
		timings: make(map[*tcpSettings]*timing), scratch: make([]byte, scratchSize)}
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	if l.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		l.free()
		return nil, err
	}
	err = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, l.wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: eventWake})
	if err == nil {
		err = l.watchListener()
	}
	if err != nil {
		l.free()
		return nil, err
	}
	return l, nil
}

// free gives up what a loop holds that does not run (any more).
func (l *loop) free() {
	for _, fd := range []int{l.epoll, l.wake} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	for _, p := range l.pipes {
		p.close()
	}
}

// post has f run in the loop; false if that has ended.
func (l *loop) post(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return false
	}
	l.posted = append(l.posted, f)
	if len(l.posted) == 1 {
		_, _ = unix.Write(l.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
	return true
}

// run serves until accepting has stopped and the last connection has ended.
func (l *loop) run() {
	events := make([]unix.EpollEvent, 256)
	for !l.over() {
		n := poll(l.epoll, events, l.timeout())
		l.now = int64(time.Since(epoch))
		for i := range max(n, 0) {
			switch ev := &events[i]; ev.Fd {
			case eventListener:
				l.acceptSome()
			case eventWake:
				l.runPosted()
			default:
				l.event(ev)
			}
		}
		runq := l.runq
		l.runq = nil
		for _, k := range runq {
			k.queued = false
			k.step()
		}
		l.expire()
	}
}

// over ends the loop once it has nothing to do any more. What is posted later is
// refused, what was posted before is run.
func (l *loop) over() bool {
	if l.listener >= 0 || l.live.Load() > 0 {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.posted) > 0 {
		return false
	}
	l.ended = true
	l.free()
	return true
}

func (l *loop) runPosted() {
	var buf [8]byte
	_, _ = unix.Read(l.wake, buf[:])
	l.mu.Lock()
	posted := l.posted
	l.posted = nil
	l.mu.Unlock()
	for _, f := range posted {
		f()
	}
}

// event notes what epoll says about one side of a connection.
func (l *loop) event(ev *unix.EpollEvent) {
	slot, side := ev.Fd>>1, ev.Fd&1
	k := l.links[slot]
	if k.mark[side] != ev.Pad || k.state == linkFree {
		return // Of a descriptor that was closed in this very round.
	}
	const failure = unix.EPOLLHUP | unix.EPOLLERR
	if ev.Events&failure != 0 {
		// Both sides at their end in order make a hang-up too. A client that has sent
		// everything and then resets, because it does not want the answer, is none
		// that has failed.
		if side == 1 || !k.half[0].ending && (ev.Events&unix.EPOLLERR != 0 || !k.half[1].shut) {
			k.failed[side] = true
		}
	}
	if ev.Events&(unix.EPOLLIN|unix.EPOLLRDHUP|failure) != 0 {
		k.half[side].readable = true
	}
	if ev.Events&(unix.EPOLLRDHUP|failure) != 0 {
		k.half[side].ending = true
	}
	if ev.Events&(unix.EPOLLOUT|failure) != 0 {
		k.half[1-side].writable = true
	}
	k.step()
}

// newLink takes a link from those that have ended, or makes one.
func (l *loop) newLink() *link {
	l.live.Add(1)
	var k *link
	if n := len(l.unused); n > 0 {
		k = l.links[l.unused[n-1]]
		l.unused = l.unused[:n-1]
	} else {
		k = &link{loop: l, slot: int32(len(l.links))}
		l.links = append(l.links, k)
	}
	k.mark[0] = l.newMark()
	return k
}

// newMark tells a descriptor, or an attempt to connect, from those before it in
// the same place.
func (l *loop) newMark() int32 {
	l.serial++
	return l.serial
}
