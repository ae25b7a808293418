package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/lb"
)

// openSocket opens what the plane of a service serves.
func openSocket(ctx context.Context, c config.Service) (io.Closer, error) {
	if c.Network() == "udp" {
		return lb.ListenPacket(ctx, "udp", listenAddress(c.Listen))
	}
	return lb.Listen(ctx, "tcp", listenAddress(c.Listen))
}

// duplicate returns another listener on the same socket: closing the one leaves
// the other, and what waits to be accepted is not lost.
func duplicate(socket io.Closer) (io.Closer, error) {
	tcp, ok := socket.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("daemon: %T cannot be handed over", socket)
	}
	f, err := tcp.File()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return net.FileListener(f)
}

// listenAddress leaves the host out where none is configured.
func listenAddress(a netip.AddrPort) string {
	host := ""
	if a.Addr().IsValid() {
		host = a.Addr().String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(a.Port())))
}

// socketKey names the socket of a service.
func socketKey(c config.Service) string { return c.Network() + " " + listenAddress(c.Listen) }

func samePort(a, b config.Service) bool {
	return a.Network() == b.Network() && a.Listen.Port() == b.Listen.Port()
}

// releaseTime bounds the wait for a service that ends to let go of its port.
const releaseTime = 2 * time.Second

// openSocketSoon is openSocket, but while the port is in use it goes on trying if another
// service is about to let go of the port.
func openSocketSoon(c config.Service, ending func() bool) (io.Closer, error) {
	for end := time.Now().Add(releaseTime); ; time.Sleep(5 * time.Millisecond) {
		socket, err := openSocket(context.Background(), c)
		if !errors.Is(err, syscall.EADDRINUSE) || !ending() || time.Now().After(end) {
			return socket, err
		}
	}
}
