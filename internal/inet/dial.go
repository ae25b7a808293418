package inet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// ErrSelfConnected is what a connection to itself means to whoever dials.
var ErrSelfConnected = fmt.Errorf("connected to itself: %w", syscall.ECONNREFUSED)

// IsSelfConnected reports whether c is connected to itself: both ends are the same socket.
// Who connects to a port of this host that nobody listens on may be given this very port
// for the own end, and then TCP opens the connection from both sides (RFC 9293 §3.5). A
// socket of UDP hears itself without further ado. As long as c is open, and after that for
// as long as TIME_WAIT lasts, no server can have the port: c must be reset.
func IsSelfConnected(c net.Conn) bool {
	at := AddrPort(c.LocalAddr())
	return at == AddrPort(c.RemoteAddr()) && at.Port() != 0 // 0: whoever dialled does not tell the addresses
}

// Dial connects by TCP or to a Unix socket, without keep-alive. Until the SetLinger of a
// TCP connection is called, Close resets it. That holds as well for the connections to
// itself that the net package gives up before Dial returns the third. control is called
// with each socket before it connects; nil: it need not be.
func Dial(ctx context.Context, network, address string, control func(syscall.RawConn) error) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1, Control: func(network, address string, c syscall.RawConn) error {
		if control != nil {
			if err := control(c); err != nil {
				return err
			}
		}
		return resetOnClose(network, address, c)
	}}
	return d.DialContext(ctx, network, address)
}

// AddrPort is the IP address and port of a; zero if it has none.
func AddrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}
