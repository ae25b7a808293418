package vrrp

import (
	"net/netip"
	"slices"
	"time"
)

// splitNotes is the shortest time between two log lines that say that a split has
// begun.
const splitNotes = 10 * time.Second

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
		if s.said {
			r.log.Info("split: over", "from", s.rival, "state", r.machine.State())
		}
		*s = split{}
		return
	}
	s.rival = rival
	r.status.counters.Splits++
	var times uint64
	if times, s.said = r.status.noted[subjectSplit].allow(now, splitNotes); s.said {
		r.log.Warn("split: another router is Active as well",
			"from", rival, "priority", priority, "own", r.machine.Priority(), "times", times)
	}
}

// rival returns the router that is Active as well, or nil. conn.mu is held.
func (s *status) rival() *Peer {
	i := slices.IndexFunc(s.peers, func(p Peer) bool { return p.Address == s.split.rival })
	if i < 0 {
		return nil
	}
	return new(s.peers[i])
}
