package monitor

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/gopacket/gopacket/layers"

	"github.com/havip/havip/internal/inet"
)

// claim says that an address is at a hardware address: by ARP or by neighbour discovery.
type claim struct {
	addr netip.Addr
	mac  hardware
	how  string
	at   time.Time
}

// arpClaim returns what the sender of the ARP packet claims for itself, which is 0.0.0.0 in
// a probe (RFC 5227 §2.1.1).
func (d *decoder) arpClaim() *claim {
	a := &d.arp
	if len(a.SourceProtAddress) != 4 || len(a.SourceHwAddress) != len(hardware{}) {
		return nil
	}
	c := &claim{addr: netip.AddrFrom4([4]byte(a.SourceProtAddress)), mac: hardwareOf(a.SourceHwAddress), how: "an ARP request"}
	switch {
	case string(a.SourceProtAddress) == string(a.DstProtAddress):
		c.how = "a gratuitous ARP"
	case a.Operation == layers.ARPReply:
		c.how = "an ARP reply"
	}
	return c
}

// neighborClaim returns what the neighbour advertisement claims, which the sender's
// hardware address completes where the option is missing (RFC 4861 §4.4).
func (d *decoder) neighborClaim() *claim {
	if d.ip6.HopLimit != 255 { // RFC 4861 §7.1.2
		return nil
	}
	addr, ok := netip.AddrFromSlice(d.neighbor.TargetAddress)
	if !ok {
		return nil
	}
	c := &claim{addr: addr, how: "a neighbour advertisement"}
	for _, o := range d.neighbor.Options {
		if o.Type == layers.ICMPv6OptTargetAddress {
			c.mac = hardwareOf(o.Data)
		}
	}
	return c
}

// maxClaims bounds the claims that wait for their judgement.
const maxClaims = 1024

// observeClaim keeps a claim of a watched address until it can be judged: who takes an
// address over may say so a moment before it advertises, or after it.
func (w *Watcher) observeClaim(o origin, c *claim, at time.Time) {
	g := w.holders[place{o.link, c.addr}]
	if g == nil || len(w.claims) >= maxClaims {
		return
	}
	if c.at = at; c.mac == (hardware{}) {
		c.mac = o.mac
	}
	if c.mac == (hardware{}) || c.mac == g.virtualMAC() {
		return
	}
	for _, s := range g.senders { // the usual case
		if s.mac == c.mac && s == g.active {
			return
		}
	}
	w.claims = append(w.claims, pendingClaim{*c, g, at.Add(min(g.interval(), time.Second) + grace)})
	w.due(w.claims[len(w.claims)-1].judge)
}

// pendingClaim waits for its judgement.
type pendingClaim struct {
	claim
	group *group
	judge time.Time
}

// judgeClaims judges those that have waited for long enough, or all.
func (w *Watcher) judgeClaims(now time.Time, all bool) {
	rest := w.claims[:0]
	for _, c := range w.claims {
		if c.judge.After(now) && !all {
			rest = append(rest, c)
			w.due(c.judge)
			continue
		}
		w.judgeClaim(c)
	}
	w.claims = rest
}

// judgeClaim says whether a claim comes from none that may make it: a router that was
// Active about then.
func (w *Watcher) judgeClaim(c pendingClaim) {
	g := c.group
	var router *sender
	who := ""
	for _, s := range g.senders {
		if s.mac != c.mac {
			continue
		}
		router, who = s, fmt.Sprintf(" (%v, which does not advertise)", s.addr)
		if since := c.at.Sub(s.last); since < s.down() {
			return
		}
	}
	active := "no router is Active"
	if g.active != nil {
		active = fmt.Sprintf("the Active router is %v at %v", g.active.addr, g.active.mac)
	}
	f := finding{
		code: CodeForeignClaim, problem: true, group: g, repeats: true,
		text: fmt.Sprintf("%s by %v%s claims %v: %s", c.how, c.mac, who, c.addr, active),
		next: "where that host is (the switch's table of hardware addresses, ip neigh): another device has the address as its own, or a proxy answers for it",
	}
	switch {
	case router == nil:
	case g.active != nil && w.isOpen(CodeTwoActive, pairKey(g, router, g.active)):
		f.next = "the problem of two Active routers: the silent one has the address all the same"
	default:
		f.next = "ip address show on that host: the address was left behind, after a crash or by hand"
	}
	w.open(fmt.Sprintf("%s %v %v", g.name(), c.mac, c.addr), f, c.at)
}

// virtualMAC returns the hardware address of the virtual router.
func (g *group) virtualMAC() hardware { return hardwareOf(inet.VirtualMAC(g.vrid, g.ipv6)) }
