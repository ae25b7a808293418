package vip

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
)

// link is what the kernel says of an interface.
type link struct {
	index    int
	name     string
	mac      net.HardwareAddr
	up       bool // set up, with a carrier
	enabled  bool // set up
	loopback bool
	ethernet bool   // ARPHRD_ETHER: speaks ARP and neighbour discovery
	routes6  bool   // forwards IPv6
	no6      bool   // takes no IPv6 address
	parent   int    // of a macvlan, the interface that it is on; else 0
	conf4    []byte // net.ipv4.conf.INTERFACE.*: an array of numbers
}

// conf returns net.ipv4.conf.INTERFACE.*, by its number.
func (l link) conf(setting int) uint32 { return number(l.conf4, setting-1) }

// number returns a number of an array as the kernel gives it; 0: the array is shorter.
func number(array []byte, i int) uint32 {
	if len(array) < 4*(i+1) {
		return 0
	}
	return binary.NativeEndian.Uint32(array[4*i:])
}

// Settings of an interface that matter here (linux/ip.h, IPV4_DEVCONF_*).
const (
	confRPFilter    = 8
	confARPAnnounce = 18
	confARPIgnore   = 19
	confPromote     = 20 // promote_secondaries
)

// assigned is an address on an interface, or one to be put there.
type assigned struct {
	index  int
	prefix netip.Prefix
	scope  Scope
	label  string
	flags  uint32        // IFA_F_*
	valid  time.Duration // 0: for ever
	mark   uint8         // IFA_PROTO: who has put the address there; 0: unknown
}

// String returns the address with the length of its network.
func (a assigned) String() string { return a.prefix.String() }

// MarshalText returns what String does, for a log in JSON. It never fails.
func (a assigned) MarshalText() ([]byte, error) { return a.prefix.MarshalText() }

// protocol marks the addresses (IFA_PROTO) and routes (rtm_protocol) of Managers. Programs
// choose such numbers freely above RTPROT_STATIC; this is VRRP's IP protocol number.
const protocol = 112

// markKeepalived is Keepalived's mark since 2.3 (RTPROT_KEEPALIVED).
const markKeepalived = 18

// Address flags from linux/if_addr.h that matter here.
const (
	flagSecondary     = 0x01  // IFA_F_SECONDARY, of IPv4: goes with the primary one of its network
	flagNoDAD         = 0x02  // IFA_F_NODAD
	flagPermanent     = 0x80  // IFA_F_PERMANENT: without a lifetime
	flagNoPrefixRoute = 0x200 // IFA_F_NOPREFIXROUTE
)

// target is a desired address together with the interface that it is meant for.
type target struct {
	Address
	index int
}

// remover names the command by which a person removes an address.
func (a assigned) remover(ifname string) string {
	return fmt.Sprintf("%q removes it", fmt.Sprintf("ip addr del %v dev %s", a.prefix, ifname))
}

// changes makes the actual state the desired one.
type changes struct {
	put []assigned // missing ones only
	all []assigned // every desired address, in the form for the kernel
}

// plan compares the addresses that are there with the desired ones. Twins, which differ
// only in the length of their prefixes, answer alike: they are left alone.
//
// host are the addresses that do not move with virtual routers, and networks that are on a
// link without an address.
func plan(want []target, have, host []assigned, lease time.Duration) (c changes) {
	for _, w := range want {
		a := w.assign(host, lease)
		c.all = append(c.all, a)
		if !slices.ContainsFunc(have, func(h assigned) bool { return h.index == w.index && h.prefix == w.Prefix }) {
			c.put = append(c.put, a)
		}
	}
	return c
}

// equals returns the addresses of have, of whatever length, that equal a desired one, are
// on its interface, and suit.
func equals(want []target, have []assigned, suits func(assigned) bool) []assigned {
	var out []assigned
	for _, w := range want {
		for _, h := range have {
			if h.index == w.index && h.prefix.Addr() == w.Prefix.Addr() && suits(h) {
				out = append(out, h)
			}
		}
	}
	return out
}

// assign returns the address in the form for the kernel. An address in a network of the
// host's own must not touch the network's route. Otherwise each virtual address brings the
// route, since any of them may be the next to go.
func (w target) assign(host []assigned, lease time.Duration) assigned {
	a := assigned{index: w.index, prefix: w.Prefix, scope: w.Scope, label: w.Label, valid: lease, mark: protocol}
	is6 := w.Prefix.Addr().Is6()
	if is6 {
		// Duplicate address detection would keep the address unusable for more
		// than a second, and find the peer that is just releasing it.
		a.flags = flagNoDAD
	}
	if is6 && w.Prefix.IsSingleIP() {
		a.flags |= flagNoPrefixRoute
	}
	for _, h := range host {
		if h.prefix.Masked() != w.Prefix.Masked() {
			continue
		}
		// The host has its own route to this network. On the same interface IPv4
		// adds none for a further address. IPv6 would give the route the lifetime
		// of the further address. On another interface, such as a macvlan's
		// parent, there would be two routes.
		if is6 || h.index != w.index {
			a.flags |= flagNoPrefixRoute
		}
	}
	return a
}

// orphans returns those of the removed addresses that leave the route to their network
// behind. IPv6 gives the route the lifetime of the address, and removes the route with the
// address only if there was no lifetime (ipv6_del_addr). A route that another address
// shares must stay.
func orphans(removed, have []assigned) []assigned {
	var out []assigned
	for _, r := range removed {
		if r.prefix.Addr().Is4() || r.prefix.IsSingleIP() || r.flags&(flagPermanent|flagNoPrefixRoute) != 0 {
			continue
		}
		shared := slices.ContainsFunc(have, func(h assigned) bool {
			return h.index == r.index && h.prefix.Masked() == r.prefix.Masked() &&
				h.flags&flagNoPrefixRoute == 0 && !slices.Contains(removed, h)
		})
		if !shared {
			out = append(out, r)
		}
	}
	return out
}

// elsewhere returns an error if a desired address is on another interface. The loopback
// interface is allowed: backends in direct-return mode carry the service's address there.
func elsewhere(want []target, have []assigned, lookup func(index int, name string) (link, error)) error {
	for _, w := range want {
		for _, h := range have {
			if h.index == w.index || h.prefix.Addr() != w.Prefix.Addr() {
				continue
			}
			if w.Prefix.Addr().IsLinkLocalUnicast() {
				continue // may repeat on every link
			}
			l, err := lookup(h.index, "")
			if err != nil || l.loopback {
				continue
			}
			return fmt.Errorf("vip: %s: %v is on %s already, %s: %w", w.Interface, w.Prefix.Addr(), l.name, h.remover(l.name), ErrInUse)
		}
	}
	return nil
}
