package healthcheck

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"time"
)

// defaultSilence is for how long UDP listens with AllowSilence and without a
// deadline.
const defaultSilence = time.Second

// UDP is a [Checker] that sends a datagram and awaits a reply. An ICMP message "port
// unreachable" is a failure at once; on Linux so are the other messages about an
// unreachable destination.
type UDP struct {
	// Address is "host:port" or "[v6]:port". Required.
	Address string
	// Send is the datagram's payload. Default: empty.
	Send []byte
	// Expect must occur in the first 4 KiB of the reply, and ExpectRegexp match
	// there. Default: any reply will do.
	Expect       []byte
	ExpectRegexp *regexp.Regexp
	// AllowSilence is for servers that never reply, such as a log server: no
	// reply within half of the time allowed (without a deadline: 1 s) is
	// healthy too. The check then fails only if nobody listens.
	AllowSilence bool
}

// String names the check in errors and log lines.
func (c UDP) String() string { return "udp " + c.Address }

// WithDefaults returns c: the default of every field but Address is its zero.
func (c UDP) WithDefaults() UDP { return c }

// Validate reports an address that cannot be sent to.
func (c UDP) Validate() error { return validateAddress("Address", c.Address) }

// Check sends the datagram and judges the reply.
func (c UDP) Check(ctx context.Context) error { return fail(c, c.probe(ctx)) }

func (c UDP) probe(ctx context.Context) error {
	// A connected socket receives from its peer only, and reports ICMP errors.
	conn, release, err := dial(ctx, "udp", c.Address)
	if err != nil {
		return err
	}
	defer release()
	if c.AllowSilence {
		wait := defaultSilence
		if deadline, ok := ctx.Deadline(); ok {
			wait = time.Until(deadline) / 2
		}
		// The end of ctx has set a deadline too, maybe before this one.
		if err := cmp.Or(conn.SetReadDeadline(time.Now().Add(wait)), ctx.Err()); err != nil {
			return err
		}
	}
	if _, err := conn.Write(c.Send); err != nil {
		return err
	}
	reply := make([]byte, maxDatagram)
	n, err := conn.Read(reply)
	switch {
	case err != nil && c.AllowSilence && errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil:
		return nil
	case err != nil:
		return err
	case !matches(reply[:n], c.Expect, c.ExpectRegexp):
		return fmt.Errorf("unexpected reply %s", excerpt(reply[:n]))
	}
	return nil
}
