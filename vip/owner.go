package vip

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ownedByHost reports whether an address is the host's own: a Manager neither adds nor
// renews nor removes it. Before the first look each address of an owner counts as own.
func (v *view) ownedByHost(addr netip.Addr) bool {
	own := v.own.Load()
	if own == nil {
		return v.cfg.Owner
	}
	return slices.Contains(*own, addr)
}

// isOurs reports whether an address, equal to a configured one, goes while it is not held:
// a Manager has put it there, or Config.Takeover applies to it.
func (v *view) isOurs(a assigned) bool {
	return v.ns.marked(a) || v.cfg.Takeover && v.spared.keeps(a) == ""
}

// recogniseAddresses finds out which of the configured addresses are the host's own. An
// owner's are, whatever their length; otherwise only those of the configured length, as
// the Manager touches no others.
func (v *view) recogniseAddresses(have []assigned) {
	if slices.ContainsFunc(have, func(h assigned) bool { return h.mark != 0 }) {
		v.ns.marks.Store(true) // if only of the kernel's own address
	}
	own := []netip.Addr{}
	v.occupied = false
	places := v.places(v.all().addresses)
	v.weighStrangers(places, have)
	v.seen = make(map[target]bool, len(places))
	for _, p := range places {
		v.seen[p] = true
		there := false
		for _, h := range have {
			if h.index != p.index || h.prefix.Addr() != p.Prefix.Addr() {
				continue
			}
			there = true
			if v.isOurs(h) {
				continue
			}
			v.occupied = v.occupied || v.cfg.isMacvlan(p.Interface)
			if v.cfg.Owner || h.prefix.Bits() == p.Prefix.Bits() {
				own = append(own, p.Prefix.Addr())
			}
		}
		if !there {
			v.ns.forget(p.index, p.Prefix.Addr())
		}
	}
	v.own.Store(&own)
}

// nextHop is one next hop of a route that does not belong to an address: it was made
// neither by the kernel for an address, nor by Keepalived or a Manager for a virtual one.
type nextHop struct {
	index   int          // of the interface
	to      netip.Prefix // the destination
	gateway netip.Addr   // invalid: none of the route's family
	source  netip.Addr   // the preferred one; invalid: none
}

// bare returns an address without the attributes that may change while it is there.
func (a assigned) bare() assigned { return assigned{index: a.index, prefix: a.prefix} }

// weighStrangers decides which addresses Config.Takeover spares, of those that equal a
// virtual one and have neither a mark nor a lifetime: a Keepalived before 2.3 leaves such
// addresses, and so does a person. A decision holds for as long as the address is there:
// a host that later gets another address goes on using its first.
func (v *view) weighStrangers(places []target, have []assigned) {
	if !v.cfg.Takeover {
		v.spared = nil
		return
	}
	virtual := func(h assigned) bool {
		return v.ns.Virtual(h.prefix.Addr()) || slices.ContainsFunc(places, func(p target) bool { return p.Prefix.Addr() == h.prefix.Addr() })
	}
	others := slices.DeleteFunc(slices.Clone(have), virtual)
	strangers := equals(places, have, func(h assigned) bool { return !v.ns.marked(h) })
	v.spared = v.spared.weigh(strangers, func(a assigned) (string, error) { return v.needOf(a, others) })
}

// spared are unmarked addresses with the reason why Config.Takeover leaves each of them;
// empty: Takeover removes the address.
type spared map[assigned]string

// weigh returns the decisions about addresses, with need for those without one.
func (s spared) weigh(list []assigned, need func(assigned) (string, error)) spared {
	after := make(spared)
	for _, a := range list {
		if a.mark != 0 || a.valid != 0 {
			continue
		}
		why, known := s[a.bare()]
		if !known {
			var err error
			if why, err = need(a); err != nil {
				continue // the address stays for now
			}
		}
		after[a.bare()] = why
	}
	return after
}

// keeps returns why Config.Takeover leaves an address; empty: Takeover removes the address.
func (s spared) keeps(a assigned) (why string) {
	why, known := s[a.bare()]
	switch {
	case a.valid != 0:
		return "it has a lifetime"
	case a.mark == markKeepalived:
		return ""
	case a.mark != 0:
		return fmt.Sprintf("it has the mark %d", a.mark)
	case !known:
		return "it is not known yet what needs it"
	}
	return why
}

