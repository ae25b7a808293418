package lb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"
)

// UDP relays datagrams to a pool. A client's datagrams to one address of this host
// form a session: they go to one backend, and what that sends comes back from
// the address that the client asked. Set the fields before Serve and leave them
// alone after it; Replace changes them. Serve needs Linux.
//
// A session goes on with another backend when its own is unreachable (ICMP says
// so), or is down and the pool would not use it. A backend that drains or was
// removed keeps its sessions for the pool's DrainTimeout; they end then, as they
// do at once with KillOnDown. A client that goes on sending gets a new session.
// The health of a backend that was removed is not known any more: without a
// DrainTimeout a client that never pauses may send to it for ever.
//
// The addresses of backends given by name come from [Pool.Run]; until there is one,
// sessions go to other backends.
type UDP struct {
	// Pool is where datagrams go. Required.
	Pool *Pool
	// IdleTimeout ends a session without datagrams in either direction. Default 30 s.
	IdleTimeout time.Duration
	// Responses is how many datagrams the backend sends for each one that it gets:
	// 1 suits DNS. The session ends when there have been as many, and one that ends
	// by IdleTimeout with fewer counts as a failure of the backend. It may be that
	// one was lost on the way: consider a MaxFails of more than 1. 0: no number is
	// expected.
	Responses int
	// MaxSessions bounds the table. When it is full, the session that has been idle
	// for longest makes room. So it does when this host has no descriptor or no port
	// for another one: each takes one of net.ipv4.ip_local_port_range. Default
	// 65536, or less if there are not as many descriptors.
	MaxSessions int
	// Record is told of each session that has ended; it must not block.
	Record func(Record)
	// Logger gets failures of backends. Nothing waits for it. nil: silent.
	Logger *slog.Logger

	log      *slog.Logger
	replaced atomic.Pointer[UDP]
	counters counters
}

// Validate checks u and fills in its defaults. Serve and Replace call it.
func (u *UDP) Validate() error {
	setDefault(&u.IdleTimeout, 30*time.Second)
	setDefault(&u.MaxSessions, 65536)
	u.log = limitedLog(u.Logger)
	switch {
	case u.Pool == nil:
		return errors.New("lb: UDP: no pool")
	case u.IdleTimeout < 0:
		return fmt.Errorf("lb: UDP: idle timeout %v: must not be negative", u.IdleTimeout)
	case u.Responses < 0:
		return fmt.Errorf("lb: UDP: responses %d: must not be negative", u.Responses)
	case u.MaxSessions < 0:
		return fmt.Errorf("lb: UDP: max sessions %d: must not be negative", u.MaxSessions)
	}
	return nil
}

// Replace makes sessions that begin from now on use next's fields; those under
// way go on as they are, unless next's MaxSessions leaves no room for them. next must
// not be served itself.
func (u *UDP) Replace(next *UDP) error {
	if err := next.Validate(); err != nil {
		return err
	}
	u.replaced.Store(next)
	return nil
}

// current is the configuration for new sessions.
func (u *UDP) current() *UDP {
	if next := u.replaced.Load(); next != nil {
		return next
	}
	return u
}

// Stats returns what u has done. Refused counts sessions that had to make room,
// Failed datagrams for which there was no backend.
func (u *UDP) Stats() Stats { return u.counters.stats() }

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
