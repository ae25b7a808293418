//go:build !linux

package healthcheck

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/net/icmp"
)

// errUnsupported is the error of checks that this system does not have.
var errUnsupported = errors.Join(ErrCannotRun, errors.ErrUnsupported)

func (c Gateway) probe(context.Context) error { return errUnsupported }

func (c Process) findProcesses() ([]int, error) { return nil, errUnsupported }

// listenPing opens a ping socket, where the system has such.
func listenPing(addr netip.Addr) (net.PacketConn, error) {
	network, any := "udp4", "0.0.0.0"
	if addr.Is6() {
		network, any = "udp6", "::"
	}
	conn, err := icmp.ListenPacket(network, any)
	if err != nil {
		return nil, err // not an interface of a nil pointer
	}
	return conn, nil
}

func controlUDP(string, string, syscall.RawConn) error { return nil }
