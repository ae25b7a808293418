package vrrp

import (
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/havip/havip/internal/quietlog"
)

// formerTime is for how long what a router was configured with before counts as
// its own, too: routers are changed one after the other, and those that are still
// to be changed send what all of them had.
const formerTime = 10 * time.Minute

// addressList is a virtual router's addresses, in a form to compare with others.
type addressList struct {
	sorted []netip.Addr
	// local: nothing but link-local IPv6 addresses.
	local bool
}

// sort makes l the addresses, and reuses what it has.
func (l *addressList) sort(addresses []netip.Addr) {
	l.sorted = append(l.sorted[:0], addresses...)
	slices.SortFunc(l.sorted, netip.Addr.Compare)
	l.local = !slices.ContainsFunc(l.sorted, func(a netip.Addr) bool { return !isLocal(a) })
}

// shares reports whether another router's list is of the virtual router that l is of:
// they have an address in common, or are both empty. Many pairs have the same
// link-local IPv6 address. It only counts if l has no other: of what l has, nothing
// is left to nobody then.
func (l *addressList) shares(other *addressList) bool {
	if len(l.sorted) == 0 {
		return len(other.sorted) == 0
	}
	return slices.ContainsFunc(other.sorted, func(a netip.Addr) bool {
		_, found := slices.BinarySearchFunc(l.sorted, a, netip.Addr.Compare)
		return found && (l.local || !isLocal(a))
	})
}

func isLocal(a netip.Addr) bool { return a.Is6() && a.IsLinkLocalUnicast() }

// former is what a wire was configured with before.
type former struct {
	addresses addressList
	interval  time.Duration
	until     time.Time // when it ceases to count
}

// keepFormer goes on with the Config, which has been changed since it was before.
// What it was counts for some time yet.
func (w *wire) keepFormer(before *Config, now time.Time) {
	w.formers = slices.DeleteFunc(w.formers, func(f former) bool { return !now.Before(f.until) })
	if before.Interval != w.cfg.Interval || !slices.Equal(before.Addresses, w.cfg.Addresses) {
		f := former{interval: before.Interval, until: now.Add(formerTime)}
		f.addresses.sort(before.Addresses)
		w.formers = append(w.formers, f)
	}
	w.configure()
}

// formerly reports whether something was so before, and still counts.
func (w *wire) formerly(now time.Time, was func(*former) bool) bool {
	return slices.ContainsFunc(w.formers, func(f former) bool { return now.Before(f.until) && was(&f) })
}

// checkAddresses drops adv if it shares no address with the router: another
// virtual router has the same VRID by mistake, and heeding it would leave the
// addresses to nobody. RFC 3768 §7.1 excepts the owner; here no priority is an
// excuse. Routers that have none are about the same thing, whatever that is.
func (w *wire) checkAddresses(adv *Advertisement, now time.Time) {
	if slices.Equal(adv.Addresses, w.cfg.Addresses) {
		return
	}
	w.theirs.sort(adv.Addresses)
	switch {
	case slices.Equal(w.theirs.sorted, w.ours.sorted):
		// Another order is no difference.
	case w.ours.shares(&w.theirs):
		w.seen |= seenAddresses
	case w.formerly(now, func(f *former) bool { return f.addresses.shares(&w.theirs) }):
		w.seen |= seenAddresses | seenFormer
	case len(adv.Addresses) == 0, len(w.cfg.Addresses) == 0:
		w.drop.drop(DropCount, uint64(len(adv.Addresses)), uint64(min(len(w.cfg.Addresses), 1)))
	default:
		w.drop.dropAddresses(adv)
	}
}

// maxStrangers bounds what others can make a router remember.
const maxStrangers = 8

// stranger is a sender that shares no address with this router.
type stranger struct {
	adv     Advertisement // its last one
	at      time.Time     // when that was
	subject any           // of log lines about it: its address, which is not to be allocated each time
}

