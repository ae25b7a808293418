package vrrp

import (
	"os"
	"syscall"
	"unsafe"

	"github.com/havip/havip/internal/inet"
	"golang.org/x/sys/unix"
)

// batchSize is the largest number of packets that one system call moves.
const batchSize = 64

const (
	// more than an advertisement of 255 addresses with every option and trailer
	bufferIPv4 = 2048
	bufferIPv6 = 4608
)

// ancillary holds the control messages of one packet: interface and address, TTL or hop
// limit. Its elements are words for the alignment.
type ancillary [8]uint64

func (a *ancillary) bytes() []byte { return (*[unsafe.Sizeof(*a)]byte)(unsafe.Pointer(a))[:] }

// batch is the arguments of recvmmsg and sendmmsg, laid out once.
type batch struct {
	hdrs  [batchSize]unix.Mmsghdr
	iovs  [batchSize][2]unix.Iovec
	names [batchSize]unix.RawSockaddrInet6 // or RawSockaddrInet4
	oob   [batchSize]ancillary
	limit int // how many to move
	n     int // how many were moved
	errno syscall.Errno
}

// call makes the system call once, without waiting.
func (b *batch) call(trap, fd uintptr) {
	for {
		n, _, errno := unix.Syscall6(trap, fd, uintptr(unsafe.Pointer(&b.hdrs[0])), uintptr(b.limit), unix.MSG_DONTWAIT, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		b.n, b.errno = int(n), errno
		if errno != 0 {
			b.n = 0
		}
		return
	}
}

// receiver reads batches.
type receiver struct {
	batch
	family  family
	buffers []byte
	size    int // of one buffer
	ifindex int

	recv func(fd uintptr) // for RawConn.Control, made once
}

func (r *receiver) init(fam family, ifindex int) {
	r.family, r.ifindex = fam, ifindex
	r.size = bufferIPv4
	if fam == familyIPv6 {
		r.size = bufferIPv6
	}
	r.buffers = make([]byte, batchSize*r.size)
	for i := range r.hdrs {
		r.iovs[i][0].Base = &r.buffers[i*r.size]
		r.iovs[i][0].SetLen(r.size)
		h := &r.hdrs[i].Hdr
		h.Iov = &r.iovs[i][0]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&r.names[i]))
		h.Control = &r.oob[i].bytes()[0]
	}
	r.n = batchSize
	r.recv = func(fd uintptr) { r.call(unix.SYS_RECVMMSG, fd) }
}

// prepare resets what the kernel has overwritten in the last call.
func (r *receiver) prepare(n int) {
	r.limit = min(n, batchSize)
	for i := range r.hdrs[:r.n] {
		h := &r.hdrs[i].Hdr
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(len(r.oob[i].bytes()))
	}
}

// packets returns the packets that were read.
func (r *receiver) packets(ps []Packet, protocol uint8) int {
	n := 0
	for i := range r.hdrs[:r.n] {
		b := r.buffers[i*r.size:][:min(int(r.hdrs[i].Len), r.size)]
		// IPv6 addresses and hop limits come beside the payload (RFC 3542 §3), but a raw
		// IPv4 socket delivers the headers, too.
		p, ok := Packet{Data: b, Source: addr16(r.names[i].Addr[:]), Protocol: protocol}, true
		if r.family == familyIPv4 {
			p, ok = packetIPv4(b)
		}
		// a packet may have come in before SO_BINDTODEVICE
		if index := r.readControl(i, &p); ok && index == r.ifindex {
			ps[n] = p
			n++
		}
	}
	return n
}

// packetIPv4 reads an IPv4 packet with its header.
func packetIPv4(b []byte) (p Packet, ok bool) {
	if len(b) < inet.IPv4Len {
		return p, false
	}
	header := int(b[0]&0x0f) * 4
	if header < inet.IPv4Len || header > len(b) {
		return p, false
	}
	return Packet{
		Header: b[:header], Data: b[header:],
		Source: addr4(b[12:16]), Destination: addr4(b[16:20]),
		TTL: b[inet.IPv4TTL], Protocol: b[inet.IPv4Protocol],
	}, true
}

