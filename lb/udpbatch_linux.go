package lb

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// udpBatchSize is how many datagrams one system call receives or sends.
const udpBatchSize = 32

// mmsghdr is the kernel's struct mmsghdr.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [unsafe.Sizeof(uintptr(0)) - 4]byte // Padding, on 64-bit machines.
}

// udpTurn is how many datagrams of one backend are taken before others have
// their turn.
const udpTurn = 16

// udpBatch is a number of datagrams with the peer's address and our own, each
// in memory that is laid out once for recvmmsg(2) and sendmmsg(2).
type udpBatch struct {
	v6    bool
	n     int // To be sent.
	msgs  [udpBatchSize]mmsghdr
	bare  [udpBatchSize]mmsghdr // The same datagrams without addresses, for connected sockets.
	iovs  [udpBatchSize]unix.Iovec
	names [udpBatchSize]unix.RawSockaddrInet6 // Or RawSockaddrInet4 at the same place.
	oobs  [udpBatchSize]udpControl
	bufs  [udpBatchSize][]byte
}

// udpControl has room for the control messages of a datagram. On an IPv6 socket
// IPv4 ones have two.
type udpControl struct {
	_ [0]uintptr // For alignment.
	b [64 + 32]byte
}

func newUDPBatch(v6 bool) *udpBatch {
	b := &udpBatch{v6: v6}
	for i := range b.msgs {
		b.bufs[i] = make([]byte, 1<<16)
		b.iovs[i].Base = unsafe.SliceData(b.bufs[i])
		h := &b.msgs[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		h.Iov = &b.iovs[i]
		h.SetIovlen(1)
		h.Control = &b.oobs[i].b[0]
		b.bare[i].hdr.Iov = &b.iovs[i]
		b.bare[i].hdr.SetIovlen(1)
	}
	return b
}

// nameLen and infoLen are the sizes of an address and of a packet's information.
func (b *udpBatch) nameLen() uint32 {
	if b.v6 {
		return uint32(unsafe.Sizeof(unix.RawSockaddrInet6{}))
	}
	return uint32(unsafe.Sizeof(unix.RawSockaddrInet4{}))
}

func (b *udpBatch) infoLen() int {
	if b.v6 {
		return int(unsafe.Sizeof(unix.Inet6Pktinfo{}))
	}
	return int(unsafe.Sizeof(unix.Inet4Pktinfo{}))
}

// mmsg receives or sends some of the batch: trap is SYS_RECVMMSG or SYS_SENDMMSG.
func mmsg(trap uintptr, fd int32, msgs []mmsghdr) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(trap, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(msgs))), uintptr(len(msgs)),
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// receive fills the batch with what fd has, and returns how many that are.
func (b *udpBatch) receive(fd int32) int {
	for i := range b.msgs {
		h := &b.msgs[i].hdr
		h.Namelen = b.nameLen()
		h.SetControllen(len(b.oobs[i].b))
		b.iovs[i].SetLen(len(b.bufs[i]))
	}
	n, _ := mmsg(unix.SYS_RECVMMSG, fd, b.msgs[:]) // EAGAIN; or an ICMP error, which concerns nobody here.
	return n
}

// bytes is the size of the received datagrams from first on and before end.
func (b *udpBatch) bytes(first, end int) (n int64) {
	for i := first; i < end; i++ {
		n += int64(b.msgs[i].len)
	}
	return n
}

// key is where a received datagram comes from and what it was sent to. On an
// IPv6 socket IPv4 addresses stay in their mapped form only inside the kernel.
func (b *udpBatch) key(i int) udpKey {
	return udpKey{sockaddr((*unix.RawSockaddrAny)(unsafe.Pointer(&b.names[i]))), b.local(i)}
}

