package reactor

import (
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/cpu"
	"golang.org/x/sys/unix"
)

// Event says what has happened to a descriptor: Events are epoll's flags, Fd and Pad
// are the place and the mark that Watch was given.
type Event = unix.EpollEvent

// What Watch can wait for.
const (
	// Both ways and urgent bytes, each change once, so that a connection is watched once in
	// its life.
	Edges uint32 = unix.EPOLLIN | unix.EPOLLPRI | unix.EPOLLOUT | unix.EPOLLRDHUP | 1<<31 // EPOLLET
	// Something to be read.
	Readable uint32 = unix.EPOLLIN
	// The same of a listener for which several loops wait: one of them is woken.
	Acceptable uint32 = unix.EPOLLIN | unix.EPOLLEXCLUSIVE
)

// Loop is an epoll instance. All of its methods but Post belong to one goroutine.
type Loop struct {
	epoll  int
	wake   int   // eventfd
	now    int64 // as of the last Wait
	events []Event
	addr   unix.RawSockaddrAny // of system calls: here it is not allocated for each

	mu     sync.Mutex // guards what follows
	posted []func()
	closed bool

	_ cpu.CacheLinePad // loops are made side by side
}

// placeWake is the place of wake.
const placeWake = math.MinInt32

// NewLoop returns a Loop that watches nothing.
func NewLoop() (*Loop, error) {
	countSpare()
	l := &Loop{events: make([]Event, 256), now: Now()}
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	if l.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		unix.Close(l.epoll)
		return nil, err
	}
	if errno := l.Watch(int32(l.wake), Readable, placeWake, 0); errno != 0 {
		l.Close()
		return nil, errno
	}
	return l, nil
}

// Close runs what was posted and gives up what l holds, but no watched descriptor.
func (l *Loop) Close() {
	for {
		l.runPosted()
		l.mu.Lock()
		if len(l.posted) == 0 {
			break
		}
		l.mu.Unlock()
	}
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		unix.Close(l.epoll)
		unix.Close(l.wake)
	}
}

// Post has the goroutine of l run f, and reports whether it will: false after Close.
// It never waits.
func (l *Loop) Post(f func()) bool {
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

func (l *Loop) runPosted() {
	l.mu.Lock()
	posted := l.posted
	l.posted = nil
	l.mu.Unlock()
	for _, f := range posted {
		f()
	}
}

// Now returns the time as of the last Wait.
func (l *Loop) Now() int64 { return l.now }

// Wait waits for events, until the deadline, and runs what was posted. The events are
// valid until the next call.
func (l *Loop) Wait(deadline int64) []Event {
	n := poll(l.epoll, l.events, milliseconds(deadline))
	l.now = Now()
	for i := range n {
		if l.events[i].Fd == placeWake {
			var buf [8]byte
			_, _ = unix.Read(l.wake, buf[:])
			l.runPosted()
			n--
			l.events[i] = l.events[n]
			break
		}
	}
	return l.events[:n]
}

// keepFor is how long a loop may wait without telling the scheduler of it.
const keepFor = 10 * time.Millisecond

// keeping counts the loops that wait so, spare how many may: as many as there are
// more of GOMAXPROCS than processors of the machine, so that other goroutines
// always find one.
var keeping, spare atomic.Int32

// countSpare counts anew: the program may have set GOMAXPROCS in the meantime.
func countSpare() { spare.Store(int32(runtime.GOMAXPROCS(0) - runtime.NumCPU())) }

// poll waits for events for timeout milliseconds, or for ever if that is negative.
// If it may, it first waits without telling the scheduler, which would take the
// processor away and hand it on, at a price of several context switches: under
// load, events follow one another faster than that.
func poll(epoll int, events []Event, timeout int) int {
	keep := 0
	if keeping.Add(1) <= spare.Load() {
		keep = int(keepFor / time.Millisecond)
		if timeout >= 0 {
			keep = min(keep, timeout)
		}
	}
	n, errno := pollKeeping(epoll, events, 0)
	if n == 0 && errno == 0 && keep > 0 {
		// Whom the loop serves may be waiting for the processor with more for the loop. To let
		// them go first is cheaper than to sleep, and be woken, for each of them.
		_, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
		n, errno = pollKeeping(epoll, events, keep)
	}
	keeping.Add(-1)
	if errno == 0 && n == 0 && timeout != 0 {
		var err error
		if n, err = unix.EpollWait(epoll, events, timeout); err != nil {
			n, errno = 0, err.(unix.Errno)
		}
	}
	if errno != 0 && errno != unix.EINTR {
		// Only a descriptor closed by others can cause this; going on would spin.
		panic(fmt.Sprintf("lb: epoll: %v", errno))
	}
	return n
}

// pollKeeping waits for events and keeps the processor. A signal ends it: that is
// how the runtime stops the world.
func pollKeeping(epoll int, events []Event, timeout int) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(events))),
		uintptr(len(events)), uintptr(timeout), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// Watch has Wait return events of fd, with a place and a mark by which the caller
// knows whom they concern: the mark tells a descriptor from an earlier one in the
// same place. Every place is free for use but math.MinInt32.
func (l *Loop) Watch(fd int32, events uint32, place, mark int32) unix.Errno {
	ev := Event{Events: events, Fd: place, Pad: mark}
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(l.epoll), unix.EPOLL_CTL_ADD, uintptr(fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
	return errno
}

// Unwatch undoes Watch for a descriptor that stays open: closing it does the same.
// Every error leaves it unwatched.
func (l *Loop) Unwatch(fd int32) { _ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, int(fd), nil) }
