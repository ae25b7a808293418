package lb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/havip/havip/internal/field"
)

// UDPConfig configures a UDP.
type UDPConfig struct {
	// Pool is where datagrams go. Required.
	Pool *Pool
	// IdleTimeout ends a session without datagrams in either direction. Default 30 s.
	IdleTimeout time.Duration
	// Responses is how many datagrams the backend sends for each one that it gets:
	// 1 suits DNS. The session ends when there have been as many, and one that ends
	// by IdleTimeout with fewer counts as a failure of the backend. A datagram may
	// be lost on the way: consider a MaxFails of more than 1. 0: no number is
	// expected.
	Responses int
	// MaxSessions bounds the table. When it is full, the session that has been idle
	// for longest makes room, as it does when this host has no descriptor or no port
	// for another one. All UDPs of a process together have half of its descriptors
	// (RLIMIT_NOFILE) and seven eighths of net.ipv4.ip_local_port_range, as these were
	// when Serve began. When they are used up, the UDP with most of them makes room.
	// Default 65536.
	MaxSessions int
	// Record is told of each session that has ended; it must not block.
	Record func(Record)
	// Logger gets failures of backends. Nothing waits for it. nil: silent.
	Logger *slog.Logger
}

// WithDefaults returns c with its zero fields filled in.
func (c UDPConfig) WithDefaults() UDPConfig {
	c.IdleTimeout = cmp.Or(c.IdleTimeout, 30*time.Second)
	c.MaxSessions = cmp.Or(c.MaxSessions, 65536)
	return c
}

// Validate returns what is wrong with c: FieldErrors, joined.
func (c UDPConfig) Validate() error {
	c = c.WithDefaults()
	return errors.Join(
		field.If(c.Pool == nil, "Pool", "nil: want one"),
		field.Between("IdleTimeout", c.IdleTimeout, 10*time.Millisecond, 30*day),
		field.Between("Responses", c.Responses, 0, maxCount),
		field.Between("MaxSessions", c.MaxSessions, 1, 1<<24))
}

// udpSettings are the settings of the sessions that began while they were current.
type udpSettings struct {
	UDPConfig
	log *slog.Logger
}

// UDP relays datagrams to a pool. A client's datagrams to one address of this host
// form a session: they go to one backend, and the backend's replies come from
// the address that the client asked. Serve needs Linux.
//
// A session goes on with another backend when its own refuses it (ICMP says so: nobody
// has the port, or it is prohibited), or is down and the pool would not use it. Of what
// may pass, such as a host that does not answer, Linux tells a socket nothing: that
// takes a health check, or Responses. A backend that drains or was
// removed keeps its sessions for the pool's DrainTimeout; they end then, as they
// do at once with KillOnDown. A client that goes on sending gets a new session.
// The health of a backend that was removed is not known any more: without a
// DrainTimeout a client that never pauses may send to it for ever.
//
// The addresses of backends given by name come from [Pool.Run]; until there is one,
// sessions go to other backends.
type UDP struct {
	settings atomic.Pointer[udpSettings] // for new sessions
	serving  atomic.Bool
	counters counters
}

// NewUDP returns a UDP that does not serve yet.
func NewUDP(cfg UDPConfig) (*UDP, error) { return configured(new(UDP), cfg) }

// Reconfigure makes sessions that begin from now on use cfg; those under way go on
// as they are, unless MaxSessions leaves no room for them. On error nothing changes.
func (u *UDP) Reconfigure(cfg UDPConfig) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("lb: UDP: %w", err)
	}
	cfg = cfg.WithDefaults()
	u.settings.Store(&udpSettings{UDPConfig: cfg, log: limitedLog(cfg.Logger)})
	return nil
}

// Stats returns what u has done. Refused counts sessions that had to make room,
// Failed datagrams for which there was no backend.
func (u *UDP) Stats() Stats { return u.counters.stats() }

// Serve relays the datagrams of conn, which it closes, until ctx ends: nil. At the
// same time u serves one socket only: ErrServing. It may serve another one after
// that.
//
// One goroutine does it all. Two of them with sockets of their own (SO_REUSEPORT)
// relayed no more on two processors, clients and servers included, and took
// an eighth more processor time for lasting sessions, a quarter more for new ones.
// Where one processor is not enough for a service, serve a UDP for each of several
// such sockets, over the same Pool: the kernel keeps a client with its socket.
func (u *UDP) Serve(ctx context.Context, conn *net.UDPConn) error {
	if conn == nil {
		return errors.New("lb: UDP: socket nil: want one")
	}
	defer conn.Close()
	err := ErrServing
	if u.serving.CompareAndSwap(false, true) {
		defer u.serving.Store(false)
		err = u.serveSocket(ctx, conn)
	}
	if err != nil {
		return fmt.Errorf("lb: UDP on %s: %w", conn.LocalAddr(), err)
	}
	return nil
}
