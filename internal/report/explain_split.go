package report

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// findSplit finds another holder of the address, and why the two do not hear each other:
// the likeliest cause first.
func (x *explainer) findSplit() (list []finding) {
	r := x.r
	known := map[string]bool{} // who is dealt with
	for _, d := range r.Drops {
		if cause, ok := splitCauses[d.Reason]; ok && d.From != "" && x.recent(d.Last) && !known[d.From] {
			known[d.From] = true
			list = append(list, x.discarded(d, cause))
		}
	}
	if r.Rival != nil && !known[r.Rival.Address] {
		known[r.Rival.Address] = true
		list = append(list, x.rival(r.Rival))
	}
	if f := r.Foreign; f != nil && !known[f.From] && x.now.Sub(f.Last) < max(time.Minute, 5*time.Duration(r.Interval)) {
		known[f.From] = true
		list = append(list, x.foreign(f))
	}
	if f, ok := x.claimed(known); ok {
		list = append(list, f)
	}
	return list
}

// cause says what a discard means, and what to do about it. Both may have the sender in
// place of FROM, the text of the discard of TEXT, this host's own address of SELF, the
// router's name of NAME, the interface of DEV, the file of FILE, what tcpdump
// needs of FILTER, and the list of peers of PEERS.
type cause struct {
	text string
	next []string
}

// splitCauses are the reasons of package vrrp for which the advertisements of a router are
// discarded that is likely to have the address.
var splitCauses = map[string]cause{
	"auth": {"FROM is Active as well, and this host discards what it advertises, as the secrets differ (wrong password or key): TEXT.",
		[]string{"the secret under auth of NAME in FILE, and the same on FROM: they have to be equal", "tcpdump -vni DEV 'FILTER' shows a password of version 2 in plain text"}},
	"auth_type": {"FROM is Active as well, and this host discards what it advertises, as one of the two has another kind of authentication (auth, password): TEXT.",
		[]string{"auth.type of NAME in FILE, and the same on FROM: they have to be equal"}},
	"version": {"FROM is Active as well, and this host discards what it advertises, as the two speak different versions of VRRP: TEXT.",
		[]string{"version of NAME in FILE, and the same on FROM (vrrp_version in Keepalived): 2 or 3 on both"}},
	"stranger": {"FROM is Active as well, and this host discards what it advertises, as the list of peers of NAME does not have it: PEERS.",
		[]string{"add FROM to peers of NAME in FILE, and see that peers of FROM has SELF"}},
	"destination": {"FROM is Active as well, and this host discards what it advertises, as one of the two uses multicast and the other one unicast: it was TEXT.",
		[]string{"peers of NAME in FILE: a list on both hosts (unicast), or none on both (multicast)"}},
	"interval": {"FROM is Active as well, and this host discards what it advertises, as version 2 wants one interval on all routers: TEXT.",
		[]string{"interval of NAME in FILE, and the same on FROM (advert_int in Keepalived)"}},
	"interval_zero": {"FROM is Active as well, and this host discards what it advertises, as that says an interval of 0.",
		[]string{"the interval of the router on FROM"}},
	"ttl": {"FROM is Active as well, and this host discards what it advertises, as that did not come straight from this link (routed, tunnelled or forged): TEXT.",
		[]string{"ip route get FROM: is it on DEV? A router or a tunnel in between counts the TTL down: use peers (unicast) there"}},
	"ttl_below_minimum": {"FROM is Active as well, and this host discards what it advertises, as it comes from further away than min_ttl allows: TEXT.",
		[]string{"min_ttl of NAME in FILE; traceroute FROM"}},
	"ttl_above_maximum": {"FROM is Active as well, and this host discards what it advertises, as it comes from nearer than max_ttl allows: TEXT.",
		[]string{"max_ttl of NAME in FILE; traceroute FROM"}},
	"checksum": {"FROM is Active as well, and this host discards what it advertises, as that arrives damaged or has a checksum of an unknown form: TEXT.",
		[]string{"tcpdump -vvni DEV 'FILTER' checks it, too; a network card or a firewall in between may change packets"}},
	"replay": {"FROM is Active as well, and this host discards what it advertises as repeated or too old: TEXT.",
		[]string{"the clocks of both hosts: date; chronyc tracking", "if the clocks agree, somebody may record and repeat advertisements: tcpdump -ni DEV 'FILTER'"}},
	"owner": {"FROM is Active as well for addresses that this host owns (priority 255): two hosts may not own one address.",
		[]string{"priority 255 belongs to one host: change that of NAME in FILE, or the one on FROM"}},
	"short":  {"FROM is Active as well, and this host discards what it advertises, as it cannot be read: TEXT.", damaged},
	"length": {"FROM is Active as well, and this host discards what it advertises, as it cannot be read: TEXT.", damaged},
	"type":   {"FROM sends something else than advertisements with this VRID: TEXT.", damaged},
	"link_local": {"FROM is Active as well, and this host discards what it advertises, as an IPv6 router has to list a link-local address first.",
		[]string{"the first of the addresses on FROM: a link-local one (fe80::)"}},
}

