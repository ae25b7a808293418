package vrrp

import (
	"encoding/binary"
	"os"
	"syscall"
	"unsafe"

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
