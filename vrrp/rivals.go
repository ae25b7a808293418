package vrrp

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/havip/havip/internal/quietlog"
)

// Neighbourhood is what a [Handler] may be as well: one that finds out the hardware
// address of another host on the link, so that whoever reads of a split in the log
// knows which switch port to look at.
type Neighbourhood interface {
	// HardwareAddr asks the link who has addr, until ctx ends. nil: nobody has
	// answered. It is called from a goroutine of its own.
	HardwareAddr(ctx context.Context, addr netip.Addr) net.HardwareAddr
}

// splitLimit is for lines that say that a split has begun.
var splitLimit = quietlog.Limit{Every: 10 * time.Second}

const (
	splitMessage = "split: another router is Active as well"
	// neighbourTime is for how long such a line waits for the rival's hardware
	// address.
	neighbourTime = time.Second
)

// observeSplit says that another router is Active as well, and when that is over.
// conn.mu is held, and the group's.
func (r *Router) observeSplit() {
	s := &r.status
	rival, priority, active := r.machine.Split()
	if active == s.split.IsValid() {
		return
	}
	if !active {
		from, state := s.split, r.machine.State()
		r.asides.Add(func() { r.log.Info("split: over", "from", from, "state", state, splitLimit.Ends()) })
		s.split = netip.Addr{}
		return
	}
	s.split = rival
	s.counters.Splits++
	if splitLimit.Mutes(r.log, slog.LevelError, splitMessage, nil, 1) {
		return
	}
	own := r.machine.Priority()
	r.asides.Add(func() {
		r.log.Error(splitMessage, "from", rival, "mac", r.hardwareAddr(rival), "priority", priority, "own", own, "times", uint64(1), splitLimit.By(nil))
	})
}

// hardwareAddr returns the hardware address of another router, as far as the
// Handler can find it out.
func (r *Router) hardwareAddr(addr netip.Addr) string {
	n, ok := r.handler.(Neighbourhood)
	if !ok {
		return "unknown"
	}
	ctx, cancel := context.WithTimeout(context.Background(), neighbourTime)
	defer cancel()
	if mac := n.HardwareAddr(ctx, addr); mac != nil {
		return mac.String()
	}
	return "unknown"
}

// rival returns the router that is Active as well, or nil. conn.mu is held.
func (s *status) rival() *Peer {
	i := slices.IndexFunc(s.peers, func(p Peer) bool { return p.Address == s.split })
	if i < 0 {
		return nil
	}
	return new(s.peers[i])
}

const (
	// deafTime is for how long, and for at least how many intervals, a router goes
	// on being Active beside one that has the better claim, until it counts as one
	// that does not hear it.
	deafTime      = 3 * time.Second
	deafIntervals = 3
	// deafToVirtualMAC: Keepalived's macvlan, which is there in a Backup, too,
	// swallows what comes from its own hardware address: the interface below, where
	// vmac_xmit_base makes Keepalived listen, never gets it (macvlan_handle_frame
	// in the kernel, mode private).
	deafToVirtualMAC = "this one advertises from the virtual hardware address, which a Keepalived with vmac_xmit_base does not hear: " +
		"set xmit_base here as well, or take it out there"
	deafToAll = "what this one sends does not arrive there, or is discarded: " +
		"look for a firewall that drops IP protocol 112, and at what that router says about it"
)

// deafRival is another router that is Active though this one is, too, and has the
// better claim. It is guarded by conn.mu.
type deafRival struct {
	addr        netip.Addr
	since, last time.Time     // it was heard
	patience    time.Duration // silence for longer means that it has gone
	cause       string        // why it may not hear this router; empty: it is not certain yet that it does not
}

// observeDeaf says that a split goes on which the other router would have ended if it
// heard this one, and what to look at. adv has not been told to the
// machine yet. conn.mu is held, and the group's.
func (r *Router) observeDeaf(adv *Advertisement, now time.Time) {
	d := &r.status.deaf
	if r.machine.State() != Active || adv.Priority == 0 || r.machine.loses(adv) {
		*d = deafRival{}
		return
	}
	if d.addr != adv.Source || now.Sub(d.last) > d.patience {
		*d = deafRival{addr: adv.Source, since: now}
	}
	longest := max(adv.Interval, r.machine.Interval())
	d.last, d.patience = now, 2*longest
	if d.cause != "" || now.Sub(d.since) < max(deafTime, deafIntervals*longest) {
		return
	}
	switch {
	case r.mac != nil:
		d.cause = deafToVirtualMAC
	case r.cfg.owner():
		return // whoever disputes that is said elsewhere
	default:
		d.cause = deafToAll
	}
	r.warnOften("the other Active router does not hear this one", "from", d.addr, "cause", d.cause)
}

// deafness returns the cause while it lasts. conn.mu is held, and the group's.
func (r *Router) deafness(now time.Time) string {
	d := &r.status.deaf
	if r.machine.State() != Active || now.Sub(d.last) > d.patience {
		return ""
	}
	return d.cause
}

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
		r.noteMissed(&drop)
	}
	if len(here) == 0 {
		return
	}
	c.log.Warn(what, "router", strings.Join(names, ","), "interface", c.name, "from", p.Source, "got", vrid, "want", here,
		"times", uint64(1), foreignLimit.By(foreigner{p.Source, vrid}))
}

// meansForeign reports whether an advertisement with another VRID may be meant for r.
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
