package reactor

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

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
	n, errno := pollKeeping(epoll, events, keep)
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