// strangerLimit is for lines about each stranger, and one about all that are too many.
var strangerLimit = quietlog.Limit{Every: noteInterval, Subjects: maxStrangers + 1}

// rememberStranger takes note of a stranger, and returns the subject of log lines about it: nil if
// there are too many.
func (s *status) rememberStranger(adv *Advertisement, now time.Time) (subject any) {
	i := slices.IndexFunc(s.strangers, func(o stranger) bool { return o.adv.Source == adv.Source })
	if i < 0 && len(s.strangers) < maxStrangers {
		s.strangers = append(s.strangers, stranger{})
		i = len(s.strangers) - 1
	}
	if i < 0 {
		i = slices.IndexFunc(s.strangers, func(o stranger) bool { return now.Sub(o.at) >= noteInterval })
		if i < 0 {
			return nil
		}
	}
	o := &s.strangers[i]
	own := append(o.adv.Addresses[:0], adv.Addresses...)
	o.adv, o.at = *adv, now
	o.adv.Addresses = own
	if o.subject != any(adv.Source) {
		o.subject = adv.Source
	}
	return o.subject
}

// warnOfStranger reports what was discarded with DropAddresses or DropCount:
// each sender by itself, as there may be another one every time.
func (r *Router) warnOfStranger(err *DropError, now time.Time) {
	adv := &r.loop.adv
	subject := r.status.rememberStranger(adv, now)
	if !strangerLimit.Mutes(r.log, slog.LevelWarn, "discarded", subject, 1) {
		r.log.Warn("discarded", "err", new(*err), "priority", adv.Priority, "addresses", slices.Clone(adv.Addresses), "want", r.cfg.Addresses,
			"times", uint64(1), strangerLimit.By(subject))
	}
}

// heeds reports whether the machine may hear an advertisement that was accepted.
// One that shares only a former address is from a router that is still to be
// changed. A Backup follows it, so that the change makes no difference. But an
// Active router does not step down for it: nobody would have the new addresses.
func (r *Router) heeds(adv *Advertisement, now time.Time) bool {
	if r.wire.seen&seenFormer == 0 || r.machine.State() != Active {
		return true
	}
	r.wire.drop.dropAddresses(adv)
	r.countDiscard(&r.wire.drop, now)
	return false
}

// has reports whether a stranger was heard a moment ago to be Active with one of
// the addresses.
func (s *stranger) has(addresses, scratch *addressList, multiplier int, now time.Time) bool {
	scratch.sort(s.adv.Addresses)
	patience := time.Duration(multiplier+1) * s.adv.Interval
	return s.adv.Priority > 0 && now.Sub(s.at) <= patience && addresses.shares(scratch)
}

// Meets reports whether the router is Active, and another one is with addresses
// of cfg that this one does not have: it was given them earlier, and is not heeded
// for want of a common one. [Router.Reconfigure] makes the router hear it, but
// nobody can tell before who is to have the addresses then. Whoever keeps them
// must not put them on the interface meanwhile: the way is to [Router.Hold] the
// router, change both, and release it.
func (r *Router) Meets(cfg Config) bool {
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	var next addressList
	next.sort(cfg.Addresses)
	now := time.Now()
	return r.phase == running && r.isActive() && slices.ContainsFunc(r.status.strangers, func(s stranger) bool {
		return s.has(&next, &r.wire.theirs, r.cfg.DownMultiplier, now)
	})
}

// meet lets the machine hear the strangers that have become none. conn.mu is held.
func (r *Router) meet() {
	now := time.Now()
	r.status.strangers = slices.DeleteFunc(r.status.strangers, func(s stranger) bool {
		met := s.has(&r.wire.ours, &r.wire.theirs, r.cfg.DownMultiplier, now)
		if met {
			r.useMachineLocked(func(now time.Time) []Action { return r.machine.Receive(now, &s.adv) })
		}
		return met
	})
}
