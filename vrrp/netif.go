package vrrp

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"
)

// netif is what a Conn knows about its interface.
type netif struct {
	name      string
	index     int  // 0: there is no such interface
	up        bool // administratively, and with a carrier
	multicast bool
	ethernet  bool
	mtu       int              // of IP packets, in bytes; 0: not known
	mac       net.HardwareAddr // nil: not known
	addrs     []ifaddr         // of the Conn's family, as the kernel lists them
	// unknown: this is no interface of a kernel, and its addresses are not known.
	unknown bool
}

// ifaddr is one address of an interface.
type ifaddr struct {
	addr      netip.Addr
	tentative bool // not proven to be unique: nothing can be sent from it
	// avoid: secondary or deprecated, as addresses are that were added for another
	// purpose than the host's own.
	avoid bool
	// virtual: ListenConfig.Virtual says so.
	virtual bool
}

// users counts the routers that list an address: all of them, and those that do not own
// it.
type users struct{ all, moving int }

// fault returns why no router can take part on the interface, or "".
func (n *netif) fault() string {
	switch {
	case n.index == 0:
		return fmt.Sprintf("link %s missing", n.name)
	case !n.up:
		return fmt.Sprintf("link %s down", n.name)
	}
	return ""
}

// serves reports whether packets can come and go.
func (n *netif) serves() bool { return n.fault() == "" && (n.unknown || len(n.addrs) > 0) }

// source chooses the address that cfg's router sends from. No router sends from a virtual
// address, which goes from host to host. But an owner's addresses are its host's own, and
// may be the only ones.
//
// home is the router's first source ever, by which its peers know it. A router returns to
// home, and a router with Peers sends from no other address. current is kept while it is
// possible: a new address must not change the outcome of an election.
func (n *netif) source(cfg *Config, home, current netip.Addr, virtual map[netip.Addr]users) (netip.Addr, error) {
	switch {
	case n.unknown && !cfg.Source.IsValid():
		return cfg.Source, errors.New("no source address is configured")
	case n.unknown:
		return cfg.Source, nil
	case cfg.Source.IsValid():
		return n.fixedSource(cfg, cfg.Source, virtual)
	case len(cfg.Peers) > 0 && home.IsValid():
		return n.fixedSource(cfg, home, virtual)
	}
	// Peers with global IPv6 addresses know this router by a global one.
	linkLocal := cfg.family() == familyIPv6 && (len(cfg.Peers) == 0 || cfg.Peers[0].IsLinkLocalUnicast())
	moves := func(a *ifaddr) bool { return a.virtual || virtual[a.addr].all > 0 }
	rank := func(a *ifaddr) int {
		switch {
		case moves(a):
			// A host that has taken the address over may take packets from it for
			// its own.
			return 4
		case a.addr == home:
			return 0
		case a.addr == current:
			return 1
		case a.avoid:
			return 3
		}
		return 2
	}
	var best *ifaddr
	for i := range n.addrs {
		a := &n.addrs[i]
		if a.tentative || moves(a) && !cfg.owns(a.addr) || a.addr.Is6() && a.addr.IsLinkLocalUnicast() != linkLocal {
			continue
		}
		if best == nil || rank(a) < rank(best) {
			best = a
		}
	}
	switch {
	case best != nil:
		return best.addr, nil
	case linkLocal:
		return netip.Addr{}, fmt.Errorf("no link-local address on %s", n.name)
	case slices.ContainsFunc(n.addrs, func(a ifaddr) bool { return moves(&a) }):
		return netip.Addr{}, fmt.Errorf("no %v address on %s but virtual ones, from which nobody sends", cfg.family(), n.name)
	}
	return netip.Addr{}, fmt.Errorf("no %v address on %s", cfg.family(), n.name)
}

// fixedSource returns addr if cfg's router can send from it.
func (n *netif) fixedSource(cfg *Config, addr netip.Addr, virtual map[netip.Addr]users) (netip.Addr, error) {
	i := slices.IndexFunc(n.addrs, func(a ifaddr) bool { return a.addr == addr && !a.tentative })
	switch {
	case i < 0:
		return netip.Addr{}, fmt.Errorf("no source %v on %s", addr, n.name)
	case !cfg.owns(addr) && (n.addrs[i].virtual || virtual[addr].moving > 0):
		return netip.Addr{}, fmt.Errorf("source %v on %s is a virtual address", addr, n.name)
	}
	return addr, nil
}

// linkEvent is one message about an interface or an address: a hint to look again.
type linkEvent struct {
	index int
	name  string     // for a link
	addr  netip.Addr // for an address
	gone  bool       // it was there before
}

