package vrrp

import (
	"log/slog"
	"net/netip"
	"time"
)

// Config describes one virtual router. The zero value of every field but VRID
// is a usable default.
type Config struct {
	// Name is used in log lines and errors. Default: "VRID/family", such as
	// "51/IPv4".
	Name string
	// VRID is the virtual router identifier, 1 to 255. Required.
	VRID uint8
	// Version is the protocol version, 2 or 3. Default 3; IPv6 needs 3.
	Version uint8
	// Priority is 1 to 254, or 255 for the owner of the addresses, whose host
	// has them anyway (RFC 9568 §6.1). Default 100. An owner sends from another
	// address if its interface has one. Where it has none, routers of this
	// package hear it nevertheless; others on Linux do not while they have the
	// address themselves, unless net.ipv4.conf.*.accept_local is set there.
	Priority uint8
	// Interval is the time between advertisements: version 2, whole seconds
	// from 1 s to 255 s; version 3, 10 ms to 40.95 s in steps of 10 ms.
	// Default 1 s.
	Interval time.Duration
	// NoPreempt keeps a router with a higher priority from taking the
	// addresses from a live Active router (Preempt_Mode False, RFC 9568 §6.1).
	// The address owner always preempts.
	NoPreempt bool
	// PreemptDelay is for how long a router that could preempt waits first. It
	// holds only while a live Active router is heard. Default 0. Not with
	// NoPreempt, nor for the address owner.
	PreemptDelay time.Duration
	// StartDelay is for how long a router waits after its start before it may
	// become Active. Default 0.
	StartDelay time.Duration
	// DownMultiplier is how many intervals without an advertisement make the
	// Active router count as dead, before skew is added. Default 3, the
	// protocol's value; range 1 to 255.
	DownMultiplier int
	// Addresses are the virtual addresses listed in advertisements, in this
	// order, all of one family, up to 255 of them. For IPv6 the first must be
	// link-local (RFC 9568 §5.2.9). A router whose list has none of them, in
	// whatever order, is another pair's, and not heeded: see DropAddresses. Of
	// IPv6 ones a link-local one only counts if this router has no other. Without any,
	// the router elects an Active one for something else, such as an address that
	// a cloud's API moves, and hears only routers that have none either: those of
	// this package, and Keepalived with no_virtual_ipaddress, or in version 2
	// without addresses.
	Addresses []netip.Addr
	// IPv6 makes a router that has neither Addresses nor Peers nor Source one
	// of IPv6. Default: the family of these, or else IPv4.
	IPv6 bool
	// Source is the address that advertisements are sent from. Default: the
	// interface's primary IPv4 or its link-local IPv6 address when the router
	// begins; it is returned to after it was away, and with Peers, who know the
	// router by it, no other is used meanwhile. It may be one of Addresses only
	// with priority 255, and never an address that another router moves.
	Source netip.Addr
	// Peers are the other routers' addresses, none of them one of Addresses.
	// Not empty means unicast: only these addresses are sent to and heard.
	Peers []netip.Addr
	// TTL is the TTL or hop limit of unicast advertisements. Default 255.
	// Multicast always uses 255.
	TTL uint8
	// MinTTL and MaxTTL bound the TTL or hop limit of unicast advertisements
	// that are accepted. Default 0 and 255: any. Where all routers are on one
	// link, a MinTTL of 255 keeps out everybody who is not, whatever address he
	// claims to have: other routers count it down. Multicast always requires
	// 255.
	MinTTL, MaxTTL uint8
	// VirtualMAC makes multicast advertisements come from the virtual router's
	// hardware address, 00:00:5e:00:01:VRID, or 00:00:5e:00:02:VRID for IPv6
	// (RFC 9568 §7.2, §7.3), so that switches learn where it is. Who holds the
	// addresses has to have them there, too. Only an advertisement that is
	// longer than the interface's MTU still comes from the interface's own:
	// the kernel has to fragment it. A Keepalived with vmac_xmit_base does not
	// hear any of them, see [Status.Deaf]. Not for Peers, whose hardware addresses
	// are the kernel's to find. Default false.
	VirtualMAC bool
	// Checksum is the form of the version 3 IPv4 checksum on advertisements
	// that are sent. All forms are accepted. ChecksumOldUnicast is for Peers.
	// Default ChecksumPseudoHeader.
	Checksum ChecksumForm
	// Auth authenticates advertisements. The zero value: no authentication.
	Auth Auth
	// Group holds routers that are Active together or not at all. Default:
	// none.
	Group *Group
	// OnTransition, if set, is called after every state change, one at a time
	// and in order, when the Handler has done what belongs to the change: of a
	// router that has become Active the addresses are there, unless that has
	// changed again. A slow function delays later calls and the return of Run,
	// but neither the protocol nor the Handler; while it blocks, the latest 256
	// changes are kept for it.
	OnTransition func(Transition)
	// Logger receives what happens, from a goroutine that nothing waits for.
	// Default: silent.
	Logger *slog.Logger
}
