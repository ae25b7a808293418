package lb

import (
	"cmp"
	"errors"
	"log/slog"
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
	// for another one: each takes one of net.ipv4.ip_local_port_range. Default
	// 65536, or less if there are not as many descriptors.
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
	log   *slog.Logger
	users users
}