// readControl reads the control messages of packet i into p, and returns the index of the
// packet's interface.
func (r *receiver) readControl(i int, p *Packet) (index int) {
	b := r.oob[i].bytes()
	b = b[:min(int(r.hdrs[i].Hdr.Controllen), len(b))]
	for len(b) >= unix.SizeofCmsghdr {
		h, data, rest, err := unix.ParseOneSocketControlMessage(b)
		switch b = rest; {
		case err != nil:
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			index = int((*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0])).Ifindex)
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			info := (*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0]))
			index, p.Destination = int(info.Ifindex), addr16(info.Addr[:])
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_HOPLIMIT && len(data) >= 4:
			p.TTL = uint8(*(*int32)(unsafe.Pointer(&data[0])))
		}
	}
	return index
}

// sender writes batches.
type sender struct {
	batch
	family  family
	ifindex int
	ttl     int // offset of the TTL or hop limit in an ancillary

	send func(fd uintptr) // for RawConn.Control, made once
}

func (s *sender) init(fam family, ifindex int, protocol uint8) {
	s.family, s.ifindex = fam, ifindex
	for i := range s.hdrs {
		h := &s.hdrs[i].Hdr
		h.Iov = &s.iovs[i][0]
		h.SetIovlen(2)
		h.Name = (*byte)(unsafe.Pointer(&s.names[i]))
		s.names[i].Family = uint16(unix.AF_INET6)
		h.Namelen = unix.SizeofSockaddrInet6
		if fam == familyIPv4 {
			s.names[i].Family = uint16(unix.AF_INET)
			h.Namelen = unix.SizeofSockaddrInet4
		}
		if protocol == protocolAH {
			continue // the header has all of it
		}
		b := s.oob[i].bytes()
		h.Control = &b[0]
		if fam == familyIPv6 {
			s.ttl = unix.CmsgSpace(unix.SizeofInet6Pktinfo) + unix.CmsgLen(0)
			putCmsg(b, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo)
			putCmsg(b[unix.CmsgSpace(unix.SizeofInet6Pktinfo):], unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT, 4)
		} else {
			s.ttl = unix.CmsgSpace(unix.SizeofInet4Pktinfo) + unix.CmsgLen(0)
			putCmsg(b, unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)
			putCmsg(b[unix.CmsgSpace(unix.SizeofInet4Pktinfo):], unix.IPPROTO_IP, unix.IP_TTL, 4)
		}
		h.SetControllen(s.ttl + 4)
	}
	s.send = func(fd uintptr) { s.call(unix.SYS_SENDMMSG, fd) }
}

func putCmsg(b []byte, level, kind int32, size int) {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = level, kind
	h.SetLen(unix.CmsgLen(size))
}

// prepare lays out the first packets of ps.
func (s *sender) prepare(ps []Packet) {
	s.limit = min(len(ps), batchSize)
	for i := range ps[:s.limit] {
		p := &ps[i]
		setIovec(&s.iovs[i][0], p.Header)
		setIovec(&s.iovs[i][1], p.Data)
		info := &s.oob[i].bytes()[unix.CmsgLen(0)]
		if s.family == familyIPv6 {
			name := &s.names[i]
			name.Addr = p.Destination.As16()
			name.Scope_id = uint32(s.ifindex)
			*(*unix.Inet6Pktinfo)(unsafe.Pointer(info)) = unix.Inet6Pktinfo{Addr: p.Source.As16(), Ifindex: uint32(s.ifindex)}
		} else {
			name := (*unix.RawSockaddrInet4)(unsafe.Pointer(&s.names[i]))
			name.Addr = p.Destination.As4()
			*(*unix.Inet4Pktinfo)(unsafe.Pointer(info)) = unix.Inet4Pktinfo{Spec_dst: p.Source.As4(), Ifindex: int32(s.ifindex)}
		}
		if s.ttl > 0 {
			*(*int32)(unsafe.Pointer(&s.oob[i].bytes()[s.ttl])) = int32(p.TTL)
		}
	}
}

// write sends ps, as prepare lays them out and send sends them.
func (b *batch) write(raw syscall.RawConn, ps []Packet, prepare func([]Packet), send func(uintptr)) (int, error) {
	done := 0
	for done < len(ps) {
		prepare(ps[done:])
		if err := raw.Control(send); err != nil {
			return done, err
		}
		if b.errno != 0 {
			return done, os.NewSyscallError("sendmmsg", b.errno)
		}
		done += b.n
	}
	return done, nil
}

func setIovec(v *unix.Iovec, b []byte) {
	v.Base = unsafe.SliceData(b)
	v.SetLen(len(b))
}
