package vrrp

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
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
