package vip

import (
	"net"
	"net/netip"
)

// kernel is what the rest of the package needs of the operating system, in one
// network namespace. Its methods may be called from several goroutines.
type kernel interface {
	// link finds the interface that has the name now or, where there is none (or
	// the name is empty), the one with the index. The error wraps ErrNoInterface.
	link(index int, name string) (link, error)
	// addresses lists those of all interfaces.
	addresses() ([]assigned, error)
	// networks lists the IPv6 networks that are on a link for another reason than
	// an address: a router's or a person's word.
	networks() ([]assigned, error)
	// nextHops lists those of the routes of one family, in all tables, that go with no
	// address.
	nextHops(v6 bool) ([]nextHop, error)
	// put adds an address, or changes the lifetime of one that is there. A fresh
	// one it only adds: the error wraps ErrInUse if it is there.
	put(a assigned, fresh bool) error
	// remove removes an address. That it is gone already is no error.
	remove(assigned) error
	// removeNetwork removes the route to an IPv6 address's network that the
	// kernel made for it. That it is gone already is no error.
	removeNetwork(assigned) error
	// putRoute adds a route with our mark. That it is there is no error.
	putRoute(r Route, index int) error
	// removeRoute removes a route with our mark. That it is gone already, or
	// that another without the mark is there, is no error.
	removeRoute(r Route, index int) error
	// onLink reports whether a route says that addr is a neighbour on an interface,
	// as a gateway must be.
	onLink(addr netip.Addr, index int) (bool, error)
	// known returns the addresses that the host with a hardware address has on an
	// interface, as far as this host has had to do with it.
	known(index int, mac net.HardwareAddr) ([]netip.Addr, error)
	// removal returns the netlink request that removes an address, and
	// routeRemoval that for a route.
	removal(a assigned) []byte
	routeRemoval(r Route, index int) []byte
	// filterRemoval returns the netfilter messages that undo filter.
	filterRemoval(name string) []byte
	// setDown returns the one that sets an interface down, and setting4 the one
	// that configure4 makes.
	setDown(index int) []byte
	setting4(index, setting int, value uint32) []byte
	// configure4 writes net.ipv4.conf.INTERFACE.*, by its number.
	configure4(index, setting int, value uint32) error
	// addMacvlan makes a macvlan interface, which is down.
	addMacvlan(name string, parent int, mac net.HardwareAddr) error
	// setUp sets an interface up or down. That it is gone is no error if down.
	setUp(index int, up bool) error
	// removeLink deletes an interface. That it is gone already is no error.
	removeLink(index int) error
	// filter drops what comes in for addrs, and for no others that it dropped
	// under this name before; none: that nothing is dropped is no error.
	filter(name string, addrs []netip.Addr) error
	// filters reports whether filter is in force still for addrs and this name.
	filters(name string, addrs []netip.Addr) (bool, error)
	// sweep undoes every filter of another process that drops what comes in for
	// one of addrs.
	sweep(addrs []netip.Addr) error
	// send sends an Ethernet frame, or fails: it never waits.
	send(index int, frame []byte) error
	// watch waits for changes. It returns an overrun when changes were lost,
	// and ErrClosed after close.
	watch() ([]change, error)
	// listeners return functions that each wait for the next sighting, and
	// return ErrClosed after close.
	listeners() []func() (sighting, error)
	close() error
}

// changeKind says what a change is about.
type changeKind uint8

const (
	addressAdded changeKind = iota + 1
	addressRemoved
	linkChanged
	// routeRemoved: one with our mark.
	routeRemoved
	// overrun: changes were lost. Everything may be different.
	overrun
)

// change is one thing that happened in the network namespace.
type change struct {
	kind  changeKind
	addr  netip.Addr // of addressAdded and addressRemoved
	mark  bool       // of addressAdded: it has our mark
	index int        // of the interface, of these and linkChanged
	name  string     // of linkChanged: it may be a new one
}
