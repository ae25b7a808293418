package lb

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls of the event loop. None of them blocks, so the scheduler need
// not know of them (RawSyscall), and their arguments do not go to the heap.

func rawPointer(a *unix.RawSockaddrAny) unsafe.Pointer { return unsafe.Pointer(a) }

// ntohs swaps a port that lies in memory in network order.
func ntohs(port uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], port)
	return binary.BigEndian.Uint16(b[:])
}

// accept4 takes a connection; l.addr then holds the peer's address.
func (l *loop) accept4() (int32, unix.Errno) {
	size := uint32(unsafe.Sizeof(l.addr))
	fd, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(l.listener), uintptr(unsafe.Pointer(&l.addr)),
		uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	return int32(fd), errno
}

// connect begins a connection to a.
func (l *loop) connect(fd int32, a netip.AddrPort) unix.Errno {
	size := unsafe.Sizeof(unix.RawSockaddrInet4{})
	if a.Addr().Is4() {
		*(*unix.RawSockaddrInet4)(rawPointer(&l.addr)) = unix.RawSockaddrInet4{
			Family: unix.AF_INET, Port: ntohs(a.Port()), Addr: a.Addr().As4()}
	} else {
		size = unsafe.Sizeof(unix.RawSockaddrInet6{})
		*(*unix.RawSockaddrInet6)(rawPointer(&l.addr)) = unix.RawSockaddrInet6{
			Family: unix.AF_INET6, Port: ntohs(a.Port()), Addr: a.Addr().As16(), Scope_id: scopeID(a.Addr().Zone())}
	}
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&l.addr)), size)
	return errno
}

// keepFor is how long a loop may wait without telling the scheduler of it.
const keepFor = 10 * time.Millisecond

// keeping counts the loops that wait so, spare how many may: as many as there are
// more of GOMAXPROCS than processors of the machine, so that other goroutines
// always find one.
var keeping, spare atomic.Int32

// countSpare is called when a plane begins to serve: the program may have set
// GOMAXPROCS in the meantime.
func countSpare() { spare.Store(int32(runtime.GOMAXPROCS(0) - runtime.NumCPU())) }

// poll waits for events for timeout milliseconds, or for ever if that is negative.
// If it may, it first waits without telling the scheduler, which would take the
// processor away and hand it on, at a price of several context switches: under
// load, events follow one another faster than that.
func poll(epoll int, events []unix.EpollEvent, timeout int) int {
	keep := 0
	if keeping.Add(1) <= spare.Load() {
		keep = int(keepFor / time.Millisecond)
		if timeout >= 0 {
			keep = min(keep, timeout)
		}
	}
	n, errno := epollKeeping(epoll, events, keep)
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

// epollKeeping waits for events and keeps the processor. A signal ends it: that is
// how the runtime stops the world.
func epollKeeping(epoll int, events []unix.EpollEvent, timeout int) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(events))),
		uintptr(len(events)), uintptr(timeout), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

func scopeID(zone string) uint32 {
	if zone == "" {
		return 0
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n)
	}
	if i, err := net.InterfaceByName(zone); err == nil {
		return uint32(i.Index)
	}
	return 0
}

// localAddr is the address of fd's own end.
func (l *loop) localAddr(fd int32) netip.AddrPort {
	size := uint32(unsafe.Sizeof(l.addr))
	_, _, errno := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&l.addr)), uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return netip.AddrPort{}
	}
	return sockaddr(&l.addr)
}

func socket(a netip.AddrPort) (int32, unix.Errno) {
	family := uintptr(unix.AF_INET)
	if !a.Addr().Is4() {
		family = unix.AF_INET6
	}
	fd, _, errno := unix.RawSyscall(unix.SYS_SOCKET, family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	return int32(fd), errno
}

func read(fd int32, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0, 0)
	return int(n), errno
}

// write never raises SIGPIPE.
func write(fd int32, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
	return int(n), errno
}

// unwatch is for a descriptor that will be open elsewhere: closing it does the same.
func (l *loop) unwatch(fd int32) { _ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, int(fd), nil) }

func closeFD(fd int32) { _, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

func shutdownWrite(fd int32) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
	return errno
}

// watch adds fd to the loop's epoll instance, edge-triggered and for all
// events, so that this is done once per connection.
func (l *loop) watch(fd, place, mark int32) unix.Errno {
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | epollET, Fd: place, Pad: mark}
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(l.epoll), unix.EPOLL_CTL_ADD, uintptr(fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
	return errno
}

const epollET = 1 << 31

// pipe is what splice moves pages through.
type pipe struct{ r, w int32 }

func newPipe() (pipe, bool) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		return pipe{}, false
	}
	// Best effort: an ordinary user has a limit for all pipes together.
	_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeSize)
	return pipe{int32(fds[0]), int32(fds[1])}, true
}

func (p pipe) close() {
	closeFD(p.r)
	closeFD(p.w)
}

func splice(from, to int32, n int) (int, unix.Errno) {
	moved, _, errno := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n),
		unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
	return int(moved), errno
}

// sockaddr is the address that the kernel wrote into a.
func sockaddr(a *unix.RawSockaddrAny) netip.AddrPort {
	switch a.Addr.Family {
	case unix.AF_INET:
		in := (*unix.RawSockaddrInet4)(rawPointer(a))
		return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), ntohs(in.Port))
	case unix.AF_INET6:
		in := (*unix.RawSockaddrInet6)(rawPointer(a))
		ip := netip.AddrFrom16(in.Addr).Unmap()
		if in.Scope_id != 0 {
			ip = ip.WithZone(strconv.FormatUint(uint64(in.Scope_id), 10))
		}
		return netip.AddrPortFrom(ip, ntohs(in.Port))
	}
	return netip.AddrPort{}
}
