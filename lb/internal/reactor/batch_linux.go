package reactor

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchSize is how many datagrams one system call receives or sends.
const batchSize = 32

// mmsghdr is the kernel's struct mmsghdr.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [unsafe.Sizeof(uintptr(0)) - 4]byte // padding, on 64-bit machines
}

// batchTurn is how many datagrams of one backend are taken before others have
// their turn.
const batchTurn = 16

// Batch is a number of datagrams with the peer's address and our own, each
// in memory that is laid out once for recvmmsg(2) and sendmmsg(2).
type Batch struct {
	v6    bool
	n     int // to be sent
	msgs  [batchSize]mmsghdr
	bare  [batchSize]mmsghdr // the same datagrams without addresses, for connected sockets
	iovs  [batchSize]unix.Iovec
	names [batchSize]unix.RawSockaddrInet6 // or RawSockaddrInet4 at the same place
	oobs  [batchSize]control
	bufs  [batchSize][]byte
}

// control has room for the control messages of a datagram. On an IPv6 socket
// IPv4 ones have two.
type control struct {
	_ [0]uintptr // for alignment
	b [64 + 32]byte
}

// NewBatches returns two batches for a socket, which will tell what its datagrams were
// sent to.
func NewBatches(fd int32) (in, out *Batch, err error) {
	domain, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return nil, nil, err
	}
	v6 := domain == unix.AF_INET6
	// On an IPv6 socket too: only this names our address when IPv4 is broadcast.
	if err := unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_PKTINFO, 1); err != nil {
		return nil, nil, err
	}
	if v6 {
		if err := unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1); err != nil {
			return nil, nil, err
		}
	}
	return newBatch(v6), newBatch(v6), nil
}

func newBatch(v6 bool) *Batch {
	b := &Batch{v6: v6}
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

// mmsg receives or sends some of the batch: trap is SYS_RECVMMSG or SYS_SENDMMSG.
func mmsg(trap uintptr, fd int32, msgs []mmsghdr) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(trap, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(msgs))), uintptr(len(msgs)),
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// Receive fills the batch with what fd has, and returns how many that are.
func (b *Batch) Receive(fd int32) int {
	for i := range b.msgs {
		h := &b.msgs[i].hdr
		h.Namelen = unix.SizeofSockaddrInet6 // or less
		h.SetControllen(len(b.oobs[i].b))
		b.iovs[i].SetLen(len(b.bufs[i]))
	}
	n, _ := mmsg(unix.SYS_RECVMMSG, fd, b.msgs[:]) // EAGAIN; or an ICMP error, which concerns nobody here
	return n
}

// Bytes is the size of the received datagrams from first on and before end.
func (b *Batch) Bytes(first, end int) (n int64) {
	for i := first; i < end; i++ {
		n += int64(b.msgs[i].len)
	}
	return n
}

// Pair is between whom datagrams go: a peer, and an address of this host. On an IPv6
// socket IPv4 addresses have their mapped form only inside the kernel.
type Pair struct {
	Peer  netip.AddrPort
	Local netip.Addr
}

// Pair returns where a received datagram comes from and what it was sent to.
func (b *Batch) Pair(i int) Pair {
	return Pair{addrPort((*unix.RawSockaddrAny)(unsafe.Pointer(&b.names[i]))), b.local(i)}
}

// local is the address that a received datagram was sent to. For a broadcast it is
// that of the interface (ipi_spec_dst): answers cannot come from a broadcast address.
func (b *Batch) local(i int) (local netip.Addr) {
	rest := b.oobs[i].b[:b.msgs[i].hdr.Controllen]
	for len(rest) > unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&rest[0]))
		info := unsafe.Pointer(&rest[unix.CmsgLen(0)])
		switch {
		case h.Level == unix.SOL_IP && h.Type == unix.IP_PKTINFO:
			four := (*unix.Inet4Pktinfo)(info)
			if four.Spec_dst == [4]byte{} { // it came before we asked for it
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

// Forward sends received datagrams from first on, but none from end on, to a
// connected socket, and returns how many. An error concerns the first.
func (b *Batch) Forward(fd int32, first, end int) (int, unix.Errno) {
	if end-first == 1 {
		_, errno := Write(fd, b.bufs[first][:b.msgs[first].len])
		return 1, errno
	}
	for i := first; i < end; i++ {
		b.iovs[i].SetLen(int(b.msgs[i].len))
	}
	return mmsg(unix.SYS_SENDMMSG, fd, b.bare[first:end])
}

// Collect receives what a connected socket has into the buffers that are sent
// next, and returns how many datagrams that are; Add completes each. If there
// is no room for them the batch is sent before.
func (b *Batch) Collect(fd, front int32) (int, unix.Errno) {
	if batchSize-b.n < batchTurn {
		b.Flush(front)
	}
	for i := b.n; i < b.n+batchTurn; i++ {
		b.iovs[i].SetLen(len(b.bufs[i]))
	}
	return mmsg(unix.SYS_RECVMMSG, fd, b.bare[b.n:b.n+batchTurn])
}

// Add completes the next datagram, an answer to a peer, and returns its size.
func (b *Batch) Add(to Pair) int64 {
	i := b.n
	n := int(b.bare[i].len)
	b.iovs[i].SetLen(n)
	b.msgs[i].hdr.Namelen = putAddrPort(unsafe.Pointer(&b.names[i]), b.v6, to.Peer)
	b.setLocal(i, to.Local)
	b.n++
	return int64(n)
}

// setLocal makes a datagram leave from that address, or from one that the kernel
// chooses if it is a group's.
func (b *Batch) setLocal(i int, from netip.Addr) {
	h := &b.msgs[i].hdr
	if !from.IsValid() || from.IsMulticast() {
		h.SetControllen(0)
		return
	}
	c := (*unix.Cmsghdr)(unsafe.Pointer(&b.oobs[i].b[0]))
	info := unsafe.Pointer(&b.oobs[i].b[unix.CmsgLen(0)])
	size := unix.SizeofInet4Pktinfo
	if b.v6 {
		size = unix.SizeofInet6Pktinfo
		c.Level, c.Type = unix.SOL_IPV6, unix.IPV6_PKTINFO
		*(*unix.Inet6Pktinfo)(info) = unix.Inet6Pktinfo{Addr: from.As16()}
	} else {
		c.Level, c.Type = unix.SOL_IP, unix.IP_PKTINFO
		*(*unix.Inet4Pktinfo)(info) = unix.Inet4Pktinfo{Spec_dst: from.As4()}
	}
	c.SetLen(unix.CmsgLen(size))
	h.SetControllen(unix.CmsgSpace(size))
}

// Flush sends the batch. One that cannot be sent is lost, as datagrams are.
func (b *Batch) Flush(fd int32) {
	for sent := 0; sent < b.n; {
		n, errno := mmsg(unix.SYS_SENDMMSG, fd, b.msgs[sent:b.n])
		if errno != 0 {
			n = 1
		}
		sent += n
	}
	b.n = 0
}
