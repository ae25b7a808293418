package node

import (
	"cmp"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/havip/havip/internal/daemon"
	"github.com/havip/havip/internal/report"
	"github.com/havip/havip/vrrp"
)

// Status is everything as it is now.
func (n *Node) Status() *report.Status {
	v := n.daemon.View()
	s := &report.Status{ // in JSON a list without elements is a list
		Node: n.nodeStatus(v), Routers: []report.Router{}, Groups: []report.Group{}, Checks: []report.Check{}, Services: []report.Service{},
	}
	for _, r := range v.Routers {
		s.Routers = append(s.Routers, routerStatus(r))
	}
	for _, g := range v.Groups {
		s.Groups = append(s.Groups, report.Group{Name: g.Config.Name, State: g.State(), Routers: g.Config.Routers})
	}
	for _, c := range v.Checks {
		s.Checks = append(s.Checks, checkStatus(c))
	}
	for _, w := range v.Services {
		s.Services = append(s.Services, serviceStatus(w))
	}
	s.Alarms = n.alarms.Status()
	s.Problems = s.FindProblems()
	return s
}

// Events are the latest events.
func (n *Node) Events() *report.Ring { return n.log.Events() }

// Explain says why this host has an address or not.
func (n *Node) Explain(addr netip.Addr) (report.Explanation, error) {
	events, _, _ := n.Events().After(0)
	return report.Explain(n.Status(), events, addr)
}

func (n *Node) nodeStatus(v *daemon.View) report.Node {
	changes, maintenance := n.changes(), n.daemon.Maintenance()
	n.mu.Lock()
	defer n.mu.Unlock()
	warned := warnings(v.Config)
	if n.daemon.NoteStays() {
		warned = append(warned, "the maintenance that has ended begins again with a restart: its note cannot be removed: 'havip maintenance off' tries that again, and says why")
	}
	return report.Node{
		Host: n.host, Version: n.cfg.Version, PID: os.Getpid(), Time: time.Now(), Started: n.started,
		File: n.cfg.File, Loaded: v.Since, ReloadError: n.reloadError, ReloadFailed: n.reloadFailed,
		LogLevel: n.log.Level(), Warnings: warned, Maintenance: maintenance, Changes: changes,
	}
}

// routerStatus is what a router is and does.
func routerStatus(v daemon.RouterView) report.Router {
	s, a := v.Status(), v.Addresses()
	r := report.Router{
		Name: v.Config.Name, Group: v.Group, Interface: v.Config.Interface, VRID: v.Config.VRID, Version: uint8(v.Config.Version), IPv6: v.Config.IPv6(),
		State: s.State.String(), Since: s.Since, NotRunning: v.NotRunning(), Faults: s.Faults, Waiting: s.Waiting, HandingOver: s.HandingOver,
		Priority: s.Priority, Configured: v.Config.Priority, Preempt: !v.Config.NoPreempt, Interval: report.Seconds(s.Interval), Own: report.Seconds(v.Config.Interval),
		Auth: cmp.Or(v.Config.Auth.Type, "none"), Addresses: []report.Address{}, Peers: []report.Peer{},
		Held: a.Held, Problem: a.Problem, Reinstated: a.Reinstated, Removed: a.Removed, Lost: a.Lost, Conflicts: a.Conflicts,
		Deaf: s.Deaf,
		Sent: s.Counters.Sent, Received: s.Counters.Received, SendErrors: s.Counters.SendErrors,
		Mismatched: s.Counters.Mismatched, Splits: s.Counters.Splits, Transitions: s.Counters.Transitions,
		Causes: make(map[string]uint64, len(s.Counters.Causes)),
	}
	for cause, n := range s.Counters.Causes {
		r.Causes[cause.String()] = n
	}
	if s.Source.IsValid() {
		r.Source = s.Source.String()
	}
	if c := a.LastConflict; c != nil {
		r.Claim = &report.Claim{Address: c.Address.String(), MAC: c.MAC.String(), Interface: c.Interface, Last: c.Time}
	}
	addChange(&r, s.LastChange)
	addDrops(&r, &s)
	for _, p := range v.Config.Peers {
		r.Unicast = append(r.Unicast, p.String())
	}
	for _, list := range []bool{false, true} {
		all := v.Config.Addresses
		if list {
			all = v.Config.Excluded
		}
		for _, a := range all {
			r.Addresses = append(r.Addresses, report.Address{Address: a.Prefix.String(), Excluded: list})
		}
	}
	for _, p := range s.Peers {
		r.Peers = append(r.Peers, peerStatus(p))
	}
	if s.Rival != nil {
		r.Rival = new(peerStatus(*s.Rival))
	}
	for _, t := range v.Config.Track {
		r.Tracks = append(r.Tracks, report.Track{Check: t.Check, Weight: t.Weight})
	}
	return r
}

// addChange says why the router is what it is.
func addChange(r *report.Router, t vrrp.Transition) {
	if t.Time.IsZero() {
		return
	}
	r.Cause, r.Reason = t.Cause.String(), t.Reason
	if t.Peer.Address.IsValid() {
		r.CausePeer = t.Peer.Address.String()
	}
}

// addDrops says what was not heard, and why.
func addDrops(r *report.Router, s *vrrp.Status) {
	counts := maps.Clone(s.Counters.Dropped)
	for _, d := range s.Drops {
		from, text := d.Last.Source.String(), d.Last.Error()
		if _, rest, ok := strings.Cut(text, from+": "); ok {
			text = rest // the sender has its own field
		}
		reason := d.Last.Reason
		r.Drops = append(r.Drops, report.Drop{Reason: reason.String(), Count: counts[reason], From: from, Text: text, Last: d.At})
		delete(counts, reason)
	}
	for _, reason := range slices.Sorted(maps.Keys(counts)) { // of an earlier router of the name, and its own
		r.Drops = append(r.Drops, report.Drop{Reason: reason.String(), Count: counts[reason]})
	}
	if f := s.Foreign; f != nil {
		r.Foreign = &report.Foreign{From: f.Source.String(), VRID: f.VRID, Last: f.At}
	}
	r.Causes = make(map[string]uint64, len(s.Counters.Causes))
	for cause, n := range s.Counters.Causes {
		r.Causes[cause.String()] = n
	}
}

func peerStatus(p vrrp.Peer) report.Peer {
	return report.Peer{
		Address: p.Address.String(), Version: p.Version, Priority: p.Priority,
		Interval: report.Seconds(p.Interval), LastHeard: p.LastHeard,
	}
}
