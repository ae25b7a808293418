package vip

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/internal/words"
)

// FieldError is what is wrong with one field of a [Config], by the field's name:
// "Addresses[2].Label". See [Config.Validate].
type FieldError = field.Error

// Errors that a caller may want to tell apart, with errors.Is.
var (
	// ErrNoInterface: the interface does not exist, or no longer.
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
	// Name is the name of the virtual router. Log lines have it under the key router, as
	// package vrrp's have. Default: Interface.
	Name string
	// Interface is the device that carries the addresses, such as "eth0".
	// Required unless every address and route names its own.
	Interface string
	// VirtualMAC, if set, is the hardware address of a macvlan on top of Interface,
	// which then carries the addresses: when they move, neighbours need not learn
	// another hardware address. Run makes the macvlan, sets it up only while the
	// addresses are held, and deletes it at the end. For that time
	// net.ipv4.conf.*.arp_ignore and arp_announce of Interface are raised. Routes
	// still go by Interface. See [VirtualMAC].
	VirtualMAC net.HardwareAddr
	// MacvlanName is the macvlan's name, with VirtualMAC only. Default: Keepalived's,
	// "vrrp.51" for VRID 51, "vrrp6.51" for IPv6.
	MacvlanName string
	// NoAccept drops what is addressed to the addresses while they are held:
	// Accept_Mode False (RFC 9568 §6.1), for a router that forwards packets and
	// receives none. ARP and neighbour discovery go on. NoAccept needs nftables, where
	// it has a table named after Name, which must be unique, and an import of package
	// vip/filter. Not with Owner, which always accepts (RFC 9568 §6.1).
	NoAccept bool
	// Addresses are put on the interface by Acquire, in this order, whether or
	// not they are listed in advertisements. They may mix families, and there
	// may be none.
	Addresses []Address
	// Owner says that this host may own the addresses (RFC 9568 §6.1): that they are
	// configured on the interface anyway. An address that is there, and that no
	// Manager has put there, is only announced, and stays even if another host takes
	// the addresses over. The other addresses come and go as usual, and so does an own
	// one that somebody deletes while the addresses are held.
	Owner bool
	// Takeover lets the Manager remove, while the addresses are not held, those that a
	// killed Keepalived has left on their interface. They have Keepalived's mark. A
	// Keepalived before 2.3 leaves no mark; then an address is removed if it looks like
	// an addition to the host. It stays if the interface has no other address that is
	// not virtual, if a route has it as its source or needs it for its gateway, if it
	// was there before another IPv4 address of its network, or if it is an IPv6 address
	// without the flag nodad. An address that stays is in the way: the addresses cannot
	// be held until it is gone. Without Takeover a Manager removes nothing that has no
	// mark of a Manager. Not with Owner, whose addresses are the host's.
	Takeover bool
	// Routes are added after the addresses and removed before them.
	Routes []Route
	// Lease is the lifetime that the kernel gives each address. The Manager renews the
	// lifetime whenever a quarter of it has passed. Whole seconds, up to 1 h. Default:
	// 3 s, which suits VRRP's default of three intervals of 1 s; see [LeaseFor] for others.
	// Negative: none, the addresses stay until they are removed, even if the process is
	// killed or frozen. Routes have no lifetime, but IPv4 ones go with an address that is
	// their Source.
	Lease time.Duration
	// Entitled, if set, is asked when a lease was not renewed in time, for instance
	// because the kernel was slow: do the addresses still belong to this host, beyond
	// doubt and as of now? If it returns true the Manager goes on, and announces the
	// addresses that were gone meanwhile. Otherwise, and without Entitled, the
	// addresses are lost. Entitled must not call the Manager. See vrrp's
	// Router.Entitled.
	Entitled func() bool
	// Announce says when the addresses are announced on the link.
	Announce Schedule
	// OnLost, if set, is called when acquired addresses could not be kept: the lease
	// lapsed, or the interface vanished. The Manager has then removed what was left,
	// and adds nothing until the next Acquire: the election must be held anew. OnLost
	// is called from a goroutine of its own, for which only the end of Run waits.
	//
	// A Router of package vrrp hears of losses by [Manager.WatchFaults]. If there is
	// neither OnLost nor a watcher, Run ends with the loss as its error.
	OnLost func(reason error)
	// OnRemovals, if set, is called with the result of [Manager.Removals] whenever that
	// changes, because an interface or an address is new. The call comes before
	// anything is added that only the new Removals would remove. OnRemovals must return
	// soon, and may call no method of the Manager but Removals. The first call comes
	// from Run, Acquire or Check.
	OnRemovals func(Removals)
	// Probe, if not 0, is how long Acquire first asks the link whether another host has
	// the addresses, in the manner of RFC 5227 §2.1.1 and RFC 4862 §5.4. Acquire fails
	// with ErrInUse if another host answers in the second half of this time, or probes
	// for an IPv4 address itself. Probe delays every takeover; 50 ms is enough on most
	// links. At most 5 s.
	Probe time.Duration
	// OnConflict, if set, is called when another host claims an address that is held
	// here, at most once a second for each address. It is called from a goroutine as
	// OnLost is; while a call does not return, further conflicts are only counted.
	OnConflict func(Conflict)
	// Namespace is a set of sockets that Managers in one network namespace share.
	// Default: an own one, in the network namespace of the calling thread.
	Namespace *Namespace
	// Logger gets the log, from a goroutine that nothing waits for. Default: silent.
	Logger *slog.Logger
}

