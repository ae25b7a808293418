package reactor

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// None of these system calls blocks, so the scheduler need not know of them
// (RawSyscall), and their arguments do not go to the heap.

// Accept takes a connection from a listener, and returns the peer's address.
func (l *Loop) Accept(listener int32) (int32, netip.AddrPort, unix.Errno) {
	size := uint32(unsafe.Sizeof(l.addr))
	fd, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), uintptr(unsafe.Pointer(&l.addr)),
		uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	NoteAccepted(int32(fd), errno)
	if errno != 0 {
		return -1, netip.AddrPort{}, errno
	}
	return int32(fd), addrPort(&l.addr), 0
}

// Socket returns a socket of the family of a, of kind SOCK_STREAM or SOCK_DGRAM: EMFILE
// if it would be [Reserved].
func Socket(kind uintptr, a netip.AddrPort) (int32, unix.Errno) {
	family := uintptr(unix.AF_INET)
	if !a.Addr().Is4() {
		family = unix.AF_INET6
	}
	fd, _, errno := unix.RawSyscall(unix.SYS_SOCKET, family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	switch {
	case errno == unix.EMFILE:
		MaxDescriptors() // it may be a new limit
	case errno == 0 && Reserved(int32(fd)):
		Close(int32(fd))
		return -1, unix.EMFILE
	}
	return int32(fd), errno
}

// Connect begins a connection to a: EINPROGRESS, usually.
func (l *Loop) Connect(fd int32, a netip.AddrPort) unix.Errno {
	size := putAddrPort(unsafe.Pointer(&l.addr), !a.Addr().Is4(), a)
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&l.addr)), uintptr(size))
	return errno
}

// LocalAddr returns the address of fd's own end; zero after an error.
func (l *Loop) LocalAddr(fd int32) netip.AddrPort { return l.name(unix.SYS_GETSOCKNAME, fd) }

// IsSelfConnected reports whether fd, which was connected to a port, is connected to itself:
// see inet.IsSelfConnected.
func (l *Loop) IsSelfConnected(fd int32, port uint16) bool {
	local := l.LocalAddr(fd)
	return local.Port() == port && local == l.name(unix.SYS_GETPEERNAME, fd)
}

// name returns the address of one end of fd; zero after an error.
func (l *Loop) name(call uintptr, fd int32) netip.AddrPort {
	size := uint32(unsafe.Sizeof(l.addr))
	_, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(&l.addr)), uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return netip.AddrPort{}
	}
	return addrPort(&l.addr)
}

// Read reads from a socket.
func Read(fd int32, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0, 0)
	return int(n), errno
}

// Write writes to a socket. It never raises SIGPIPE.
func Write(fd int32, b []byte) (int, unix.Errno) { return send(fd, b, unix.MSG_NOSIGNAL) }

// WriteMore is Write, but what is written may wait for more, or for the end, and leave in one
// packet with that. It must follow at once: the kernel waits for 200 ms.
func WriteMore(fd int32, b []byte) (int, unix.Errno) {
	return send(fd, b, unix.MSG_NOSIGNAL|unix.MSG_MORE)
}

func send(fd int32, b []byte, flags uintptr) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags, 0, 0)
	return int(n), errno
}

// ShutdownWrite ends what the peer reads.
func ShutdownWrite(fd int32) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
	return errno
}

// NoDelay has what is written from now on leave at once.
func NoDelay(fd int32) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) }

// KeepUrgent leaves urgent bytes in their place among the others (RFC 6093 §6). Otherwise
// reading leaves them out.
func KeepUrgent(fd int32) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_OOBINLINE, 1) }

// Abort makes closing fd reset its connection.
func Abort(fd int32) {
	_ = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}

// SocketError returns, once, the error that fd has met with; 0: none.
func SocketError(fd int32) unix.Errno {
	errno, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return 0
	}
	return unix.Errno(errno)
}

// Close closes a descriptor. -1 is none.
func Close(fd int32) { _, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// addrPort is the address that the kernel wrote into a.
func addrPort(a *unix.RawSockaddrAny) netip.AddrPort {
	switch a.Addr.Family {
	case unix.AF_INET:
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(a))
		return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), ntohs(in.Port))
	case unix.AF_INET6:
		in := (*unix.RawSockaddrInet6)(unsafe.Pointer(a))
		ip := netip.AddrFrom16(in.Addr).Unmap()
		if in.Scope_id != 0 {
			ip = ip.WithZone(strconv.FormatUint(uint64(in.Scope_id), 10))
		}
		return netip.AddrPortFrom(ip, ntohs(in.Port))
	}
	return netip.AddrPort{}
}

// putAddrPort writes a to where the kernel reads it, for a socket of IPv6 or IPv4, and
// returns the size.
func putAddrPort(to unsafe.Pointer, v6 bool, a netip.AddrPort) uint32 {
	if !v6 {
		*(*unix.RawSockaddrInet4)(to) = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: ntohs(a.Port()), Addr: a.Addr().As4()}
		return unix.SizeofSockaddrInet4
	}
	*(*unix.RawSockaddrInet6)(to) = unix.RawSockaddrInet6{
		Family: unix.AF_INET6, Port: ntohs(a.Port()), Addr: a.Addr().As16(), Scope_id: scopeID(a.Addr().Zone())}
	return unix.SizeofSockaddrInet6
}

// ntohs swaps a port that lies in memory in network order.
func ntohs(port uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], port)
	return binary.BigEndian.Uint16(b[:])
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

// Pipe is what splice(2) moves pages through. The zero value is none.
type Pipe struct{ r, w int32 }

// NewPipe returns a pipe that holds size bytes, or less if the user may not have as
// much: there is a limit for all pipes of an ordinary user together. It reports
// whether there is one.
func NewPipe(size int) (Pipe, bool) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		return Pipe{}, false
	}
	p := Pipe{int32(fds[0]), int32(fds[1])}
	if Reserved(max(p.r, p.w)) {
		p.Close()
		return Pipe{}, false
	}
	_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, size)
	return p, true
}

// Exists reports whether p is a pipe.
func (p Pipe) Exists() bool { return p.w != 0 }

// Close closes both ends.
func (p Pipe) Close() {
	Close(p.r)
	Close(p.w)
}

// Fill moves up to n bytes from a socket into p, and returns how many.
func (p Pipe) Fill(from int32, n int) (int, unix.Errno) { return splice(from, p.w, n) }

// Drain moves up to n bytes out of p to a socket, and returns how many.
func (p Pipe) Drain(to int32, n int) (int, unix.Errno) { return splice(p.r, to, n) }

func splice(from, to int32, n int) (int, unix.Errno) {
	moved, _, errno := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n),
		unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
	return int(moved), errno
}

// SendFile sends up to n bytes of a file, from its byte at on, to a socket, and returns how
// many. 0 without an error: the file ends there.
func SendFile(to, file int32, at int64, n int) (int, unix.Errno) {
	sent, _, errno := unix.Syscall6(unix.SYS_SENDFILE, uintptr(to), uintptr(file), uintptr(unsafe.Pointer(&at)), uintptr(n), 0, 0)
	return int(sent), errno
}
