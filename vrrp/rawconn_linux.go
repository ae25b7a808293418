package vrrp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/havip/havip/internal/inet"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// readBuffer is the size of a socket's receive buffer in bytes. The packets of 255
// routers at 10 ms count for 20 MB a second in the kernel: the buffer lasts for a pause
// of 200 ms.
const readBuffer = 4 << 20

// rawConn is a raw IP socket that hears and serves one interface. It is opened
// in the network namespace of the calling thread and stays there.
//
// The socket is set up through x/net. Packets bypass x/net, whose ReadBatch allocates two
// objects for the sender's address of each packet. IPV6_CHECKSUM is not set: the codec
// computes checksums, and the kernel would drop packets with wrong ones uncounted.
type rawConn struct {
	socket   *os.File
	raw      syscall.RawConn // the socket
	alarm    *alarm
	family   family
	protocol uint8
	ifindex  int // of the group's membership; 0: there is no multicast
	rx       receiver
	tx       sender
	wait     func(uintptr) bool // for RawConn.Read, made once
}

var (
	_ PacketConn = (*rawConn)(nil)
	_ rejoiner   = (*rawConn)(nil)
)

// openRaw opens a raw socket for protocol on an interface.
func openRaw(nif *netif, fam family, protocol uint8) (PacketConn, error) {
	network, address := fmt.Sprintf("ip4:%d", protocol), "0.0.0.0"
	if fam == familyIPv6 {
		network, address = fmt.Sprintf("ip6:%d", protocol), "::"
	}
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return withDescriptor(raw, func(fd int) error { return setSocketOptions(fd, nif.name, protocol) })
	}}
	pc, err := lc.ListenPacket(context.Background(), network, address)
	if err != nil {
		return nil, err
	}
	defer pc.Close() // the file shares the socket
	ip := pc.(*net.IPConn)
	if fam == familyIPv6 {
		err = setupIPv6(ip, nif)
	} else {
		err = setupIPv4(ip, nif)
	}
	if err != nil {
		return nil, err
	}
	socket, err := detachSocket(ip)
	if err != nil {
		return nil, err
	}
	c := &rawConn{socket: socket, family: fam, protocol: protocol}
	if nif.multicast {
		c.ifindex = nif.index
	}
	if c.raw, err = socket.SyscallConn(); err == nil {
		err = withDescriptor(c.raw, func(fd int) (err error) {
			c.alarm, err = newAlarm(fd)
			return err
		})
	}
	if err != nil {
		socket.Close()
		return nil, err
	}
	c.rx.init(fam, nif.index)
	c.tx.init(fam, nif.index, protocol)
	c.wait = c.readOrArm
	return c, nil
}

// detachSocket returns the socket of ip as a file that Go's poller does not know: every
// packet would wake the poller, also while no goroutine waits.
func detachSocket(ip *net.IPConn) (*os.File, error) {
	raw, err := ip.SyscallConn()
	if err != nil {
		return nil, err
	}
	var file *os.File
	err = withDescriptor(raw, func(fd int) error {
		own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return os.NewSyscallError("F_DUPFD_CLOEXEC", err)
		}
		// A blocking socket stays out of the poller. Each call has a flag not to
		// block.
		if err := unix.SetNonblock(own, false); err != nil {
			unix.Close(own)
			return os.NewSyscallError("O_NONBLOCK", err)
		}
		file = os.NewFile(uintptr(own), "raw socket")
		return nil
	})
	return file, err
}

// withDescriptor runs f on the socket.
func withDescriptor(raw syscall.RawConn, f func(fd int) error) error {
	var err error
	if e := raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}

// setSocketOptions sets the options that x/net does not have.
func setSocketOptions(fd int, device string, protocol uint8) error {
	// otherwise a raw socket hears every interface, whichever it joined the group on
	if err := unix.BindToDevice(fd, device); err != nil {
		return os.NewSyscallError("SO_BINDTODEVICE", err)
	}
	// more than the system's limit takes CAP_NET_ADMIN
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, readBuffer) != nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, readBuffer); err != nil {
			return os.NewSyscallError("SO_RCVBUF", err)
		}
	}
	// Priority 0 may have to be sent from an address that has just gone. Best effort:
	// without these options only that fails.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TRANSPARENT, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1)
	if protocol == protocolAH {
		// the signature covers the IP header
		return os.NewSyscallError("IP_HDRINCL", unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_HDRINCL, 1))
	}
	return nil
}

func setupIPv4(conn *net.IPConn, nif *netif) error {
	p := ipv4.NewPacketConn(conn)
	if err := p.SetTOS(inet.NetworkControl); err != nil {
		return fmt.Errorf("IP_TOS: %w", err)
	}
	if err := p.SetControlMessage(ipv4.FlagInterface, true); err != nil {
		return fmt.Errorf("IP_PKTINFO: %w", err)
	}
	if !nif.multicast {
		return nil
	}
	ifi := &net.Interface{Index: nif.index, Name: nif.name}
	if err := p.SetMulticastInterface(ifi); err != nil {
		return fmt.Errorf("IP_MULTICAST_IF: %w", err)
	}
	if err := p.SetMulticastLoopback(false); err != nil {
		return fmt.Errorf("IP_MULTICAST_LOOP: %w", err)
	}
	if err := p.JoinGroup(ifi, &net.IPAddr{IP: groupIPv4.AsSlice()}); err != nil {
		return fmt.Errorf("joining %v: %w", groupIPv4, err)
	}
	return nil
}

