package vip

import (
	"net"
	"net/netip"

	"github.com/havip/havip/vip/internal/hook"
)

// kernel is the interface to the operating system, in one network namespace. Its methods
// may be called from several goroutines.
type kernel interface {
	// link finds an interface by its name. If the name is empty, or no interface has
	// it, link goes by the index. The error wraps ErrNoInterface.
	link(index int, name string) (link, error)
	// addresses lists the addresses of all interfaces.
	addresses() ([]assigned, error)
	// networks lists the IPv6 networks that are on a link without an address: a router
	// has announced them, or a person has added a route.
	networks() ([]assigned, error)
	// nextHops lists the next hops of the routes of addr's family, in all tables, that do
	// not belong to an address.
	nextHops(addr netip.Addr) ([]nextHop, error)
	// put adds an address, or changes the lifetime of an address that is there. With
	// fresh it only adds: the error wraps ErrInUse if the address is there.
	put(a assigned, fresh bool) error
	// remove removes an address. A missing one is no error.
	remove(assigned) error
	// removeNetwork removes the route to an IPv6 address's network that the kernel has
	// made for the address. A missing one is no error.
	removeNetwork(assigned) error
	// putRoute adds a route with our mark, if there is none.
	putRoute(r Route, index int) error
	// removeRoute removes a route with our mark. It leaves a route without the mark. A
	// missing one is no error.
	removeRoute(r Route, index int) error
	// onLink reports whether a route says that addr is a neighbour on an interface,
	// as a gateway must be.
	onLink(addr netip.Addr, index int) (bool, error)
	// known returns the addresses of the host with a hardware address, from the
	// neighbour table of an interface.
	known(index int, mac net.HardwareAddr) ([]netip.Addr, error)
	// record returns the netlink requests of remove, removeRoute, setUp and configure4,
	// as do calls them, and changes nothing.
	record(do func(kernel)) [][]byte
	// filterRemoval returns the netfilter messages that undo hook.Filter's Drop.
	filterRemoval(name string) []byte
	// configure4 writes net.ipv4.conf.INTERFACE.*, by its number.
	configure4(index, setting int, value uint32) error
	// addMacvlan makes a macvlan interface, which is down.
	addMacvlan(name string, parent int, mac net.HardwareAddr) error
	// setUp sets an interface up or down. Down, a missing one is no error.
	setUp(index int, up bool) error
	// removeLink deletes an interface. A missing one is no error.
	removeLink(index int) error
	// packets returns the filter of packets for NoAccept. Where there is none its methods
	// fail with an error that wraps errors.ErrUnsupported.
	packets() hook.Filter
	// send sends an Ethernet frame, or fails: it never waits.
	send(index int, frame []byte) error
	// watch waits for changes. It returns an overrun when changes were lost,
	// and ErrClosed after close.
	watch() ([]change, error)
	// listeners return functions that each wait for the next sighting, and
	// return ErrClosed after close.
	listeners() []func() (sighting, error)
	close()
}

// changeKind says what a change is about.
type changeKind uint8

const (
	addressAdded changeKind = iota + 1
	addressRemoved
	linkChanged
	// routeRemoved: a route with our mark.
	routeRemoved
	// overrun: changes were lost. Everything may be different.
	overrun
)

// change is one thing that happened in the network namespace.
type change struct {
	kind  changeKind
	addr  netip.Addr // of addressAdded and addressRemoved
	mark  bool       // of addressAdded: it has our mark
	index int        // of the interface: of addresses and linkChanged
	name  string     // of linkChanged: may be new
}