// needOf returns why the host needs an address, or why the address is not one of
// Keepalived's; empty: neither. others are the addresses that are not virtual.
func (v *view) needOf(a assigned, others []assigned) (string, error) {
	hops, err := v.ns.kernel.nextHops(a.prefix.Addr())
	if err != nil {
		return "", err
	}
	host := slices.DeleteFunc(slices.Clone(others), func(h assigned) bool {
		return h.index != a.index || is6(h.prefix) != is6(a.prefix) || h.prefix.Addr().IsLinkLocalUnicast()
	})
	// A host has no address of its own on a macvlan with the virtual MAC.
	l, ok := v.macvlan()
	return needed(a, host, hops, ok && l.index == a.index), nil
}

// needed is needOf with the host's other addresses of the same family on the interface,
// and the routes. In doubt the address stays: a person can remove what Keepalived has left,
// but without its own address the host is cut off.
func needed(a assigned, host []assigned, hops []nextHop, mayBeAlone bool) string {
	if len(host) == 0 && !mayBeAlone {
		return "the interface has no other address of its own"
	}
	if is6(a.prefix) && a.flags&flagNoDAD == 0 {
		return "Keepalived's have the flag nodad"
	}
	for _, n := range hops {
		near := func(h assigned) bool { return h.index == n.index && h.prefix.Contains(n.gateway) }
		if n.source == a.prefix.Addr() || near(a) && !slices.ContainsFunc(host, near) {
			return fmt.Sprintf("the route to %v needs it", n.to)
		}
	}
	// The host's own address came first: Keepalived's became a secondary one.
	for _, h := range host {
		if h.prefix.Masked() == a.prefix.Masked() && !is6(a.prefix) && a.flags&flagSecondary == 0 && h.flags&flagSecondary != 0 {
			return fmt.Sprintf("it was there before %v", h.prefix)
		}
	}
	return ""
}

// ledgerDir is where addresses are noted down that a kernel before 5.18 cannot mark. It
// must outlive the process, but not a reboot.
const ledgerDir = "/run/havip/addresses"

// ledger is the list of addresses that Managers of one network namespace have put on
// interfaces: an empty file for each. The file is made before the address and removed after
// it, so that a process that is killed leaves no unknown address. Only without marks in the
// kernel the ledger is read. Its value is the folder and what names the network namespace,
// with which the names of the files begin; empty: there is none.
type ledger string

// openLedger returns the ledger of the calling thread's network namespace.
func openLedger(dir string) ledger {
	ns, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return ""
	}
	return ledger(filepath.Join(dir, strings.TrimRight(strings.TrimPrefix(ns, "net:["), "]")))
}

// file returns the name of an address's file.
func (l ledger) file(index int, addr netip.Addr) string {
	if l == "" {
		return ""
	}
	return fmt.Sprintf("%s_%d_%s", l, index, addr)
}

// marked reports whether a Manager has put an address on its interface.
func (n *Namespace) marked(a assigned) bool {
	if a.mark == protocol || n.marks.Load() {
		return a.mark == protocol
	}
	_, err := os.Stat(n.ledger.file(a.index, a.prefix.Addr()))
	return err == nil
}

// remember notes down that an address is about to be added.
func (n *Namespace) remember(a assigned) {
	file := n.ledger.file(a.index, a.prefix.Addr())
	if n.marks.Load() || file == "" {
		return
	}
	err := os.MkdirAll(filepath.Dir(file), 0o755)
	if err == nil {
		err = os.WriteFile(file, nil, 0o644)
	}
	if err != nil {
		n.log.Warn("an address cannot be noted down: should this process be killed its successor will not know it", "err", err)
	}
}

// forget takes an address that is not there off the ledger.
func (n *Namespace) forget(index int, addr netip.Addr) {
	if !n.marks.Load() {
		_ = os.Remove(n.ledger.file(index, addr)) // mostly there is no file
	}
}
