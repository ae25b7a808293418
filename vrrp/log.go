package vrrp

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/havip/havip/internal/quietlog"
)

// noteInterval is the shortest time between two log lines about the same thing.
const noteInterval = 10 * time.Minute

var (
	noteLimit = quietlog.Limit{Every: noteInterval}
	// leaderLimit is for lines that name another Active router: two Active routers may
	// be heard in turns.
	leaderLimit = quietlog.Limit{Every: 10 * time.Second}
)

// warnOften warns of a thing that may recur all the time. The line counts how often.
func (r *Router) warnOften(msg string, args ...any) {
	r.log.Warn(msg, append(args, noteLimit.Times(1, nil))...)
}

// logStart logs the router's identity, for the comparison of two nodes. conn.mu is held.
func (r *Router) logStart() {
	c := &r.cfg
	args := []any{"interface", r.conn.name}
	if r.source.IsValid() {
		args = append(args, "source", r.source)
	}
	args = append(args, "version", c.Version, "vrid", c.VRID, "priority", c.Priority, "interval", c.Interval,
		"addresses", slices.Clone(c.Addresses), "auth_type", c.Auth.Type.String())
	if len(c.Peers) > 0 {
		args = append(args, "peers", slices.Clone(c.Peers))
	} else {
		args = append(args, "group", r.wire.group)
	}
	r.log.Info("begins", args...)
}

// logState logs a change of the state and all that is known of its cause. conn.mu is
// held, and the group's.
func (r *Router) logState(t Transition) {
	s, level := &r.status, r.changeLevel(&t)
	leaderLimit.Reset(r.log)
	if t.From == Initialize && t.Waiting {
		r.log.Info("waiting", "reason", t.Reason)
		return
	}
	args := []any{"from", t.From, "to", t.To, "cause", t.Cause}
	if t.Reason != "" {
		args = append(args, "reason", t.Reason)
	}
	args = append(args, "priority", t.Priority)
	switch p := t.Peer; {
	case !s.leavingSince.IsZero():
		args = append(args, s.handedOver(&t)...)
	case p.Address.IsValid() && t.Cause == CausePriorityZero:
		args = append(args, "peer", p.Address, "left", ago(t.Time.Sub(p.LastHeard)), "hint", "planned or not: see its log")
	case p.Address.IsValid():
		args = append(args, "peer", p.Address, "peer_priority", p.Priority, "last_heard", ago(t.Time.Sub(p.LastHeard)))
	case t.Cause == CauseTimeout, t.Cause == CauseUnclaimed:
		args = append(args, "last_heard", "nobody")
	}
	if t.Cause == CauseTimeout || s.unheard > 0 && t.Cause.aboutPeer() {
		args = append(args, "discarded", s.unheard)
	}
	if s.unheard > 0 && t.Cause.aboutPeer() {
		args = append(args, "discarded_last", s.why.Error())
		// A router that was heard with this VRID may belong to another pair as well.
		pair := s.why.Reason == DropVRID && t.Peer.Address.IsValid()
		if t.To == Active && t.Cause != CausePreempt && !pair {
			level = slog.LevelWarn
			args = append(args, "warning", fmt.Sprintf("%v is alive: both may have the addresses now", s.why.Source))
		}
	}
	s.unheard = 0
	r.log.Log(context.Background(), level, "state", args...)
}

// ago prints the age of an event.
func ago(d time.Duration) string { return d.Round(time.Millisecond).String() + " ago" }

