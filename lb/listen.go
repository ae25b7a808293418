package lb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// Listen opens a stream listener, tcp, tcp4, tcp6 or unix, for a plane. On Linux
// the address need not be on this host yet (IP_FREEBIND): a VRRP Backup
// listens on the virtual address before it owns it, and serves from the
// moment that it does. The backlog is what net.core.somaxconn allows. MPTCP is off:
// a client that speaks it would be told of the host's own addresses too, and its
// connection would pass by the virtual one.
func Listen(ctx context.Context, network, address string) (net.Listener, error) {
	lc := net.ListenConfig{Control: listenControl}
	lc.SetMultipathTCP(false) // on by default
	ln, err := lc.Listen(ctx, network, address)
	if err != nil {
		return nil, listenError(network, address, err)
	}
	return ln, nil
}

// listenError says what to do about the common reasons.
func listenError(network, address string, err error) error {
	hint := ""
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		hint = " (another program listens there: ss -lnp shows which)"
	case errors.Is(err, syscall.EACCES):
		hint = " (a port below 1024 needs root or CAP_NET_BIND_SERVICE)"
	}
	// The system call's error alone: net.OpError repeats the address.
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return fmt.Errorf("lb: listen on %s %s: %w%s", network, address, err, hint)
}

// ListenPacket opens a UDP socket for Serve, with room for bursts of datagrams: 4 MB
// with CAP_NET_ADMIN, otherwise what net.core.rmem_max allows. As with Listen, the
// address need not be on this host yet.
func ListenPacket(ctx context.Context, network, address string) (*net.UDPConn, error) {
	lc := net.ListenConfig{Control: listenControl}
	c, err := lc.ListenPacket(ctx, network, address)
	if err != nil {
		return nil, listenError(network, address, err)
	}
	u, ok := c.(*net.UDPConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("lb: listen on %s %s: not UDP", network, address)
	}
	growBuffers(u, 4<<20)
	return u, nil
}