// packetWriter is the sending half of a [PacketConn].
type packetWriter interface {
	WriteBatch(ps []Packet) (int, error)
	Close() error
}

// rejoiner is a [PacketConn] that hears a group while the kernel remembers its membership.
type rejoiner interface {
	// rejoin makes the socket a member again, whether or not it still is one.
	rejoin() error
}

// network opens the sockets of a Conn and follows its interface.
type network interface {
	// lookUp returns the interface that has the name now, or, if none has it, the
	// interface that was seen last, whatever its name is. A missing interface is no
	// error. lookUp is called by one goroutine at a time.
	lookUp() (netif, error)
	// waitEvent returns after an event that concerns accepts, or when events may have
	// been lost. lost: events were lost, or something has gone, which may have come
	// back since without all of its state. After an error there are no more events.
	waitEvent(concerns func(linkEvent) bool) (lost bool, err error)
	// openSocket opens a socket for an IP protocol on the interface. Any goroutine
	// may call it.
	openSocket(nif *netif, protocol uint8) (PacketConn, error)
	// openFrames opens a socket that sends whole Ethernet frames on the interface.
	// Nil: the sockets of openSocket take a Packet.HardwareSource.
	openFrames(nif *netif) (packetWriter, error)
	// openOwners opens a socket that hears the owners of virtual IPv4 addresses on
	// the interface. Nil: the sockets of openSocket hear them.
	openOwners(nif *netif) (ownerReader, error)
	// reserveVRID takes a VRID for this process, or returns a takenError. Another
	// error means that the owner is not known. A nil lock: no other process can run
	// a router here.
	reserveVRID(vrid uint8) (io.Closer, error)
	// wake makes waitEvent return as if events had been lost, this call or the next. It
	// may be called at any time, also after close.
	wake()
	// close makes waitEvent return an error. No other call but wake is under way, or
	// follows.
	close()
}

// customNetwork is ListenConfig.Open.
type customNetwork struct {
	name string
	f    func(protocol uint8) (PacketConn, error)
	done chan struct{}
}

func (n *customNetwork) lookUp() (netif, error) {
	return netif{name: n.name, index: 1, up: true, multicast: true, ethernet: true, unknown: true}, nil
}

func (n *customNetwork) waitEvent(func(linkEvent) bool) (bool, error) {
	<-n.done
	return false, errors.New("closed")
}

func (n *customNetwork) openSocket(_ *netif, protocol uint8) (PacketConn, error) {
	pc, err := n.f(protocol)
	if err == nil && pc == nil {
		err = errors.New("ListenConfig.Open returned no PacketConn")
	}
	return pc, err
}

func (n *customNetwork) openFrames(*netif) (packetWriter, error) { return nil, nil }

func (n *customNetwork) openOwners(*netif) (ownerReader, error) { return nil, nil }

func (n *customNetwork) reserveVRID(uint8) (io.Closer, error) { return nil, nil }

func (n *customNetwork) wake() {} // no look fails

func (n *customNetwork) close() { close(n.done) }

// ownerReader hears the owners of virtual IPv4 addresses. While this host has such an
// address itself, Linux takes packets from it for forged and drops them before a raw IP
// socket (fib_validate_source in the kernel): an owner that advertises from it could not
// come back.
type ownerReader interface {
	// read waits for an advertisement of priority 255. The memory of p is valid until
	// the next call.
	read(p *Packet) error
	Close() error
}

// hearOwners passes on what an ownerReader hears, until that is closed. Its goroutine
// sleeps most of the time.
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
			r.loop.receivePacket(&p, time.Now())
			r.loop.sendQueued()
			r.loop.advanceDeadline()
		}
		c.mu.Unlock()
	}
}

// overlooked returns the router of p if the router's own socket does not get p, or nil.
// c.mu is held.
func (c *Conn) overlooked(p *Packet) *Router {
	vrid, ok := peekVRID(p)
	if !ok || c.routers[vrid] == nil {
		return nil
	}
	r := c.routers[vrid]
	if !slices.Contains(r.cfg.Addresses, p.Source) || p.Protocol != r.loop.protocol || !r.isActive() {
		return nil
	}
	return r
}

// isActive reports whether the router is Active. conn.mu is held.
func (r *Router) isActive() bool {
	r.cfg.Group.lock()
	defer r.cfg.Group.unlock()
	return r.machine.State() == Active
}

// isHolder reports whether the router is Active and does not hand over. conn.mu is held.
func (r *Router) isHolder() bool {
	r.cfg.Group.lock()
	defer r.cfg.Group.unlock()
	return r.machine.holds()
}