func setupIPv6(conn *net.IPConn, nif *netif) error {
	p := ipv6.NewPacketConn(conn)
	if err := p.SetTrafficClass(inet.NetworkControl); err != nil {
		return fmt.Errorf("IPV6_TCLASS: %w", err)
	}
	if err := p.SetControlMessage(ipv6.FlagDst|ipv6.FlagInterface|ipv6.FlagHopLimit, true); err != nil {
		return fmt.Errorf("IPV6_RECVPKTINFO: %w", err)
	}
	if !nif.multicast {
		return nil
	}
	ifi := &net.Interface{Index: nif.index, Name: nif.name}
	if err := p.SetMulticastInterface(ifi); err != nil {
		return fmt.Errorf("IPV6_MULTICAST_IF: %w", err)
	}
	if err := p.SetMulticastLoopback(false); err != nil {
		return fmt.Errorf("IPV6_MULTICAST_LOOP: %w", err)
	}
	if err := p.JoinGroup(ifi, &net.IPAddr{IP: groupIPv6.AsSlice()}); err != nil {
		return fmt.Errorf("joining %v: %w", groupIPv6, err)
	}
	return nil
}

// rejoin leaves the group first: the kernel refuses to add a membership that the socket
// still lists.
func (c *rawConn) rejoin() error {
	if c.ifindex == 0 {
		return nil
	}
	return withDescriptor(c.raw, func(fd int) error {
		if c.family == familyIPv6 {
			group := unix.IPv6Mreq{Multiaddr: groupIPv6.As16(), Interface: uint32(c.ifindex)}
			_ = unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_LEAVE_GROUP, &group)
			return os.NewSyscallError("IPV6_JOIN_GROUP", unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, &group))
		}
		group := unix.IPMreqn{Multiaddr: groupIPv4.As4(), Ifindex: int32(c.ifindex)}
		_ = unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_DROP_MEMBERSHIP, &group)
		return os.NewSyscallError("IP_ADD_MEMBERSHIP", unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &group))
	})
}

func (c *rawConn) SetReadDeadline(t time.Time) error { return c.alarm.file.SetReadDeadline(t) }

func (c *rawConn) Close() error {
	return errors.Join(c.alarm.file.Close(), c.socket.Close())
}

func (c *rawConn) ReadBatch(ps []Packet) (int, error) {
	c.rx.prepare(len(ps))
	err := c.alarm.raw.Read(c.wait)
	if err == os.ErrDeadlineExceeded {
		// Read may return at its deadline without a look at the socket
		if err = c.read(); err == nil && c.rx.errno == unix.EAGAIN {
			err = os.ErrDeadlineExceeded
		}
	}
	if err != nil {
		return 0, err
	}
	if c.rx.errno != 0 {
		return 0, os.NewSyscallError("recvmmsg", c.rx.errno)
	}
	if c.family == familyIPv6 {
		return c.rx.packetsIPv6(ps, c.protocol), nil
	}
	return c.rx.packetsIPv4(ps), nil
}

// read reads the packets that are there. The error is about a closed socket; those of the
// system call are in c.rx.
func (c *rawConn) read() error {
	if err := c.raw.Control(c.rx.recv); err != nil {
		c.rx.n, c.rx.errno = 0, unix.EBADF
		return err
	}
	if c.rx.n > 0 {
		return c.raw.Control(c.alarm.clear)
	}
	return nil
}

// readOrArm reads the packets that are there, or arms the alarm for the next one.
func (c *rawConn) readOrArm(uintptr) bool {
	if err := c.read(); err != nil || c.rx.errno != unix.EAGAIN {
		return true
	}
	return c.raw.Control(c.alarm.set) != nil
}

func (c *rawConn) WriteBatch(ps []Packet) (int, error) {
	return c.tx.write(c.raw, ps, c.tx.prepare, c.tx.send)
}

// addr4 and addr16 read an address from a packet.
func addr4(b []byte) netip.Addr  { return netip.AddrFrom4([4]byte(b)) }
func addr16(b []byte) netip.Addr { return netip.AddrFrom16([16]byte(b)) }

// alarm goes off when a socket becomes readable, but only while it is armed. It is an
// epoll instance with that one socket, and Go's poller waits for the epoll instance. A
// socket directly in Go's poller would wake the poller with each packet, even while its
// reader lets more packets come in. At 25,000 packets a second these wake-ups cost more
// than all else.
type alarm struct {
	file  *os.File
	raw   syscall.RawConn
	armed bool

	// set and clear arm and disarm the alarm, for RawConn.Control; made once.
	set, clear func(socket uintptr)
}

// newAlarm makes an alarm for a socket. The alarm is not armed.
func newAlarm(socket int) (*alarm, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, socket, &unix.EpollEvent{}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	// Go's poller only takes descriptors that do not block
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("O_NONBLOCK", err)
	}
	a := &alarm{file: os.NewFile(uintptr(fd), "epoll")}
	if a.raw, err = a.file.SyscallConn(); err != nil {
		a.file.Close()
		return nil, err
	}
	on, off := unix.EpollEvent{Events: unix.EPOLLIN}, unix.EpollEvent{}
	a.set = func(socket uintptr) {
		if !a.armed {
			// it goes off at once if the socket is readable already
			a.armed = unix.EpollCtl(fd, unix.EPOLL_CTL_MOD, int(socket), &on) == nil
		}
	}
	a.clear = func(socket uintptr) {
		if a.armed {
			a.armed = unix.EpollCtl(fd, unix.EPOLL_CTL_MOD, int(socket), &off) != nil
		}
	}
	return a, nil
}