// Address is one virtual address.
type Address struct {
	// Prefix is the address with the length of its network: 192.0.2.10/24. The kernel
	// adds the network's route, unless the interface has another address in the
	// network, or a router has announced the network on the link. /32 and /128 make no
	// route.
	Prefix netip.Prefix
	// Interface is the device, if it is neither Config.Interface nor, with a
	// virtual MAC, the macvlan.
	Interface string
	// Scope of an IPv4 address. Default ScopeGlobal. If the interface has another
	// address in the network the kernel accepts only the scope of that address. The
	// kernel derives the scope of an IPv6 address by itself.
	Scope Scope
	// Label of an IPv4 address, such as "eth0:vip"; at most 15 bytes.
	Label string
	// Optional: if the kernel refuses the address, such as an IPv6 one where IPv6 is
	// disabled, the others are held without it. It is added as soon as the kernel
	// accepts it; until then Status.Problem says why not.
	Optional bool
}

// ParseAddress reads "192.0.2.10/24". Without a length, as in "192.0.2.10", the length is
// 32, or 128 for IPv6, as with Keepalived.
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

// Scope is how far an IPv4 address is valid (RT_SCOPE_* in rtnetlink(7)).
type Scope uint8

const (
	// ScopeGlobal: everywhere.
	ScopeGlobal Scope = 0
	// ScopeSite: within the site.
	ScopeSite Scope = 200
	// ScopeLink: on this link.
	ScopeLink Scope = 253
	// ScopeHost: inside this host.
	ScopeHost Scope = 254
)

// scopeWords are the words of ip-address(8).
var scopeWords = []string{ScopeGlobal: "global", ScopeSite: "site", ScopeLink: "link", ScopeHost: "host"}

// String returns the word that ip-address(8) has for the scope, such as "global".
func (s Scope) String() string { return words.Of(scopeWords, s) }

// MarshalText returns what String does. It never fails.
func (s Scope) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes what String returns for a scope that has a word.
func (s *Scope) UnmarshalText(text []byte) error { return words.Parse(scopeWords, text, s) }

// Route is a route that exists while the addresses are held. It has the protocol number 112
// in the kernel, as the addresses have; a Manager never touches a route without this mark.
type Route struct {
	// Destination is the network; 0.0.0.0/0 or ::/0 for a default route.
	Destination netip.Prefix
	// Gateway is the next hop. None: the destination is on the link.
	Gateway netip.Addr
	// Interface is the device. Default: Config.Interface, also with a virtual MAC.
	Interface string
	// Source is the preferred source address. Default: the kernel chooses.
	Source netip.Addr
	// Table is the routing table. Default 254, the main one.
	Table uint32
	// Metric: the route with the least one wins. Default 0 for IPv4, 1024 for IPv6.
	// Other routes to the same destination should have another metric.
	Metric uint32
	// Optional: as for an Address.
	Optional bool
}

// mainTable is RT_TABLE_MAIN.
const mainTable = 254

// ambiguous reports whether a request to remove r might remove o: the kernel compares only
// the attributes that the request names.
func (r Route) ambiguous(o Route) bool {
	apart := r.Gateway.IsValid() && o.Gateway.IsValid() && r.Gateway != o.Gateway
	return r.Destination == o.Destination && r.Interface == o.Interface && r.Table == o.Table && !apart
}
