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

// udpBatch is a number of datagrams with the peer's address and our own, each
// in memory that is laid out once for recvmmsg(2) and sendmmsg(2).
type udpBatch struct {
	v6    bool
	n     int // To be sent.
	msgs  [udpBatchSize]mmsghdr
	iovs  [udpBatchSize]unix.Iovec
	names [udpBatchSize]unix.RawSockaddrInet6 // Or RawSockaddrInet4 at the same place.
	oobs  [udpBatchSize]udpControl
	bufs  [udpBatchSize][]byte
}

// udpControl is a control message with the packet's information: the local address.
type udpControl struct {
	hdr  unix.Cmsghdr
	info [unsafe.Sizeof(unix.Inet6Pktinfo{})]byte // Or Inet4Pktinfo.
	_    [4]byte                                  // CMSG_SPACE rounds up.
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
		h.Control = (*byte)(unsafe.Pointer(&b.oobs[i]))
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

// receive fills the batch with what fd has, and returns how many that are.
func (b *udpBatch) receive(fd int32) int {
	for i := range b.msgs {
		h := &b.msgs[i].hdr
		h.Namelen = b.nameLen()
		h.SetControllen(int(unsafe.Sizeof(b.oobs[i])))
		b.iovs[i].SetLen(len(b.bufs[i]))
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.msgs[0])), udpBatchSize, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0 // EAGAIN; or an ICMP error, which concerns nobody here.
	}
	return int(n)
}

// data is the payload of a received datagram.
func (b *udpBatch) data(i int) []byte { return b.bufs[i][:b.msgs[i].len] }

// addresses are where a received datagram comes from and what it was sent to. On
// an IPv6 socket IPv4 addresses stay in their mapped form only inside the kernel.
func (b *udpBatch) addresses(i int) (client netip.AddrPort, local netip.Addr) {
	client = sockaddr((*unix.RawSockaddrAny)(unsafe.Pointer(&b.names[i])))
	c := &b.oobs[i]
	if c.hdr.Level == unix.SOL_IPV6 && c.hdr.Type == unix.IPV6_PKTINFO {
		local = netip.AddrFrom16((*unix.Inet6Pktinfo)(unsafe.Pointer(&c.info)).Addr).Unmap()
	} else if c.hdr.Level == unix.SOL_IP && c.hdr.Type == unix.IP_PKTINFO {
		local = netip.AddrFrom4((*unix.Inet4Pktinfo)(unsafe.Pointer(&c.info)).Addr)
	}
	return client, local
}

// next is the buffer of the next datagram to be sent; the batch is flushed if it
// is full.
func (b *udpBatch) next(fd int32) []byte {
	if b.n == udpBatchSize {
		b.flush(fd)
	}
	return b.bufs[b.n]
}

// add completes the datagram in the buffer that next returned.
func (b *udpBatch) add(n int, to netip.AddrPort, from netip.Addr) {
	h, c := &b.msgs[b.n].hdr, &b.oobs[b.n]
	b.iovs[b.n].SetLen(n)
	h.Namelen = b.nameLen()
	c.hdr.SetLen(unix.CmsgLen(b.infoLen()))
	h.SetControllen(unix.CmsgSpace(b.infoLen()))
	if b.v6 {
		b.names[b.n] = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: ntohs(to.Port()), Addr: to.Addr().As16(), Scope_id: scopeID(to.Addr().Zone())}
		c.hdr.Level, c.hdr.Type = unix.SOL_IPV6, unix.IPV6_PKTINFO
		*(*unix.Inet6Pktinfo)(unsafe.Pointer(&c.info)) = unix.Inet6Pktinfo{Addr: from.As16()}
	} else {
		*(*unix.RawSockaddrInet4)(unsafe.Pointer(&b.names[b.n])) = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: ntohs(to.Port()), Addr: to.Addr().As4()}
		c.hdr.Level, c.hdr.Type = unix.SOL_IP, unix.IP_PKTINFO
		*(*unix.Inet4Pktinfo)(unsafe.Pointer(&c.info)) = unix.Inet4Pktinfo{Spec_dst: from.As4()}
	}
	if !from.IsValid() || from.IsMulticast() {
		h.SetControllen(0)
	}
	b.n++
}

// flush sends the batch. One that cannot be sent is lost, as datagrams are.
func (b *udpBatch) flush(fd int32) {
	for sent := 0; sent < b.n; {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.msgs[sent])), uintptr(b.n-sent),
			unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		if errno != 0 {
			n = 1
		}
		sent += int(n)
	}
	b.n = 0
}
