package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/havip/havip/internal/field"
)

// family names the IP version of a.
func family(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// routerFamily is an address of the router's family; it is not valid if the
// router has addresses, but no valid one.
func routerFamily(r *Router) netip.Addr {
	for _, a := range r.Addresses {
		if a.IsValid() {
			return a.Addr()
		}
	}
	for _, a := range append(slices.Clone(r.Peers), r.Source) {
		if a.IsValid() && len(r.Addresses) == 0 {
			return a
		}
	}
	switch {
	case len(r.Addresses) > 0:
		return netip.Addr{}
	case r.Family == "ipv6":
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

func (d *validator) validateAddresses(r *Router, path string) {
	first := routerFamily(r)
	if !first.IsValid() {
		return
	}
	// The count in an advertisement is one byte.
	if len(r.Addresses) > 255 {
		d.fail(path+".addresses", "%d addresses: want up to 255", len(r.Addresses))
	}
	for i, p := range r.Addresses {
		if p.IsValid() && p.Addr().Is4() != first.Is4() {
			d.fail(fmt.Sprintf("%s.addresses[%d]", path, i),
				"%s: %s beside %s: put it into a router of its own", p, family(p.Addr()), first)
		}
	}
	d.validateIPv4Only(r.Addresses, path+".addresses")
	d.validateIPv4Only(r.Excluded, path+".excluded")
	if own := strings.ToLower(family(first)); r.Family != "" && r.Family != own {
		d.fail(path+".family", "%s: but %s is %s: leave it out", r.Family, first, family(first))
	}
	if first.Is4() {
		return
	}
	if r.Version == 2 {
		d.fail(path+".version", "2: has no IPv6: want 3")
	}
	// RFC 9568 §5.2.9.
	if len(r.Addresses) == 0 {
		return
	}
	if a := r.Addresses[0]; a.IsValid() && !a.Addr().Is4() && !a.Addr().IsLinkLocalUnicast() {
		d.fail(path+".addresses[0]", "%s: the first IPv6 address must be link-local: put one such as fe80::%d before it", a, max(1, r.VRID))
	}
}

// validateIPv4Only checks what the kernel has for IPv4 addresses only.
func (d *validator) validateIPv4Only(list []Address, path string) {
	for i, a := range list {
		if !a.IsValid() || a.Addr().Is4() {
			continue
		}
		path := fmt.Sprintf("%s[%d]", path, i)
		if a.Label != "" {
			d.fail(path+".label", "%s: only an IPv4 address has one: leave it out", a.Label)
		}
		if d.given(path + ".scope") {
			d.fail(path+".scope", "%s: an IPv6 address has its own: leave it out", a.Scope)
		}
	}
}

func (d *validator) validatePeers(r *Router, path string) {
	first := routerFamily(r)
	check := func(a netip.Addr, path string) {
		if !a.IsValid() || !first.IsValid() {
			return
		}
		if a.Is4() != first.Is4() {
			d.fail(path, "%s: %s, but %s is %s", a, family(a), first, family(first))
		}
		// The owner's own address is virtual (RFC 9568 §1.6).
		if r.Priority != 255 && slices.ContainsFunc(r.Addresses, func(v Address) bool { return v.Addr() == a }) {
			d.fail(path, "%s: a virtual address: want the node's own", a)
		}
	}
	check(r.Source, path+".source")
	// RFC 9568 §5.1.2.1.
	if r.Source.Is6() && !r.Source.IsLinkLocalUnicast() && len(r.Peers) == 0 && !d.given(path+".peers") {
		d.fail(path+".source", "%s: multicast wants a link-local address, fe80::/10", r.Source)
	}
	seen := make(map[string]string)
	for i, a := range r.Peers {
		path := fmt.Sprintf("%s.peers[%d]", path, i)
		check(a, path)
		if !a.IsValid() {
			continue
		}
		if a == r.Source {
			d.fail(path, "%s: the source itself: leave it out", a)
		}
		d.unique(seen, a.String(), path)
	}
}

func (d *validator) validateTiming(r *Router, path string) {
	switch v := r.Interval; {
	case v == 0:
	case r.Version == 2 && v%time.Second != 0:
		d.fail(path+".interval", "%s: want whole seconds, or version 3", field.Span(v))
	case r.Version == 3 && (v > 40950*time.Millisecond || v%(10*time.Millisecond) != 0):
		d.fail(path+".interval", "%s: want 10ms to 40.95s in steps of 10ms", field.Span(v))
	}
	if r.StartDelayUptime > 0 && r.StartDelay == 0 && !d.failed(path+".start_delay") {
		d.warn(path+".start_delay_uptime", "%s: does nothing without start_delay: leave it out", field.Span(r.StartDelayUptime))
	}
	if r.Priority == 255 && d.given(path+".preempt") && !r.Preempt {
		d.fail(path+".preempt", "false: the owner of the addresses, priority 255, always preempts: leave it out or lower the priority")
	}
	if r.PreemptDelay > 0 && (!r.Preempt || r.Priority == 255) {
		d.fail(path+".preempt_delay", "%s: does nothing with preempt: false or priority 255: leave it out", field.Span(r.PreemptDelay))
	}
}

// validateTransport checks what only unicast, or only version 3 over IPv4, has
// (RFC 9568 §5.1.1.3, §5.2.8).
func (d *validator) validateTransport(r *Router, path string) {
	multicast := func(key string, ttl, want uint8) {
		if ttl != want && ttl != 0 && len(r.Peers) == 0 && !d.given(path+".peers") {
			d.fail(path+"."+key, "%d: multicast always uses 255: leave it out, or add peers", ttl)
		}
	}
	multicast("ttl", r.TTL, 255)
	multicast("min_ttl", r.MinTTL, 0)
	multicast("max_ttl", r.MaxTTL, 255)
	if r.MinTTL > r.MaxTTL && r.MaxTTL > 0 {
		d.fail(path+".min_ttl", "%d: above max_ttl, %d", r.MinTTL, r.MaxTTL)
	}
	switch choice := r.Version == 3 && !routerFamily(r).Is6(); {
	case r.Checksum == "pseudo-header" || r.Checksum == "":
	case !choice && r.Version != 0:
		d.fail(path+".checksum", "%s: only version 3 over IPv4 has a choice: leave it out", r.Checksum)
	case r.Checksum == "old-unicast" && len(r.Peers) == 0 && !d.given(path+".peers"):
		d.fail(path+".checksum", "old-unicast: multicast has no such form: leave it out, or add peers")
	}
}

// validateExtras checks what moves along with the addresses, and how they are
// announced.
func (d *validator) validateExtras(r *Router, path string) {
	if !slices.IsSorted(r.Announce.Rounds) {
		d.fail(path+".announce.rounds", "want delays that grow")
	}
	if f := r.Announce.Refresh; f > 0 && f < time.Second {
		d.fail(path+".announce.refresh", "%s: want 0s, or 1s or more", field.Span(f))
	}
	if r.Macvlan != "" && !r.VirtualMAC {
		d.fail(path+".macvlan", "%s: wants virtual_mac: true", r.Macvlan)
	}
	if r.Priority == 255 && !r.Accept && d.given(path+".accept") {
		d.fail(path+".accept", "false: would cut the owner of the addresses, priority 255, off from itself: leave it out or lower the priority")
	}
	if r.Priority == 255 && r.Takeover {
		d.fail(path+".takeover", "true: the addresses of their owner, priority 255, look like a killed Keepalived's: leave it out or lower the priority")
	}
	if r.XmitBase && !r.VirtualMAC {
		d.fail(path+".xmit_base", "true: wants virtual_mac: true")
	}
	for i, t := range r.Routes {
		path := fmt.Sprintf("%s.routes[%d]", path, i)
		same := func(key string, a netip.Addr) {
			if a.IsValid() && t.To.IsValid() && a.Is4() != t.To.Addr().Is4() {
				d.fail(path+"."+key, "%s: %s, but the destination is %s", a, family(a), family(t.To.Addr()))
			}
		}
		same("via", t.Via)
		same("source", t.Source)
	}
}

func (d *validator) validateAuth(r *Router, path string) {
	path += ".auth"
	a := &r.Auth
	switch a.Type {
	case "pass", "ah":
		if n := len(a.Secret.Reveal()); n > 8 {
			d.warn(path+".secret", "%v bytes: only the first 8 count", own(strconv.Itoa(n)))
		}
		if r.Version == 3 {
			d.fail(path+".type", "%s: VRRP version 3 does not have it: want version: 2, or type hmac", own(a.Type))
		}
	case "hmac":
		d.validateKeys(a, path)
		if a.Window == 0 && !d.given(path+".window") {
			a.Window = min(max(3*r.Interval, 5*time.Second), maxWindow)
		}
	}
}

func (d *validator) validateKeys(a *Auth, path string) {
	seen := make(map[string]string)
	for i, k := range a.Keys {
		path := fmt.Sprintf("%s.keys[%d]", path, i)
		if n := len(k.Secret.Reveal()); n > 0 && (n < 32 || n > 64) {
			d.fail(path+".secret", "%v bytes: want 32 to 64", own(strconv.Itoa(n)))
		}
		if k.ID != 0 {
			d.unique(seen, fmt.Sprint(k.ID), path+".id")
		}
	}
	if a.ActiveKey == 0 && !d.given(path+".active_key") && len(a.Keys) > 0 {
		a.ActiveKey = a.Keys[0].ID
	}
	if a.ActiveKey != 0 && !slices.ContainsFunc(a.Keys, func(k Key) bool { return k.ID == a.ActiveKey }) {
		d.fail(path+".active_key", "%d: not among keys", a.ActiveKey)
	}
}

func (d *validator) validateTrack(r *Router, path string) {
	seen := make(map[string]string)
	for i, t := range r.Track {
		path := fmt.Sprintf("%s.track[%d]", path, i)
		d.unique(seen, t.Check, path+".check")
		if c := d.reference(t.Check, path+".check"); c != nil && !d.hasTarget(c) {
			d.fail(d.target(c), "missing: %s follows this check: say what to probe", path)
		}
		if t.Mode == "resign" && (r.Preempt || r.Priority == 255) {
			d.fail(path+".mode", "resign: a peer preempts by itself with preempt: true: leave it out")
		}
		if !d.given(path + ".weight") {
			if t.Mode == "resign" {
				d.fail(path+".mode", "resign: wants a weight; without one a failure releases the addresses anyway")
			}
			continue
		}
		switch {
		case t.Weight == 0:
			if !d.failed(path + ".weight") {
				d.fail(path+".weight", "0: does nothing: leave it out to release the addresses on failure")
			}
		case r.Priority == 255:
			d.fail(path+".weight", "%d: the priority of an owner, 255, does not change: leave it out or lower the priority", t.Weight)
		case !r.Preempt && t.Mode != "resign":
			d.warn(path+".weight", "%d: with preempt: false a changed priority alone moves no address: "+
				"leave weight out to release the addresses on failure, or add mode: resign", t.Weight)
		}
	}
}

// validateIdle warns of a router that does nothing: in a group it does, the
// others move along with it.
func (d *validator) validateIdle(c *Config) {
	for i, r := range c.VRRP {
		path := fmt.Sprintf("vrrp[%d]", i)
		grouped := slices.ContainsFunc(c.Groups, func(g Group) bool { return slices.Contains(g.Routers, r.Name) })
		if len(r.Addresses)+len(r.Excluded)+len(r.Routes)+len(r.Notify) == 0 && r.NotifyFIFO == "" && !grouped && !d.failed(path+".addresses") {
			d.warn(path, "does nothing: add addresses, or notify if something else moves")
		}
	}
}

// validateRouters checks routers against one another.
func (d *validator) validateRouters(routers []Router) {
	names, vrids, addresses, macvlans := make(map[string]string), make(map[string]string), make(map[string]string), make(map[string]string)
	for i := range routers {
		r, path := &routers[i], fmt.Sprintf("vrrp[%d]", i)
		d.unique(names, r.Name, path+".name")
		if first := routerFamily(r); first.IsValid() && r.VRID != 0 && r.Interface != "" {
			d.unique(vrids, fmt.Sprintf("%d on %s for %s", r.VRID, r.Interface, family(first)), path+".vrid")
		}
		if r.VirtualMAC {
			d.uniqueMacvlan(macvlans, r, path)
		}
		for j, p := range slices.Concat(r.Addresses, r.Excluded) {
			if !p.IsValid() {
				continue
			}
			what := p.Addr().String()
			if p.Addr().IsLinkLocalUnicast() {
				what += " on " + cmp.Or(p.Interface, r.Interface) // each link has its own
			}
			place := fmt.Sprintf("%s.addresses[%d]", path, j)
			if own := len(r.Addresses); j >= own {
				place = fmt.Sprintf("%s.excluded[%d]", path, j-own)
			}
			d.unique(addresses, what, place)
		}
	}
}

// uniqueMacvlan checks the name of a router's macvlan.
func (d *validator) uniqueMacvlan(seen map[string]string, r *Router, path string) {
	name, given := macvlanName(r), r.Macvlan != ""
	switch first, twice := seen[name]; {
	case d.failed(path + ".macvlan"), !routerFamily(r).IsValid(), r.VRID == 0:
	case name == r.Interface:
		d.fail(path+".macvlan", "%s: the interface itself: each needs its own name", name)
	case !twice:
		seen[name] = path
	case given:
		d.fail(path+".macvlan", "%s: also that of %s: each needs its own", name, first)
	default:
		d.fail(path+".virtual_mac", "%s, by default the name of the macvlan, is also that of %s: add macvlan with another name", name, first)
	}
}

// macvlanName is that of a router's macvlan.
func macvlanName(r *Router) string {
	name := "vrrp"
	if routerFamily(r).Is6() {
		name = "vrrp6"
	}
	return cmp.Or(r.Macvlan, fmt.Sprintf("%s.%d", name, r.VRID))
}
