package report

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// claimTime is for how long a claim counts: two holders do not tell each other all the time
// that they have the address.
const claimTime = time.Hour

// sayOldClaim is about a claim that is too old to mean another holder now.
func (x *explainer) sayOldClaim() {
	if c := x.r.Claim; c != nil && !c.Last.Before(x.r.Since) && x.now.Sub(c.Last) > claimTime {
		x.say("Another host (%s on %s) had claimed the address at %s, and not since.", c.MAC, c.Interface, x.at(c.Last))
		x.next("%s", x.holders(x.addr))
	}
}

// claimed is about a host that claims the address by ARP and of which no advertisement
// arrives. known are the hosts that were heard in another way.
func (x *explainer) claimed(known map[string]bool) (f finding, ok bool) {
	c := x.r.Claim
	if c == nil || c.Last.Before(x.r.Since) || x.now.Sub(c.Last) > claimTime || len(known) > 0 {
		return f, false
	}
	host := x.hostOf(c)
	peer, who := x.claimant(host)
	seen := fmt.Sprintf("%s has claimed %s %s (%s on %s)", who, c.Address, x.ago(c.Last), c.MAC, c.Interface)
	if peer == "" {
		f = x.strangerClaims(c, seen)
		f.who = joined(host)
	} else {
		f = x.peerClaims(peer, seen)
	}
	f.next = append([]string{x.holders(c.Address)}, f.next...)
	return f, true
}

// claimant finds the router behind a claim: the one whose address the host is known to
// have, or else the only one that is configured or was heard. who says so.
func (x *explainer) claimant(host []string) (peer, who string) {
	routers := x.peers()
	if len(routers) == 0 {
		for _, p := range x.r.Peers {
			routers = append(routers, p.Address)
		}
	}
	for _, p := range routers {
		if slices.Contains(host, p) {
			return p, p
		}
	}
	switch {
	case len(host) > 0:
		return "", "Another host, " + joined(host) + ","
	case len(routers) == 1:
		return routers[0], "Another host, most likely " + routers[0] + ","
	}
	return "", "Another host"
}

func (x *explainer) strangerClaims(c *Claim, seen string) finding {
	return finding{
		text: seen + ", and no advertisement of it arrives here: somebody has given the address to that machine by hand or DHCP, or it is a router whose advertisements are filtered.",
		next: []string{fmt.Sprintf("the switch port of %s: the switch's table of hardware addresses; ip neigh | grep %s", c.MAC, c.MAC)},
	}
}

func (x *explainer) peerClaims(peer, seen string) finding {
	r := x.r
	f := finding{who: peer}
	if len(r.Unicast) > 0 {
		f.text = fmt.Sprintf("%s, but nothing of what it advertises arrives here: a one-way firewall drops %s, or its list of peers does not have %s.", seen, x.protocol(), x.self())
		f.next = append(f.next, fmt.Sprintf("peers on %s: it has to have %s", peer, x.self()))
	} else {
		f.text = fmt.Sprintf("%s, but nothing of what it advertises arrives here: a one-way firewall drops %s, or a switch filters multicast (IGMP snooping without a querier).", seen, x.protocol())
		f.next = append(f.next, "the switch: IGMP snooping must let 224.0.0.18 (ff02::12) pass; or use peers, which is unicast")
	}
	f.next = append(f.next,
		fmt.Sprintf("here: nft list ruleset, iptables-save: %s has to be accepted", x.protocol()),
		fmt.Sprintf("here: tcpdump -ni %s '%s and src %s': is what it sends on the wire?", r.Interface, x.filter(), peer),
		fmt.Sprintf("on %s: havip explain %s", peer, x.addr))
	return f
}

// hostOf are the IP addresses of the host of a claim, which its event has.
func (x *explainer) hostOf(c *Claim) []string {
	for _, e := range slices.Backward(x.events) {
		if e.Kind == KindConflict && e.Attribute("mac") == c.MAC {
			return strings.Fields(strings.Trim(e.Attribute("host"), "[]"))
		}
	}
	return nil
}
