package healthcheck

import (
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// listenPing opens a ping socket (icmp(7)).
func listenPing(addr netip.Addr) (net.PacketConn, error) {
	family, proto := unix.AF_INET, unix.IPPROTO_ICMP
	var here unix.Sockaddr = &unix.SockaddrInet4{}
	if addr.Is6() {
		family, proto = unix.AF_INET6, unix.IPPROTO_ICMPV6
		here = &unix.SockaddrInet6{}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), "ping")
	defer f.Close() // the connection has a descriptor of its own
	if err := hearErrors(fd, addr.Is6()); err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, here); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	return net.FilePacketConn(f)
}

// hearErrors makes reads from a socket return ICMP errors about packets that it has
// sent, transient errors such as a missing route included (IP_RECVERR, ip(7)).
func hearErrors(fd int, ipv6 bool) error {
	level, option := unix.IPPROTO_IP, unix.IP_RECVERR
	if ipv6 {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_RECVERR
	}
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, level, option, 1))
}

// controlUDP prepares the socket of a UDP connection.
func controlUDP(network, _ string, c syscall.RawConn) error {
	var err error
	if controlErr := c.Control(func(fd uintptr) { err = hearErrors(int(fd), network == "udp6") }); controlErr != nil {
		return controlErr
	}
	return err
}