var damaged = []string{"tcpdump -vvni DEV 'FILTER' shows what arrives; the version and the maker of the router on FROM"}

// discarded is about a router whose advertisements are discarded.
func (x *explainer) discarded(d Drop, c cause) finding {
	peers := "it has " + joined(x.r.Unicast)
	if len(x.r.Unicast) == 0 {
		peers = "it has none"
	}
	fill := strings.NewReplacer("FROM", d.From, "TEXT", dropText(d), "SELF", x.self(), "NAME", x.r.Name, "DEV", x.r.Interface, "FILE", x.file(), "PEERS", peers, "FILTER", x.filter())
	f := finding{who: d.From, text: fill.Replace(c.text)}
	f.more = append(f.more, fmt.Sprintf("Discarded so far: %s, the last one %s; that host is likely to discard what comes from here.", several(int(d.Count), "advertisement"), x.ago(d.Last)))
	for _, text := range c.next {
		f.next = append(f.next, fill.Replace(text))
	}
	return f
}

// rival is about a router that is heard, and stays Active all the same.
func (x *explainer) rival(p *Peer) (f finding) {
	r := x.r
	f.who = p.Address
	who := fmt.Sprintf("%s is Active as well, with priority %d against %d here, heard %s", p.Address, p.Priority, r.Priority, x.ago(p.LastHeard))
	if r.Deaf == "" {
		f.text = who + ": one of the two steps down within an interval if each hears the other; if not, it does not hear this host (one-way firewall)."
		f.next = append(f.next, "ask again after some seconds: this may be over by then")
		return f
	}
	f.text = fmt.Sprintf("%s: it does not hear this host (one-way firewall for %s there or on the way), or discards what it hears.", who, x.protocol())
	if strings.Contains(r.Deaf, "virtual hardware address") {
		f.text = fmt.Sprintf("%s: %s.", who, r.Deaf)
	}
	f.next = append(f.next,
		fmt.Sprintf("on %s: tcpdump -ni any '%s and src %s': does what this host sends arrive?", p.Address, x.filter(), x.self()),
		fmt.Sprintf("on %s: nft list ruleset, iptables-save: %s from %s has to be accepted", p.Address, x.protocol(), x.self()),
		fmt.Sprintf("on %s: havip explain %s says what it discards, and why (password, version, peers)", p.Address, x.addr))
	return f
}

// foreign is about a router that means this one, and has another VRID.
func (x *explainer) foreign(v *Foreign) finding {
	r := x.r
	what := "and has this router's addresses"
	if slices.Contains(r.Unicast, v.From) {
		what = "and is a peer of this router"
	}
	return finding{
		who:  v.From,
		text: fmt.Sprintf("%s advertises with VRID %d, %s, whose VRID is %d: one of the two VRIDs is wrong.", v.From, v.VRID, what, r.VRID),
		next: []string{fmt.Sprintf("vrid of %s in %s, and the same on %s (virtual_router_id in Keepalived): they have to be equal", r.Name, x.file(), v.From)},
	}
}

// findClash finds another virtual router with the VRID of this one. It does not take the
// address away.
func (x *explainer) findClash() (list []finding) {
	for _, d := range x.r.Drops {
		if d.Reason != "addresses" && d.Reason != "count" || !x.recent(d.Last) || d.From == "" {
			continue
		}
		list = append(list, finding{
			text: fmt.Sprintf("Two pairs of routers on %s have the VRID %d: %s advertises other addresses with it, which is discarded here (%s).", x.r.Interface, x.r.VRID, d.From, dropText(d)),
			more: []string{"Each pair needs a VRID of its own: a router that is less strict takes the other pair for its own, and virtual hardware addresses are made of the VRID."},
			next: []string{
				fmt.Sprintf("havip monitor -i %s shows who uses which VRID; choose a free one as vrid of %s in %s and on its peers, or on the other pair", x.r.Interface, x.r.Name, x.file()),
				fmt.Sprintf("if %s was to be a peer: the addresses of the two lists have to be the same", d.From),
			},
		})
	}
	return list
}
