package vrrp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// reservations are the VRIDs that a Conn has reserved.
type reservations struct {
	mu   sync.Mutex
	list [256]reservation
}

// reservation is one VRID's.
type reservation struct {
	users int
	lock  io.Closer // or nil
}

// takenError says that another router of the host has the VRID, or that somebody
// does who does not answer.
type takenError struct {
	by     string
	silent bool
}

func (e *takenError) Error() string { return "taken by " + e.by }

// Is makes every takenError an ErrVRIDInUse.
func (e *takenError) Is(target error) bool { return target == ErrVRIDInUse }

// A process that is about to end keeps its VRIDs for a moment.
const (
	reserveTime  = time.Second
	reserveEvery = 50 * time.Millisecond
)

// Reserve keeps other processes of this host, and other Conns, from running a router
// with the same VRID, address family and interface in the same network namespace,
// until release is called: two of them would both be Active, and each would take off
// the addresses that the other one puts on. Run does so for as long as it runs.
// Whoever touches addresses before or after that, as a vip.Manager does with those
// that a predecessor left, reserves the router first.
//
// Reserve waits a moment for a process that ends. The error, [ErrVRIDInUse], then says
// which process has the router: try again, and until then a Group goes on without this one. Only
// processes of root and of this process's own user are respected.
func (r *Router) Reserve(ctx context.Context) (release func(), err error) {
	if ctx == nil {
		return nil, fmt.Errorf("vrrp: %s: no context", r.name)
	}
	if release, err = r.conn.reserve(ctx, r.cfg.VRID); err == nil {
		return release, nil
	}
	if ctx.Err() == nil {
		r.waitOutside()
	}
	return nil, fmt.Errorf("vrrp: %s: %w", r.name, err)
}

// reserve reserves a VRID, which several may do.
func (c *Conn) reserve(ctx context.Context, vrid uint8) (release func(), err error) {
	for began := time.Now(); ; {
		last := time.Since(began) >= reserveTime
		err := c.tryReserve(vrid, last)
		if err == nil {
			var once sync.Once
			return func() { once.Do(func() { c.unreserve(vrid) }) }, nil
		}
		if errors.Is(err, ErrClosed) {
			return nil, fmt.Errorf("interface %s: %w", c.name, err)
		}
		if last {
			return nil, fmt.Errorf("interface %s: VRID %d (%v) is %w", c.name, vrid, c.family, err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(reserveEvery):
		}
	}
}

// tryReserve tries once. If the host cannot tell who has the VRID, or only somebody
// who does not answer until the last time, the router runs all the same.
func (c *Conn) tryReserve(vrid uint8, last bool) error {
	c.reserved.mu.Lock()
	defer c.reserved.mu.Unlock()
	select {
	case <-c.done:
		return ErrClosed
	default:
	}
	r := &c.reserved.list[vrid]
	if r.users == 0 {
		lock, err := c.net.reserve(vrid)
		if taken, ok := errors.AsType[*takenError](err); ok && !(last && taken.silent) {
			return err
		}
		if err != nil {
			c.log.Warn("another process may run the same virtual router", "interface", c.name, "vrid", vrid, "err", err)
		}
		r.lock = lock
	}
	r.users++
	return nil
}

func (c *Conn) unreserve(vrid uint8) {
	c.reserved.mu.Lock()
	defer c.reserved.mu.Unlock()
	r := &c.reserved.list[vrid]
	if r.users--; r.users == 0 && r.lock != nil {
		r.lock.Close()
		r.lock = nil
	}
}
