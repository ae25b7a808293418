package e2e

import (
	"errors"
	"slices"
	"testing"

	"github.com/havip/havip/internal/lab"
)

// TestStrangersVRID: a Keepalived with the same VRID, a better priority and other
// addresses, that somebody else has on the same LAN, leaves havip its own.
func TestStrangersVRID(t *testing.T) {
	t.Parallel()
	lab.Need(t, "keepalived")
	k := edited(keepalivedPeer, "keepalived.conf", "192.168.31.5", "192.168.31.15", "fe80::5:", "fe80::6:", "2001:db8:31::5", "2001:db8:31::15")
	k.holds = func(n *node, r *virtualRouter) bool {
		addrs, err := n.host.Addrs()
		if err != nil {
			return false
		}
		for _, a := range addrs {
			if !n.owns(a.Addr()) && a.Addr().Is6() == r.ipv6 && slices.Contains(strangers[r.vrid], a.Addr().String()) {
				return true
			}
		}
		return false
	}
	routers := []virtualRouter{
		newRouter("v2 IPv4", 51, 2, "", false, false, [2]uint8{110, 200}),
		newRouter("v3 IPv4", 52, 3, "", false, false, [2]uint8{110, 200}),
		newRouter("v3 IPv6", 53, 3, "", true, false, [2]uint8{110, 200}),
	}
	p := newPair(t, [2]peer{havipPeer(t), k}, routers)
	p.live([]step{{
		what: "they start", do: func(p *pair) error { return errors.Join(p.nodes[0].powerOn(), p.nodes[1].powerOn()) },
		better: both, equal: both, dark: true, quiet: aWhile,
	}, {
		what: "it leaves", do: func(p *pair) error { return p.nodes[1].stop() },
		better: lb01, equal: lb01, quiet: aWhile,
	}})
	if n := p.nodes[0].transitions(); n != 2*len(routers) {
		t.Errorf("havip changed its state %d times, want only the start:\n%s", n, p.nodes[0].cmd.Output())
	}
}

// strangers are the addresses of the other one, by VRID.
var strangers = map[uint8][]string{51: {"192.168.31.151"}, 52: {"192.168.31.152"}, 53: {"2001:db8:31::153"}}
