package vrrp

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/havip/havip/internal/quietlog"
)

const (
	// foreignPace is the shortest time between two looks at advertisements for a VRID
	// that no router of a Conn has: on a link with many pairs there are a lot of them.
	foreignPace = 100 * time.Millisecond
	// maxForeigners bounds what others can make a Conn say: each by itself, but the
	// last stands for all that are too many.
	maxForeigners = 8
)

// foreigner is a sender and its VRID.
type foreigner struct {
	from netip.Addr
	vrid uint8
}

var foreignLimit = quietlog.Limit{Every: noteInterval, Subjects: maxForeigners - 1}

// hearForeign looks at an advertisement for a VRID that no router here has. Most are
// of other pairs and mean nothing. One from a configured peer, or with the addresses
// of a router here, is likely to be meant for that: the VRID is wrong on one of the
// two sides. conn.mu is held.
func (l *loop) hearForeign(vrid uint8, p *Packet, now time.Time) {
	c := l.conn
	if !c.foreign.IsZero() && now.Sub(c.foreign) < foreignPace {
		return
	}
	c.foreign = now
	var here []int // as numbers: bytes would be taken for text
	var names []string
	what := "the addresses of a router here are advertised with another VRID: one of the two is wrong"
	for _, r := range c.routers {
		if r == nil || !r.meansForeign(&l.adv, p) {
			continue
		}
		here, names = append(here, int(r.cfg.VRID)), append(names, r.name)
		if len(r.cfg.Peers) > 0 {
			what = "a peer advertises with another VRID: one of the two may be wrong"
		}
		drop := DropError{Source: p.Source}
		drop.drop(DropVRID, uint64(vrid), uint64(r.cfg.VRID))
		r.missed(&drop)
	}
	if len(here) == 0 {
		return
	}
	c.log.Warn(what, "router", strings.Join(names, ","), "interface", c.name, "from", p.Source, "got", vrid, "want", here,
		"times", uint64(1), foreignLimit.By(foreigner{p.Source, vrid}))
}

// meansForeign tells whether an advertisement with another VRID may be meant for r.
// adv is scratch space.
func (r *Router) meansForeign(adv *Advertisement, p *Packet) bool {
	src := p.Source.WithZone("")
	if src == r.wire.own {
		return false
	}
	if len(r.cfg.Peers) > 0 {
		return slices.Contains(r.cfg.Peers, src)
	}
	var drop DropError
	if p.Destination.WithZone("") != r.wire.group || adv.decode(p.payload(), p.Source, p.Destination, &drop) == 0 {
		return false
	}
	r.wire.theirs.sort(adv.Addresses)
	return len(adv.Addresses) > 0 && r.wire.ours.shares(&r.wire.theirs)
}
