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
// with an epoll instance of its own. All of them wait for the one
// listener (EPOLLEXCLUSIVE): with a listener each (SO_REUSEPORT), connections in
// the backlog of a loop that ends would be lost.
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
			e.close()
			unix.Close(lfd)
			return fmt.Errorf("lb: event loop: %w", err)
		}
		e.loops = append(e.loops, l)
	}
	// The loops count as one session: they end when all of theirs have.
	all := &session{loops: e}
	t.state().sessions.add(all)
	var accepting sync.WaitGroup
	accepting.Add(len(e.loops))
	var running atomic.Int32
	running.Store(int32(len(e.loops)))
	for _, l := range e.loops {
		l.accepting = accepting.Done
		go func() {
			l.run()
			if running.Add(-1) == 0 {
				e.close()
				t.state().sessions.remove(all)
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
				if k != nil && k.state != linkFree && (s == nil || k.picked && k.pick.member.server == s) {
					k.abort("cut")
				}
			}
		})
	}
}

func (e *engine) close() {
	for _, l := range e.loops {
		l.close()
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

	links []*link // By slot.
	free  []int32
	live  int
	runq  []*link // With more to do than one turn allows.
	now   int64   // Nanoseconds since epoch, as of the last wake-up.

	timings map[*TCP]*timing
	scratch []byte
	pipes   []pipe              // Not in use.
	piping  int                 // All there are.
	addr    unix.RawSockaddrAny // Of accept and connect.

	mu     sync.Mutex
	posted []func()
	closed bool
}

var epoch = time.Now()

func newLoop(e *engine, listener int) (*loop, error) {
	l := &loop{e: e, listener: listener, epoll: -1, wake: -1,
		timings: make(map[*TCP]*timing), scratch: make([]byte, scratchSize)}
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	if l.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		l.close()
		return nil, err
	}
	err = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, l.wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: eventWake})
	if err == nil {
		err = l.watchListener()
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *loop) watchListener() error {
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, l.listener,
		&unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLEXCLUSIVE, Fd: eventListener})
}

// close frees what a loop holds that does not run (any more).
func (l *loop) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.closed = true
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
	if l.closed {
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
	for l.listener >= 0 || l.live > 0 {
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

// acceptSome takes connections from the backlog, but not so many that the
// others of this loop would wait for long.
func (l *loop) acceptSome() {
	t := l.e.t.current()
	c := &l.e.t.state().counters
	for range 32 {
		if l.listener < 0 || l.paused > 0 {
			return
		}
		// Counted before it is accepted: other loops accept as well.
		if n := c.active.Add(1); t.Limits.Conns > 0 && n > int64(t.Limits.Conns) {
			c.active.Add(-1)
			l.pause(5*time.Millisecond, nil)
			return
		}
		fd, errno := l.accept4()
		if errno == 0 {
			l.open(t, fd)
			continue
		}
		c.active.Add(-1)
		switch errno {
		case unix.EAGAIN:
			return
		case unix.ECONNABORTED, unix.EINTR, unix.EPROTO, unix.EPERM:
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			l.pause(50*time.Millisecond, errno)
			return
		default:
			// The network's own errors, which accept(2) says to treat like EAGAIN.
			l.pause(5*time.Millisecond, errno)
			return
		}
	}
}

// pause leaves connections in the backlog for a while.
func (l *loop) pause(d time.Duration, reason error) {
	if reason != nil {
		l.e.t.log.Warn("accept paused", "error", reason, "for", d)
	}
	l.e.t.state().counters.paused.Add(1)
	_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, l.listener, nil)
	l.paused, l.resumeAt = d, l.now+int64(d)
}

func (l *loop) resume() {
	l.paused = 0
	if err := l.watchListener(); err != nil {
		l.pause(50*time.Millisecond, err)
	}
}

func (l *loop) stopAccepting() {
	if l.paused == 0 {
		_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, l.listener, nil)
	}
	l.listener, l.paused = -1, 0
	l.accepting()
}

// open begins the life of an accepted connection, which is counted already.
func (l *loop) open(t *TCP, fd int32) {
	c := &t.state().counters
	peer := sockaddr(&l.addr)
	c.accepted.Add(1)
	if !t.state().limiter.admit(&t.Limits, peer.Addr(), epoch.Add(time.Duration(l.now))) {
		c.refused.Add(1)
		c.active.Add(-1)
		closeFD(fd)
		return
	}
	k := l.newLink()
	k.t, k.fd[0], k.fd[1], k.start, k.peer = t, fd, -1, l.now, peer.Addr()
	k.origin = origin{client: peer, pool: t.Pool}
	k.proxied = t.wantsProxy(peer.Addr())
	k.begin()
}

// event notes what epoll says about one side of a connection.
func (l *loop) event(ev *unix.EpollEvent) {
	slot, side := ev.Fd>>1, ev.Fd&1
	k := l.links[slot]
	if k.generation != ev.Pad || k.state == linkFree {
		return // Of a connection that ended in this very round.
	}
	if ev.Events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		k.half[side].readable = true
	}
	if ev.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		k.half[side].ending = true
	}
	if ev.Events&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		k.half[1-side].writable = true
	}
	if ev.Events&(unix.EPOLLHUP|unix.EPOLLERR) != 0 && side == 1 {
		k.failed = true
	}
	k.step()
}

// newLink takes a link from those that have ended, or makes one.
func (l *loop) newLink() *link {
	l.live++
	if n := len(l.free); n > 0 {
		k := l.links[l.free[n-1]]
		l.free = l.free[:n-1]
		return k
	}
	k := &link{loop: l, slot: int32(len(l.links))}
	l.links = append(l.links, k)
	return k
}
