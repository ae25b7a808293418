package vip

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/havip/havip/internal/field"
)

// FieldError is what is wrong with one field of a [Config], by the field's name:
// "Addresses[2].Label". See [Config.Validate].
type FieldError = field.Error

// Errors that a caller may want to tell apart, with errors.Is.
var (
	// ErrNoInterface: the interface does not exist (any more).
	ErrNoInterface = errors.New("no such interface")
	// ErrInUse: another program has put the address on this host, or it is on
	// another interface, or another host answers for it.
	ErrInUse = errors.New("address already in use")
	// ErrLapsed: the process did not run for so long that the kernel has
	// removed its addresses.
	ErrLapsed = errors.New("lease lapsed")
	// ErrClosed: the Manager or Namespace was closed.
	ErrClosed = errors.New("closed")
	// ErrRunning: Run was called before, and has not returned.
	ErrRunning = errors.New("is already running")
)

// Config describes the addresses of one virtual router.
type Config struct {
	// Name is that of the virtual router whose addresses these are, for log lines, which
	// have it under the key router as package vrrp's have. Default: Interface.
	Name string
	// Interface is the device that carries the addresses, such as "eth0".
	// Required unless every address and route names its own.
	Interface string
	// VirtualMAC, if set, puts the addresses on a macvlan interface of their own,
	// with this hardware address, on top of Interface: when they move, neighbours
	// need not learn a new one. The macvlan is made by Run, up only while the
	// addresses are held, and deleted at the end; net.ipv4.conf.*.arp_ignore and
	// arp_announce of Interface are raised for that time. Routes go by Interface
	// all the same. See [VirtualMAC].
	VirtualMAC net.HardwareAddr
	// MacvlanName is the macvlan's name, with VirtualMAC only. Default: Keepalived's,
	// "vrrp.51" for VRID 51, "vrrp6.51" for IPv6.
	MacvlanName string
	// NoAccept drops what is addressed to the addresses while they are held:
	// Accept_Mode False (RFC 9568 §6.1), for a router that others send through
	// and not to. ARP and neighbour discovery go on. It takes nftables, with a
	// table of its own that is named after Name, which must then be unique, and
	// an import of package vip/filter. Not with Owner, which always accepts (RFC 9568 §6.1).
	NoAccept bool
	// Addresses are put on the interface by Acquire, in this order, whether or
	// not they are listed in advertisements. They may mix families, and there
	// may be none.
	Addresses []Address
	// Owner says that this host may own the addresses (RFC 9568 §6.1): that they
	// are configured on the interface anyway. Those that are there, and not put
	// there by a Manager, stay as they are whatever happens, and are only
	// announced: not even when another host takes them over are they taken off.
	// The others come and go as usual, and so does one of them that is deleted
	// while they are held.
	Owner bool
	// Takeover lets the Manager remove, while the addresses are not held, those
	// of them that a Keepalived that was killed has left on their interface for good,
	// with its mark. A Keepalived before 2.3 leaves none, and then an address goes if
	// it looks like an addition to the host. One stays that has no other beside it
	// which is not virtual, that a route has as its source or needs for its gateway,
	// that was there before another IPv4 address of its network, or that is an IPv6
	// one without the flag nodad. Without Takeover what does not have our mark is
	// never removed. What stays is in the way: the addresses cannot be held until it
	// has gone. Not with Owner, whose addresses are the host's.
	Takeover bool
	// Routes are added after the addresses and removed before them.
	Routes []Route
	// Lease is the lifetime that the kernel gives each address; the Manager
	// renews it four times as often. Whole seconds, up to 24 h. Default: 3 s, which
	// suits VRRP's default of three intervals of 1 s; see [LeaseFor] for others.
	// Negative: none, the addresses stay until they are removed, even if the process
	// is killed or frozen. Routes have no lifetime, but IPv4 ones go with an address
	// that is their Source.
	Lease time.Duration
	// Entitled, if set, is asked when a lease was not renewed in time whether
	// the addresses are this host's all the same, beyond doubt and as of now: the
	// kernel may just have been slow. If it says so the Manager goes on, and
	// announces what had gone meanwhile. Without it, or if it says no, they are
	// lost. It must not call the Manager. See vrrp's Router.Entitled.
	Entitled func() bool
	// Announce says how often the link is told where the addresses are.
	Announce Schedule
	// OnLost, if set, is called when addresses that were acquired could not be
	// kept: the lease lapsed, the interface vanished. The Manager has then
	// removed what was left, and adds nothing until Acquire is called again:
	// the election must be held anew. It is called from a goroutine of its own,
	// so that the Manager does not wait for it, but Run does at its end.
	//
	// A Router of package vrrp hears of losses by [Manager.WatchFaults]. Where
	// nobody would hear of a loss, neither by OnLost nor by WatchFaults, Run ends
	// with it as its error.
	OnLost func(reason error)
	// OnRemovals, if set, is told what Removals returns whenever that has
	// changed, before anything is added that only the new ones would remove: an
	// interface was made anew, an address is new. It must return soon. Of the
	// Manager it may call [Manager.Removals] only. The first call is Run's,
	// Acquire's or Check's.
	OnRemovals func(Removals)
	// Probe, if not 0, makes Acquire ask the link first whether another host has
	// the addresses, in the manner of RFC 5227 §2.1.1 and RFC 4862 §5.4, and
	// fail with ErrInUse if one still answers in the second half of this time,
	// or probes for an IPv4 address itself. It delays every takeover; 50 ms is
	// enough on most links. At most 5 s.
	Probe time.Duration
	// OnConflict, if set, is called when another host claims an address that is
	// held here, at most once a second for each address. It is called as OnLost
	// is; where it does not return, conflicts are only counted.
	OnConflict func(Conflict)
	// Namespace is shared by Managers of one network namespace, so that
	// hundreds of them get by with one set of sockets. Default: one of its
	// own, in the network namespace of the calling thread.
	Namespace *Namespace
	// Logger receives what happens, from a goroutine that nothing waits for.
	// Default: silent.
	Logger *slog.Logger
}

// Address is one virtual address.
type Address struct {
	// Prefix is the address with the length of its network: 192.0.2.10/24.
	// With a network that the interface has an address in already, or that is on
	// its link by a router's word, the address joins it and changes no route; else
	// the kernel adds the network's route.
	// /32 and /128 never make one.
	Prefix netip.Prefix
	// Interface is the device, if it is neither Config.Interface nor, with a
	// virtual MAC, the macvlan.
	Interface string
	// Scope of an IPv4 address. Default ScopeGlobal. In a network that the
	// interface has an address in, the kernel takes no other than that one's. It
	// derives the scope of an IPv6 address by itself.
	Scope Scope
	// Label of an IPv4 address, such as "eth0:vip"; at most 15 bytes.
	Label string
	// Optional: where the kernel does not take the address, as one of IPv6 where
	// that is disabled, the others are held without it. It is put as soon as it
	// can be; until then Status.Problem says why not.
	Optional bool
}

// ParseAddress reads "192.0.2.10/24", or "192.0.2.10", which means /32, as
// Keepalived has it (/128 for IPv6).
func ParseAddress(s string) (Address, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return Address{Prefix: netip.PrefixFrom(addr, addr.BitLen())}, nil
	}
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		return Address{}, fmt.Errorf("vip: address %q: want ADDRESS or ADDRESS/LENGTH", s)
	}
	return Address{Prefix: prefix}, nil
}
