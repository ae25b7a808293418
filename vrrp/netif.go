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
	// unknown means that this is not a kernel's interface: any address may be
	// its own.
	unknown bool
}

// ifaddr is one address of an interface.
type ifaddr struct {
	addr      netip.Addr
	tentative bool // not proven to be unique: it cannot be sent from
	// avoid: secondary or deprecated, the mark of an address that was added
	// for other purposes than this host's own.
	avoid bool
	// virtual: ListenConfig.Virtual says so.
	virtual bool
}

// users counts the routers that have an address among theirs: all of them, and
// those whose hosts do not have the address anyway.
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

// source chooses the address that cfg's router sends from. Virtual ones are
// nobody's source: they go from host to host. Except that the owner's are its
// host's own, and may be the only one there is.
//
// home is the router's first choice ever, by which others know it: it is
// returned to, and those with Peers send from no other. current is kept if it is
// still possible: an address that comes along must not change the outcome of an
// election.
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
	// Peers with global IPv6 addresses know this router by one, too.
	linkLocal := cfg.family() == familyIPv6 && (len(cfg.Peers) == 0 || cfg.Peers[0].IsLinkLocalUnicast())
	moves := func(a *ifaddr) bool { return a.virtual || virtual[a.addr].all > 0 }
	rank := func(a *ifaddr) int {
		switch {
		case moves(a):
			// Hosts that have taken it over may take what comes from it for
			// their own.
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

// linkEvent is one message about an interface or an address. It is a hint to
// look again, no more.
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

// rejoiner is a [PacketConn] that hears a group for as long as the kernel knows that
// it is to.
type rejoiner interface {
	// rejoin makes it a member again, whether or not it still is one.
	rejoin() error
}

// network is where a Conn gets its sockets and learns about its interface.
type network interface {
	// look returns the interface as it is now: the one that has the name, or
	// the one seen last, under whatever name, while nobody has it. A missing
	// interface is no error. It is called by one goroutine at a time.
	lookUp() (netif, error)
	// wait returns when there was an event that concerns accepts, or when some
	// may have been lost. lost says so, or that something has gone: it may have
	// come back since, but not with everything that hung on it. An error means
	// that there will be no more.
	waitEvent(concerns func(linkEvent) bool) (lost bool, err error)
	// open opens a socket for an IP protocol on the interface. Any goroutine
	// may call it.
	openSocket(nif *netif, protocol uint8) (PacketConn, error)
	// frames opens a socket that sends whole Ethernet frames on the interface.
	// Nil: those of openSocket take a Packet.HardwareSource, too.
	openFrames(nif *netif) (packetWriter, error)
	// owners opens a socket that hears the owners of virtual IPv4 addresses on
	// the interface. Nil: those of openSocket do.
	openOwners(nif *netif) (ownerReader, error)
	// reserve takes a VRID for this process, or returns a takenError. Another
	// error means that it is not known who has it. Nil: nobody else can.
	reserveVRID(vrid uint8) (io.Closer, error)
	// interrupt makes wait return an error; close follows when nobody uses the
	// network any more.
	interrupt()
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

func (n *customNetwork) interrupt() { close(n.done) }

func (n *customNetwork) close() {}

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
			r.loop.receivePacket(&p, time.Now())
			r.loop.sendQueued()
			r.loop.advanceDeadline()
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
	if !slices.Contains(r.cfg.Addresses, p.Source) || p.Protocol != r.loop.protocol || !r.isActive() {
		return nil
	}
	return r
}

// isActive reports whether the router is Active. conn.mu is held.
func (r *Router) isActive() bool {
	if g := r.cfg.Group; g != nil {
		g.mu.Lock()
		defer g.mu.Unlock()
	}
	return r.machine.State() == Active
}
