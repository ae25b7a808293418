package vrrp

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"
)

// Neighbourhood is what a [Handler] may be as well: one that finds out the hardware
// address of another host on the link, so that whoever reads of a split in the log
// knows which switch port to look at.
type Neighbourhood interface {
	// HardwareAddr asks the link who has addr, until ctx ends. nil: nobody has
	// answered. It is called from a goroutine of its own.
	HardwareAddr(ctx context.Context, addr netip.Addr) net.HardwareAddr
}

const (
	// splitNotes is the shortest time between two log lines that say that a split
	// has begun.
	splitNotes = 10 * time.Second
	// neighbourTime is for how long such a line waits for the rival's hardware
	// address.
	neighbourTime = time.Second
)

// split is what a Router knows of another one that is Active as well. It is
// guarded by conn.mu.
type split struct {
	rival netip.Addr // not valid: there is none
	said  bool       // it was logged
}

// observeSplit says that another router is Active as well, and when that is over.
// conn.mu is held, and the group's.
func (r *Router) observeSplit(now time.Time) {
	s := &r.status.split
	rival, priority, active := r.machine.Split()
	if active == s.rival.IsValid() {
		return
	}
	if !active {
		if from, state := s.rival, r.machine.State(); s.said {
			r.asides.Add(func() { r.log.Info("split: over", "from", from, "state", state) })
		}
		*s = split{}
		return
	}
	s.rival = rival
	r.status.counters.Splits++
	var times uint64
	if times, s.said = r.status.noted[subjectSplit].allow(now, splitNotes); s.said {
		own := r.machine.Priority()
		r.asides.Add(func() {
			r.log.Error("split: another router is Active as well",
				"from", rival, "mac", r.hardwareAddr(rival), "priority", priority, "own", own, "times", times)
		})
	}
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
	i := slices.IndexFunc(s.peers, func(p Peer) bool { return p.Address == s.split.rival })
	if i < 0 {
		return nil
	}
	return new(s.peers[i])
}
