package vrrp

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/havip/havip/internal/retry"
)

// refreshRouters tells the routers the state of the interface. c.mu is held.
func (c *Conn) refreshRouters() {
	for _, r := range c.routers {
		if r != nil {
			r.setLink(c.linkState(&r.cfg, r.home, r.source))
		}
	}
}

// linkState returns the address for cfg's router to send from, or a fault. See
// netif.source. c.mu is held.
func (c *Conn) linkState(cfg *Config, home, current netip.Addr) (source netip.Addr, fault string) {
	fault = cmp.Or(c.nif.fault(), c.broken)
	source, err := c.nif.source(cfg, home, current, c.virtual)
	if err = cmp.Or(c.carriesConfig(cfg), err); fault == "" && err != nil {
		fault = err.Error()
	}
	return source, fault
}

// Check returns the fault that a Router of cfg would have now because of the interface:
// missing, down, without an address to send from, for example. A Router may be run in spite
// of it: the fault ends with its cause. After Close the error is [ErrClosed].
func (c *Conn) Check(cfg Config) error {
	cfg, err := cfg.complete()
	if err != nil {
		return err
	}
	c.updateForRouter()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isClosed() {
		return fmt.Errorf("vrrp: %s: interface %s: %w", cfg.Name, c.name, ErrClosed)
	}
	c.countAddresses(&cfg, 1)
	defer c.countAddresses(&cfg, -1)
	if _, fault := c.linkState(&cfg, netip.Addr{}, netip.Addr{}); fault != "" {
		return fmt.Errorf("vrrp: %s: %s", cfg.Name, fault)
	}
	return nil
}

// retryLink is the pause after a look at the interface has failed, or no socket could be
// opened on it.
const retryLink = time.Second

// watchInterface follows the interface until the Conn is closed. After a failure it looks
// again until a look succeeds. err is the error of the last look.
func (c *Conn) watchInterface(err error) {
	for said, lost := "", false; !c.isClosed(); {
		if err == nil {
			said = ""
			lost, err = c.net.waitEvent(c.concernsEvent)
		} else {
			if text := err.Error(); text != said {
				said = text
				c.log.Warn("watching the interface", "interface", c.name, "err", text)
			}
			retry.Pause(c.life, retryLink)
			lost, err = true, nil // events may have been lost, whatever err was
		}
		if err == nil {
			err = c.updateInterface(lost)
		}
	}
}

// isClosed reports whether Close was called.
func (c *Conn) isClosed() bool { return c.life.Err() != nil }

// updateForRouter looks at the interface for a router that begins or is reconfigured: the
// router's source may have come while no router was interested in it.
func (c *Conn) updateForRouter() {
	if c.updateInterface(false) != nil {
		c.net.wake() // for another look by watchInterface
	}
}

// lookUpInterface asks the network for the interface. c.mu is not held: the calls may
// take their time.
func (c *Conn) lookUpInterface() (netif, error) {
	nif, err := c.net.lookUp()
	if c.isMoved != nil {
		for i := range nif.addrs {
			nif.addrs[i].virtual = c.isMoved(nif.addrs[i].addr)
		}
	}
	return nif, err
}

// updateInterface looks at the interface and acts on changes. lost: events were lost, or
// something went away and may have come back.
func (c *Conn) updateInterface(lost bool) error {
	c.looking.Lock()
	defer c.looking.Unlock()
	if c.isClosed() {
		return ErrClosed
	}
	nif, err := c.lookUpInterface()
	if err != nil {
		return err
	}
	c.mu.Lock()
	before := c.nif
	if !c.isClosed() && before.index != 0 && nif.index != 0 && nif.index != before.index {
		// No peer on the new link knows this router: the old link is left first.
		c.broken = fmt.Sprintf("link %s is another one now", c.name)
		c.refreshRouters()
	}
	c.nif = nif
	err = c.restoreSockets(&before, lost)
	c.refreshRouters()
	c.mu.Unlock()
	return err
}

