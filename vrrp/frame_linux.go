package vrrp

import (
	"encoding/binary"
	"errors"
	"os"
	"syscall"
	"unsafe"

	"github.com/havip/havip/internal/inet"
	"golang.org/x/sys/unix"
)

// frameConn sends packets as whole Ethernet frames from their HardwareSource on
// one interface. It is opened in the network namespace of the calling thread
// and stays there. It hears nothing.
type frameConn struct {
	socket  *os.File
	raw     syscall.RawConn
	tx      batch
	headers [batchSize][frameHeaderMax]byte
	to      unix.RawSockaddrLinklayer
	send    func(fd uintptr) // for RawConn.Control, made once
}

var _ packetWriter = (*frameConn)(nil)

// openFrames opens a packet socket that sends on an interface.
func openFrames(nif *netif, fam family) (packetWriter, error) {
	// Protocol 0: nothing is received.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("packet socket", err)
	}
	c := &frameConn{socket: os.NewFile(uintptr(fd), "packet socket")}
	if c.raw, err = c.socket.SyscallConn(); err != nil {
		c.socket.Close()
		return nil, err
	}
	etherType := uint16(etherTypeIPv4)
	if fam == familyIPv6 {
		etherType = etherTypeIPv6
	}
	c.to = unix.RawSockaddrLinklayer{
		Family:   unix.AF_PACKET,
		Protocol: binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, etherType)),
		Ifindex:  int32(nif.index),
		Halen:    6,
	}
	for i := range c.tx.hdrs {
		h := &c.tx.hdrs[i].Hdr
		h.Iov = &c.tx.iovs[i][0]
		h.SetIovlen(2)
		h.Name = (*byte)(unsafe.Pointer(&c.to))
		h.Namelen = unix.SizeofSockaddrLinklayer
	}
	c.send = func(fd uintptr) { c.tx.call(unix.SYS_SENDMMSG, fd) }
	return c, nil
}

func (c *frameConn) WriteBatch(ps []Packet) (int, error) {
	return c.tx.write(c.raw, ps, c.prepare, c.send)
}

// prepare lays out the first packets of ps.
func (c *frameConn) prepare(ps []Packet) {
	c.tx.limit = min(len(ps), batchSize)
	for i := range ps[:c.tx.limit] {
		setIovec(&c.tx.iovs[i][0], frameHeader(&c.headers[i], &ps[i]))
		setIovec(&c.tx.iovs[i][1], ps[i].Data)
	}
}

func (c *frameConn) Close() error { return c.socket.Close() }

// ownerSocket is a packet socket on one interface. It is opened in the network
// namespace of the calling thread and stays there.
type ownerSocket struct {
	*os.File
	buf [bufferIPv4]byte
}

// onlyOwners lets the advertisements of owners through, whichever IP protocol
// they come in.
var onlyOwners = []unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0xfffff004}, // SKF_AD_PKTTYPE
	{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, Jt: 10, K: unix.PACKET_OTHERHOST},
	{Code: unix.BPF_LDX | unix.BPF_B | unix.BPF_MSH, K: 0}, // X = the IP header's length
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: inet.IPv4Protocol},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 2, K: protocolVRRP},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 3, K: protocolAH},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_IND, K: 2}, // the priority
	{Code: unix.BPF_JMP | unix.BPF_JA, K: 1},
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_IND, K: ahLen + 2},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: 255},
	{Code: unix.BPF_RET | unix.BPF_K, K: bufferIPv4},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},
}

func openOwners(nif *netif) (ownerReader, error) {
	// Protocol 0: nothing is received before the filter is there.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("packet socket", err)
	}
	s := &ownerSocket{File: os.NewFile(uintptr(fd), "packet socket")}
	filter := unix.SockFprog{Len: uint16(len(onlyOwners)), Filter: &onlyOwners[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &filter); err != nil {
		s.Close()
		return nil, os.NewSyscallError("SO_ATTACH_FILTER", err)
	}
	ip := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, etherTypeIPv4))
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: ip, Ifindex: nif.index}); err != nil {
		s.Close()
		return nil, os.NewSyscallError("bind", err)
	}
	return s, nil
}

func (s *ownerSocket) read(p *Packet) error {
	n, err := s.Read(s.buf[:])
	if err != nil {
		return err
	}
	var ok bool
	if *p, ok = packetIPv4(s.buf[:n]); !ok {
		return errors.New("not an IPv4 packet")
	}
	return nil
}
