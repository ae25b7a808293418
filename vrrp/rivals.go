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

// Neighbourhood is a [Handler] that finds the hardware address of another host on the
// link. The log line about a split names it: it leads to the switch port.
type Neighbourhood interface {
	// HardwareAddr asks the link for the host that has addr, until ctx ends. Nil: no
	// host has answered. HardwareAddr is called from a goroutine of its own.
	HardwareAddr(ctx context.Context, addr netip.Addr) net.HardwareAddr
}

// splitLimit is for lines that say that a split has begun.
var splitLimit = quietlog.Limit{Every: 10 * time.Second}

const (
	splitMessage = "split: another router is Active as well"
	// neighbourTime is the longest that such a line waits for the rival's hardware
	// address.
	neighbourTime = time.Second
)

// observeSplit logs that another router is Active as well, and the end of that. A line
// that the limit leaves out is due again as long as the split lasts: somebody may have
// read that the split before was over. conn.mu is held, and the group's.
func (r *Router) observeSplit() {
	s := &r.status
	rival, priority, active := r.machine.Split()
	if !active {
		r.observeUnity()
		return
	}
	times := uint64(0)
	if !s.split.IsValid() {
		s.split, times = rival, 1
		s.counters.Splits++
	}
	if s.splitTold || splitLimit.Mutes(r.log, slog.LevelError, splitMessage, nil, times) {
		return
	}
	s.splitTold = true
	own := r.machine.Priority()
	r.asides.Add(func() {
		r.log.Error(splitMessage, "from", rival, "mac", r.hardwareAddr(rival), "priority", priority, "own", own, splitLimit.Times(times, nil))
	})
}

// observeUnity logs that a split is over, if there was one.
func (r *Router) observeUnity() {
	s := &r.status
	if !s.split.IsValid() {
		return
	}
	from, state := s.split, r.machine.State()
	r.asides.Add(func() {
		if splitLimit.Ended(r.log) {
			r.log.Info("split: over", "from", from, "state", state)
		}
	})
	s.split, s.splitTold = netip.Addr{}, false
}

// hardwareAddr returns the hardware address of another router, or "unknown".
func (r *Router) hardwareAddr(addr netip.Addr) string {
	if n, ok := r.handler.(Neighbourhood); ok {
		ctx, cancel := context.WithTimeout(context.Background(), neighbourTime)
		defer cancel()
		if mac := n.HardwareAddr(ctx, addr); mac != nil {
			return mac.String()
		}
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
	// An Active router that stays Active beside this one, which has the better claim,
	// counts as deaf after deafTime and at least deafIntervals.
	deafTime      = 3 * time.Second
	deafIntervals = 3
	// deafToVirtualMAC: Keepalived's macvlan exists in a Backup, too, and swallows
	// frames from its own hardware address. The interface below, where vmac_xmit_base
	// makes Keepalived listen, never gets them (macvlan_handle_frame in the kernel,
	// mode private).
	deafToVirtualMAC = "this one advertises from the virtual hardware address, which a Keepalived with vmac_xmit_base does not hear: " +
		"set xmit_base here as well, or take it out there"
	deafToAll = "what this one sends does not arrive there, or is discarded: " +
		"look for a firewall that drops IP protocol 112, and at what that router says about it"
)

// deafRival is another Active router that may not hear this one. Guarded by conn.mu.
type deafRival struct {
	addr        netip.Addr
	since, last time.Time     // when it was heard, first and last
	patience    time.Duration // a longer silence means that it has gone
	cause       string        // why it may not hear this router, once that is certain; else empty
}

// observeDeaf logs that a split goes on which the other router would have ended if it
// heard this one, and what to look at. It is called before the machine receives adv.
// conn.mu is held, and the group's.
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
		return // a dispute between owners is logged elsewhere
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
	// without a router on the Conn: a link with many pairs carries a lot of them.
	foreignPace = 100 * time.Millisecond
	// maxForeigners bounds what others can make a Conn log: one line for each sender,
	// and the last one for all further senders.
	maxForeigners = 8
)

// foreigner is a sender and its VRID.
type foreigner struct {
	from netip.Addr
	vrid uint8
}

var foreignLimit = quietlog.Limit{Every: noteInterval, Subjects: maxForeigners - 1}

// hearForeign looks at an advertisement for a VRID without a router here. Most come from
// other pairs and mean nothing. An advertisement from a configured peer, or with the
// addresses of a router here, is likely to be meant for that router: the VRID is wrong on
// one of the two sides. conn.mu is held.
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
		r.status.foreign = Foreign{Source: p.Source, VRID: vrid, At: now}
		drop := DropError{Source: p.Source}
		drop.drop(DropVRID, uint64(vrid), uint64(r.cfg.VRID))
		r.noteMissed(&drop)
	}
	if len(here) == 0 {
		return
	}
	c.log.Warn(what, "router", strings.Join(names, ","), "interface", c.name, "from", p.Source, "got", vrid, "want", here,
		foreignLimit.Times(1, foreigner{p.Source, vrid}))
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
	if p.Destination.WithZone("") != r.wire.group || adv.decode(p.Payload(), p.Source, p.Destination, &drop) == 0 {
		return false
	}
	r.wire.theirs.sort(adv.Addresses)
	return len(adv.Addresses) > 0 && r.wire.ours.shares(&r.wire.theirs)
}