// concernsEvent reports whether an event may change anything for the Conn. A new address
// changes nothing while every router has a source: the holder of many virtual addresses
// renews them all the time. The loss of an address of the host's own always counts: the
// kernel may have dropped the sockets' membership of the group as well.
func (c *Conn) concernsEvent(e linkEvent) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !e.addr.IsValid() {
		return e.index == c.nif.index || e.name == c.name
	}
	if e.index != c.nif.index {
		return false
	}
	if e.gone && slices.ContainsFunc(c.nif.addrs, func(a ifaddr) bool {
		return a.addr == e.addr && !a.virtual && c.virtual[a.addr].all == 0
	}) {
		return true
	}
	return slices.ContainsFunc(c.routers[:], func(r *Router) bool {
		return r != nil && (r.sourceless || r.source == e.addr || r.home == e.addr)
	})
}

// binding is the part of an interface's state that sockets depend on.
type binding struct {
	index     int // 0: of no interface
	multicast bool
}

func (n *netif) binding() binding { return binding{n.index, n.multicast} }

// noSocket takes the place of a socket while the interface is missing: ReadBatch returns
// at its deadline and never with a packet.
type noSocket struct{ net.Conn }

var _ PacketConn = noSocket{}

func newNoSocket() noSocket {
	c, _ := net.Pipe()
	return noSocket{c}
}

func (s noSocket) ReadBatch([]Packet) (int, error) {
	_, err := s.Read(make([]byte, 1))
	return 0, err
}

func (s noSocket) WriteBatch([]Packet) (int, error) { return 0, errors.New("no socket yet") }

// The methods below are called with c.mu held, or before another goroutine has c.

// canOpen reports whether sockets can be opened now. Otherwise restoreSockets opens them
// later.
func (c *Conn) canOpen() bool { return c.nif.index != 0 && c.broken == "" }

// restoreSockets makes the sockets fit the interface as it is now.
func (c *Conn) restoreSockets(before *netif, lost bool) (err error) {
	c.doubtful = c.doubtful || lost || !before.serves()
	useless := c.nif.binding() != c.bound || c.broken != ""
	if c.isClosed() || c.nif.index == 0 || !useless && !(c.doubtful && c.nif.serves()) {
		return nil
	}
	err = c.renewSockets(!useless)
	c.broken = ""
	if c.doubtful = err != nil; err != nil {
		c.broken = fmt.Sprintf("link %s: %v", c.name, err)
	}
	return err
}

// renewSockets replaces sockets that are bound to an interface that is gone, or to none.
//
// With rejoin the sockets stay, but become members of the group again. The kernel forgets a
// membership together with the interface's settings for the family: those for IPv6 go
// when the MTU is below 1280 bytes, and all of them when the interface moves to another
// network namespace, from which it may return with the same index. New sockets would not
// help: they lose their membership when the old ones are closed.
func (c *Conn) renewSockets(rejoin bool) error {
	for _, l := range c.loops {
		var err error
		_, none := l.pc.(noSocket) // of a router that began meanwhile
		member, _ := l.pc.(rejoiner)
		switch {
		case none || !rejoin:
			var pc PacketConn
			if pc, err = c.net.openSocket(&c.nif, l.protocol); err == nil {
				l.replaceSocket(pc)
			}
		case member != nil:
			err = member.rejoin()
		}
		if err != nil {
			return err
		}
	}
	c.bound = c.nif.binding()
	c.openOwners()
	if _, none := c.frames.(noSocket); none || c.frames != nil && !rejoin {
		return c.replaceFrames()
	}
	return nil
}

// replaceFrames replaces the socket that sends from virtual MACs.
func (c *Conn) replaceFrames() error {
	w, err := c.net.openFrames(&c.nif)
	if err != nil {
		return err
	}
	c.frames.Close()
	c.frames = w
	return nil
}

// openOwners makes the Conn hear the owners of addresses. Best effort: without it an
// address owner may go unheard.
func (c *Conn) openOwners() {
	if c.owners != nil {
		c.owners.Close()
	}
	var err error
	if c.owners, err = c.net.openOwners(&c.nif); err != nil {
		c.owners = nil
		c.log.Warn("owners of virtual addresses may not be heard", "interface", c.name, "err", err)
	}
	if o := c.owners; o != nil {
		c.wg.Go(func() { c.hearOwners(o) })
	}
}
