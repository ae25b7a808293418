package vrrp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// netif is what a Conn knows about its interface.
type netif struct {
	name      string
	index     int  // 0: there is no such interface
	up        bool // administratively, and with a carrier
	multicast bool
	ethernet  bool
	mtu       int      // of IP packets, in bytes; 0: not known
	addrs     []ifaddr // of the Conn's family, as the kernel lists them
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
}

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

// source chooses the address that cfg's router sends from. The virtual ones are
// nobody's source, except that the owner's are its host's own, and may be the
// only one there is. current is kept if it is still possible: an address that
// comes along must not change the outcome of an election.
func (n *netif) source(cfg *Config, current netip.Addr, virtual map[netip.Addr]int) (netip.Addr, error) {
	if n.unknown {
		if !cfg.Source.IsValid() {
			return cfg.Source, errors.New("no source address is configured")
		}
		return cfg.Source, nil
	}
	want := fmt.Sprintf("%v address", cfg.family())
	free := func(a *ifaddr) bool {
		return virtual[a.addr] == 0 || cfg.owner() && slices.Contains(cfg.Addresses, a.addr)
	}
	suits := free
	switch {
	case cfg.Source.IsValid():
		want = fmt.Sprintf("source %v", cfg.Source)
		suits = func(a *ifaddr) bool { return a.addr == cfg.Source }
	case cfg.family() == familyIPv6:
		// Peers with global addresses know this router by one, too.
		linkLocal := len(cfg.Peers) == 0 || cfg.Peers[0].IsLinkLocalUnicast()
		if linkLocal {
			want = "link-local address"
		}
		suits = func(a *ifaddr) bool { return free(a) && a.addr.IsLinkLocalUnicast() == linkLocal }
	}
	// Hosts that have taken a virtual address over may take what comes from it
	// for their own.
	rank := func(a *ifaddr) int {
		switch {
		case virtual[a.addr] > 0:
			return 2
		case a.avoid:
			return 1
		}
		return 0
	}
	var best *ifaddr
	for i := range n.addrs {
		a := &n.addrs[i]
		if a.tentative || !suits(a) {
			continue
		}
		if a.addr == current {
			return current, nil
		}
		if best == nil || rank(a) < rank(best) {
			best = a
		}
	}
	if best == nil {
		return netip.Addr{}, fmt.Errorf("no %s on %s", want, n.name)
	}
	return best.addr, nil
}

// linkEvent is one message about an interface or an address. It is a hint to
// look again, no more.
type linkEvent struct {
	index int
	name  string     // for a link
	addr  netip.Addr // for an address
}

// packetWriter is the sending half of a [PacketConn].
type packetWriter interface {
	WriteBatch(ps []Packet) (int, error)
	Close() error
}

// network is where a Conn gets its sockets and learns about its interface.
type network interface {
	// look returns the interface as it is now. A missing interface is no error.
	look() (netif, error)
	// wait returns when there was an event that concerns accepts, or when some
	// may have been lost. An error means that there will be no more.
	wait(concerns func(linkEvent) bool) error
	// open opens a socket for an IP protocol on the interface. Any goroutine
	// may call it.
	open(nif *netif, protocol uint8) (PacketConn, error)
	// frames opens a socket that sends whole Ethernet frames on the interface.
	// Nil: those of open take a Packet.HardwareSource, too.
	frames(nif *netif) (packetWriter, error)
	// owners opens a socket that hears the owners of virtual IPv4 addresses on
	// the interface. Nil: those of open do.
	owners(nif *netif) (ownerReader, error)
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

func (n *customNetwork) look() (netif, error) {
	return netif{name: n.name, index: 1, up: true, multicast: true, ethernet: true, unknown: true}, nil
}

func (n *customNetwork) wait(func(linkEvent) bool) error {
	<-n.done
	return errors.New("closed")
}

func (n *customNetwork) open(_ *netif, protocol uint8) (PacketConn, error) { return n.f(protocol) }

func (n *customNetwork) frames(*netif) (packetWriter, error) { return nil, nil }

func (n *customNetwork) owners(*netif) (ownerReader, error) { return nil, nil }

func (n *customNetwork) interrupt() { close(n.done) }

func (n *customNetwork) close() {}