// local is the address that a received datagram was sent to. For a broadcast it is
// that of the interface (ipi_spec_dst): answers cannot come from a broadcast address.
func (b *udpBatch) local(i int) (local netip.Addr) {
	rest := b.oobs[i].b[:b.msgs[i].hdr.Controllen]
	for len(rest) > unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&rest[0]))
		info := unsafe.Pointer(&rest[unix.CmsgLen(0)])
		switch {
		case h.Level == unix.SOL_IP && h.Type == unix.IP_PKTINFO:
			four := (*unix.Inet4Pktinfo)(info)
			if four.Spec_dst == [4]byte{} { // It came before we asked for it.
				return netip.AddrFrom4(four.Addr)
			}
			return netip.AddrFrom4(four.Spec_dst)
		case h.Level == unix.SOL_IPV6 && h.Type == unix.IPV6_PKTINFO:
			local = netip.AddrFrom16((*unix.Inet6Pktinfo)(info).Addr).Unmap()
		}
		rest = rest[min(unix.CmsgSpace(int(h.Len)-unix.CmsgLen(0)), len(rest)):]
	}
	return local
}

// forward sends received datagrams from first on, but none from end on, to a
// connected socket, and returns how many. An error concerns the first.
func (b *udpBatch) forward(fd int32, first, end int) (int, unix.Errno) {
	if end-first == 1 {
		_, errno := write(fd, b.bufs[first][:b.msgs[first].len])
		return 1, errno
	}
	for i := first; i < end; i++ {
		b.iovs[i].SetLen(int(b.msgs[i].len))
	}
	return mmsg(unix.SYS_SENDMMSG, fd, b.bare[first:end])
}

// collect receives what a connected socket has into the buffers that are sent
// next, and returns how many datagrams that are; add completes each. If there
// is no room for them the batch is sent before.
func (b *udpBatch) collect(fd, front int32) (int, unix.Errno) {
	if udpBatchSize-b.n < udpTurn {
		b.flush(front)
	}
	for i := b.n; i < b.n+udpTurn; i++ {
		b.iovs[i].SetLen(len(b.bufs[i]))
	}
	return mmsg(unix.SYS_RECVMMSG, fd, b.bare[b.n:b.n+udpTurn])
}

// add completes the next datagram, an answer in the session of k, and returns its size.
func (b *udpBatch) add(k udpKey) int64 {
	i, to := b.n, k.client
	n := int(b.bare[i].len)
	b.iovs[i].SetLen(n)
	if b.v6 {
		b.names[i] = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: ntohs(to.Port()), Addr: to.Addr().As16(), Scope_id: scopeID(to.Addr().Zone())}
	} else {
		*(*unix.RawSockaddrInet4)(unsafe.Pointer(&b.names[i])) = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: ntohs(to.Port()), Addr: to.Addr().As4()}
	}
	b.msgs[i].hdr.Namelen = b.nameLen()
	b.setLocal(i, k.local)
	b.n++
	return int64(n)
}

// setLocal makes a datagram leave from that address, or from one that the kernel
// chooses if it is a group's.
func (b *udpBatch) setLocal(i int, from netip.Addr) {
	h := &b.msgs[i].hdr
	if !from.IsValid() || from.IsMulticast() {
		h.SetControllen(0)
		return
	}
	h.SetControllen(unix.CmsgSpace(b.infoLen()))
	c := (*unix.Cmsghdr)(unsafe.Pointer(&b.oobs[i].b[0]))
	c.SetLen(unix.CmsgLen(b.infoLen()))
	info := unsafe.Pointer(&b.oobs[i].b[unix.CmsgLen(0)])
	if b.v6 {
		c.Level, c.Type = unix.SOL_IPV6, unix.IPV6_PKTINFO
		*(*unix.Inet6Pktinfo)(info) = unix.Inet6Pktinfo{Addr: from.As16()}
	} else {
		c.Level, c.Type = unix.SOL_IP, unix.IP_PKTINFO
		*(*unix.Inet4Pktinfo)(info) = unix.Inet4Pktinfo{Spec_dst: from.As4()}
	}
}

// flush sends the batch. One that cannot be sent is lost, as datagrams are.
func (b *udpBatch) flush(fd int32) {
	for sent := 0; sent < b.n; {
		n, errno := mmsg(unix.SYS_SENDMMSG, fd, b.msgs[sent:b.n])
		if errno != 0 {
			n = 1
		}
		sent += n
	}
	b.n = 0
}
