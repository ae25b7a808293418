package vrrp

import (
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
	domain := unix.AF_INET
	if fam == familyIPv6 {
		domain = unix.AF_INET6
	}
	// A blocking socket stays out of Go's poller, which every packet would wake, also while
	// no goroutine waits. Each call has a flag not to block.
	fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(protocol))
	if err != nil {
		return nil, os.NewSyscallError("raw socket", err)
	}
	c := &rawConn{socket: os.NewFile(uintptr(fd), "raw socket"), family: fam, protocol: protocol}
	if nif.multicast {
		c.ifindex = nif.index
	}
	if err := c.setUp(fd, nif.name); err != nil {
		c.socket.Close()
		return nil, err
	}
	c.rx.init(fam, nif.index)
	c.tx.init(fam, nif.index, protocol)
	c.wait = c.readOrArm
	return c, nil
}

// setUp prepares the new socket fd. The alarm comes last: only Close closes it.
func (c *rawConn) setUp(fd int, device string) (err error) {
	if err = c.setOptions(fd, device); err != nil {
		return err
	}
	if err = c.rejoin(); err != nil {
		return err
	}
	if c.raw, err = c.socket.SyscallConn(); err != nil {
		return err
	}
	c.alarm, err = newAlarm(fd)
	return err
}

func (c *rawConn) setOptions(fd int, device string) error {
	// otherwise a raw socket hears every interface, whichever it joined the group on, and
	// sends to the group by any
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
	if c.protocol == protocolAH { // the signature covers the IP header
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_HDRINCL, 1); err != nil {
			return os.NewSyscallError("IP_HDRINCL", err)
		}
	}
	return c.lend(func(ip *net.IPConn) error {
		if c.family == familyIPv6 {
			p := ipv6.NewPacketConn(ip)
			return firstFailure(
				option{"IPV6_TCLASS", p.SetTrafficClass(inet.NetworkControl)},
				option{"IPV6_RECVPKTINFO", p.SetControlMessage(ipv6.FlagDst|ipv6.FlagInterface|ipv6.FlagHopLimit, true)},
				option{"IPV6_MULTICAST_LOOP", p.SetMulticastLoopback(false)})
		}
		p := ipv4.NewPacketConn(ip)
		return firstFailure(
			option{"IP_TOS", p.SetTOS(inet.NetworkControl)},
			option{"IP_PKTINFO", p.SetControlMessage(ipv4.FlagInterface, true)},
			option{"IP_MULTICAST_LOOP", p.SetMulticastLoopback(false)})
	})
}

// option is an option of the socket that was set, and how that went.
type option struct {
	name string
	err  error
}

func firstFailure(options ...option) error {
	for _, o := range options {
		if o.err != nil {
			return fmt.Errorf("%s: %w", o.name, o.err)
		}
	}
	return nil
}

// lend calls f with a copy of the socket's descriptor, for x/net. The first copy makes the
// socket one that does not block, which changes nothing: the file stays out of the poller.
func (c *rawConn) lend(f func(*net.IPConn) error) error {
	conn, err := net.FilePacketConn(c.socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	return f(conn.(*net.IPConn))
}

// rejoin makes the socket a member of the group. It leaves the group first: the kernel
// refuses to add a membership that the socket still lists.
func (c *rawConn) rejoin() error {
	if c.ifindex == 0 {
		return nil
	}
	return c.lend(func(ip *net.IPConn) error {
		group, ifi := &net.IPAddr{IP: groupIPv4.AsSlice()}, &net.Interface{Index: c.ifindex}
		var p interface {
			JoinGroup(*net.Interface, net.Addr) error
			LeaveGroup(*net.Interface, net.Addr) error
		} = ipv4.NewPacketConn(ip)
		if c.family == familyIPv6 {
			group.IP, p = groupIPv6.AsSlice(), ipv6.NewPacketConn(ip)
		}
		_ = p.LeaveGroup(ifi, group)
		return firstFailure(option{"joining " + group.String(), p.JoinGroup(ifi, group)})
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
	return c.rx.packets(ps, c.protocol), nil
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
