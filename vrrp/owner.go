package vrrp

import (
	"errors"
	"os"
	"slices"
	"time"
)

// ownerReader hears the owners of virtual IPv4 addresses. While this host has the
// addresses itself, Linux takes what comes from them for forged and drops it
// before a raw IP socket gets to see it (fib_validate_source in the kernel): an
// owner that advertises from them could not come back.
type ownerReader interface {
	// read waits for an advertisement of priority 255. What p points to is
	// valid until the next call.
	read(p *Packet) error
	Close() error
}

// hearOwners hands over what an ownerReader hears, until it is closed. Its
// goroutine has hardly anything to do.
func (c *Conn) hearOwners(o ownerReader) {
	var p Packet
	for {
		err := o.read(&p)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil { // the interface is down, or gone
			time.Sleep(10 * time.Millisecond)
			continue
		}
		c.mu.Lock()
		if r := c.overlooked(&p); r != nil {
			r.loop.receive(&p, time.Now())
			r.loop.flush()
			r.loop.hurry()
		}
		c.mu.Unlock()
	}
}

// overlooked returns the router for which p is if its own socket does not get
// p. c.mu is held.
func (c *Conn) overlooked(p *Packet) *Router {
	vrid, _, ok := peekVRID(p)
	if !ok || c.routers[vrid] == nil {
		return nil
	}
	r := c.routers[vrid]
	if !slices.Contains(r.cfg.Addresses, p.Source) || p.Protocol != r.loop.protocol || !r.holding() {
		return nil
	}
	return r
}

// holding tells whether the router is Active. conn.mu is held.
func (r *Router) holding() bool {
	if g := r.cfg.Group; g != nil {
		g.mu.Lock()
		defer g.mu.Unlock()
	}
	return r.machine.State() == Active
}