// changeLevel returns how much the last change of the state matters to an operator.
// conn.mu is held, and the group's.
func (r *Router) changeLevel(t *Transition) slog.Level {
	switch {
	case t.Cause == CauseFault && r.machine.onlyFaults(planned):
		return slog.LevelInfo
	case t.Cause == CauseFault && t.From == Initialize:
		return r.faultLevel()
	case t.Cause == CauseFault && t.From == Active && r.unable():
		return slog.LevelError
	case t.Cause == CauseFault, t.Cause == CauseStalled, t.Cause == CauseUnclaimed,
		t.Cause == CauseTimeout && t.Peer.Address.IsValid():
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// observeLeader logs which router is Active when a Backup first hears it. conn.mu is held,
// and the group's.
func (r *Router) observeLeader(adv *Advertisement) {
	s := &r.status
	if r.machine.State() != Backup || adv.Priority == 0 || adv.Source == s.leader {
		return
	}
	s.leader = adv.Source
	r.log.Info("another router is Active", "peer", adv.Source, "peer_priority", adv.Priority, "interval", adv.Interval, leaderLimit.By(nil))
}

// noteChange takes note of a change of the state.
func (r *Router) noteChange(t *Transition) {
	s := &r.status
	if t.From == Active && t.To == Active {
		return // nothing has changed
	}
	s.since, s.change = t.Time, *t
	s.counters.Transitions++
	s.counters.causes[t.Cause]++
	s.leader = netip.Addr{}
	if t.To == Backup {
		s.leader = t.Peer.Address // the line about the change names it
	}
}

// observeFault logs that another fault keeps the router out of the election, which is no
// change of the state. conn.mu is held, and the group's.
func (r *Router) observeFault() {
	if r.phase != running {
		return // the start of the router logs the fault
	}
	fault := r.machine.fault()
	if fault != "" && r.status.fault != "" && fault != r.status.fault {
		what := "fault"
		if r.machine.waited {
			what = "waiting"
		}
		r.log.Log(context.Background(), r.faultLevel(), what, "reason", fault)
	}
	r.status.fault = fault
}

// faultLevel returns how much the present fault matters. The reasons of Hold are known to
// its caller. conn.mu is held, and the group's.
func (r *Router) faultLevel() slog.Level {
	if r.machine.waited || !r.unable() && r.machine.groupFault == "" {
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

// unable reports whether the router cannot be heard, or cannot have its addresses.
// conn.mu is held.
func (r *Router) unable() bool {
	a := &r.addresses
	return r.linkFault != "" || a.fault != "" || len(a.foreseen) > 0
}

// logDeed logs that a call of the Handler has succeeded, and for how long the successor may
// have had the addresses, too.
func (r *Router) logDeed(e task, took time.Duration) {
	what := map[ActionKind]string{Acquire: "addresses acquired", Release: "addresses released"}[e.kind]
	if what == "" || r.handler == nil {
		return
	}
	r.conn.mu.Lock()
	addresses := slices.Clone(r.cfg.Addresses)
	r.conn.mu.Unlock()
	args := []any{"addresses", addresses, "took", took}
	if !e.rival.IsZero() {
		args = append(args, "overlap", time.Since(e.rival))
	}
	r.log.Info(what, args...)
}

// observeHandOver logs that a planned hand-over has begun, and tells the Handler. conn.mu is
// held, and the group's.
func (r *Router) observeHandOver(now time.Time) {
	s, l := &r.status, &r.machine.leaving
	switch begun := r.machine.HandingOver(); {
	case begun == !s.leavingSince.IsZero():
	case !begun:
		s.leavingSince = time.Time{}
	default:
		s.leavingSince = now
		args := []any{"cause", l.cause}
		if l.reason != "" {
			args = append(args, "reason", l.reason)
		}
		within := r.machine.timer.Sub(r.machine.now)
		r.log.Info("hands over: keeps the addresses until a successor is heard", append(args, "longest", within)...)
		r.queueTask(task{kind: depart, within: within})
	}
}

// handedOver returns what is to be logged of a hand-over that ends with a change.
func (s *status) handedOver(t *Transition) []any {
	after := t.Time.Sub(s.leavingSince).Round(time.Millisecond)
	switch p := t.Peer; {
	case !p.Address.IsValid():
		return []any{"successor", "nobody", "after", after}
	case s.unheard > 0 && s.why.Source == p.Address: // see suspects
		return []any{"successor", p.Address, "discarded_last", s.why.Error(), "after", after}
	default:
		return []any{"successor", p.Address, "successor_priority", p.Priority, "after", after}
	}
}

// rivalSince returns when the successor was heard for which the actions release the
// addresses. Zero: there was none. conn.mu is held.
func (r *Router) rivalSince(actions []Action) time.Time {
	i := slices.IndexFunc(actions, func(a Action) bool { return a.Kind == Changed })
	if r.status.leavingSince.IsZero() || i < 0 || !actions[i].Transition.Peer.Address.IsValid() {
		return time.Time{}
	}
	return actions[i].Transition.Time
}

// debugs reports whether each advertisement is logged.
func (r *Router) debugs() bool { return r.log.Enabled(context.Background(), slog.LevelDebug) }

// countOddities counts and logs what is odd about an accepted advertisement. A version 3
// interval that differs is learned (RFC 9568 §7.1).
func (r *Router) countOddities(adv *Advertisement) {
	c, seen, from := &r.status.counters, r.wire.seen, adv.Source
	if adv.Interval != r.cfg.Interval || seen&seenAddresses != 0 {
		c.Mismatched++
	}
	switch adv.Checksum {
	case ChecksumMessage:
		c.MessageChecksums++
	case ChecksumOldUnicast:
		c.OldUnicastChecksums++
	}
	if seen&seenUnsigned != 0 {
		c.Unsigned++
	}
	if adv.Interval != r.cfg.Interval {
		r.warnOften("another interval", "from", from, "got", adv.Interval, "want", r.cfg.Interval)
	}
	if seen&seenAddresses != 0 {
		r.warnOften("other virtual addresses", "from", from, "got", slices.Clone(adv.Addresses), "want", r.cfg.Addresses)
	}
	if adv.Version == 3 && adv.Source.Is4() && adv.Checksum != r.cfg.Checksum {
		// The sender may drop any other form than its own.
		r.warnOften("another form of checksum", "from", from, "got", adv.Checksum.String(), "want", r.cfg.Checksum.String())
	}
	if seen&seenClockSkew != 0 {
		r.warnOften("the sender's clock is off", "from", from)
	}
}

// countDiscard counts and logs a discarded packet. conn.mu is held.
func (r *Router) countDiscard(err *DropError, now time.Time) {
	r.status.counters.dropped[err.Reason]++
	if err.Reason == DropOwn {
		return
	}
	r.status.drop, r.status.dropAt = *err, now // err is reused
	r.status.drops[err.Reason] = lastDrop{*err, now}
	r.noteMissed(err)
	if err.Reason == DropAddresses || err.Reason == DropCount {
		r.warnOfStranger(err, now)
		return
	}
	if noteLimit.Mutes(r.log, slog.LevelWarn, "discarded", err.Reason, 1) {
		return
	}
	args := []any{"err", new(*err), noteLimit.Times(1, err.Reason)}
	if err.Reason == DropStranger || err.Reason == DropDestination {
		args = append(args, "peers", slices.Clone(r.cfg.Peers))
	}
	r.log.Warn("discarded", args...)
}

// noteMissed takes note of a discarded advertisement: it may explain the next change of
// the state.
func (r *Router) noteMissed(err *DropError) {
	r.status.unheard++
	r.status.why = *err
}

// sendFailed counts and logs an advertisement that could not be sent. conn.mu is held.
func (r *Router) sendFailed(err error) {
	r.status.counters.SendErrors++
	r.warnOften("advertisement not sent", "err", err)
}
