package vrrp

import (
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/havip/havip/internal/quietlog"
)

// formerTime is how long a router accepts its former configuration beside the present one.
// Routers are changed one after the other, and a peer that is changed later still sends the
// former addresses and interval.
const formerTime = 10 * time.Minute

// addressList is a virtual router's addresses, in a form to compare with others.
type addressList struct {
	sorted []netip.Addr
	local  bool // there are only link-local IPv6 addresses
}

// sort makes l the list of addresses, and reuses its memory.
func (l *addressList) sort(addresses []netip.Addr) {
	l.sorted = append(l.sorted[:0], addresses...)
	slices.SortFunc(l.sorted, netip.Addr.Compare)
	l.local = !slices.ContainsFunc(l.sorted, func(a netip.Addr) bool { return !isLocal(a) })
}

// shares reports whether another list belongs to the same virtual router as l: the lists
// have an address in common, or both are empty. Many pairs have the same link-local IPv6
// address, so such an address counts only if l has no other kind.
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

// former is a former configuration of a wire.
type former struct {
	addresses addressList
	interval  time.Duration
	until     time.Time // from then on it does not count
}

// keepFormer makes w follow its changed Config, and remembers the Config before.
func (w *wire) keepFormer(before *Config, now time.Time) {
	w.formers = slices.DeleteFunc(w.formers, func(f former) bool { return !now.Before(f.until) })
	if before.Interval != w.cfg.Interval || !slices.Equal(before.Addresses, w.cfg.Addresses) {
		f := former{interval: before.Interval, until: now.Add(formerTime)}
		f.addresses.sort(before.Addresses)
		w.formers = append(w.formers, f)
	}
	w.configure()
}

// formerly reports whether was returns true for a former configuration that counts.
func (w *wire) formerly(now time.Time, was func(*former) bool) bool {
	return slices.ContainsFunc(w.formers, func(f former) bool { return now.Before(f.until) && was(&f) })
}

// checkAddresses drops adv if it shares no address with the router: another virtual
// router has the same VRID by mistake, and a router that followed it would leave its own
// addresses without a holder. RFC 3768 §7.1 excepts the owner; here no priority is
// excepted. Routers without any address elect each other.
func (w *wire) checkAddresses(adv *Advertisement, now time.Time) {
	if slices.Equal(adv.Addresses, w.cfg.Addresses) {
		return
	}
	w.theirs.sort(adv.Addresses)
	switch {
	case slices.Equal(w.theirs.sorted, w.ours.sorted):
		// the order does not matter
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

// maxStrangers bounds the strangers that a router remembers.
const maxStrangers = 8

// stranger is a sender that shares no address with this router.
type stranger struct {
	adv     Advertisement // its last one
	at      time.Time     // when adv came
	subject any           // of log lines: the address, boxed once
}

// strangerLimit is for lines about each stranger, and about all further ones together.
var strangerLimit = quietlog.Limit{Every: noteInterval, Subjects: maxStrangers + 1}

// rememberStranger takes note of a stranger and returns the subject of its log lines: nil
// if there are too many strangers.
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

// warnOfStranger logs an advertisement that was discarded with DropAddresses or DropCount.
// Each sender has its own line, since several may take turns.
func (r *Router) warnOfStranger(err *DropError, now time.Time) {
	adv := &r.loop.adv
	subject := r.status.rememberStranger(adv, now)
	if !strangerLimit.Mutes(r.log, slog.LevelWarn, "discarded", subject, 1) {
		r.log.Warn("discarded", "err", new(*err), "priority", adv.Priority, "addresses", slices.Clone(adv.Addresses), "want", r.cfg.Addresses,
			strangerLimit.Times(1, subject))
	}
}

// heeds reports whether the machine may receive an accepted advertisement. An advertisement
// that shares only a former address comes from a router that has not been changed yet. A
// Backup follows that router, and keeps quiet. An Active router does not step down for it:
// the new addresses would have no holder.
func (r *Router) heeds(adv *Advertisement, now time.Time) bool {
	if r.wire.seen&seenFormer == 0 || r.machine.State() != Active {
		return true
	}
	r.wire.drop.dropAddresses(adv)
	r.countDiscard(&r.wire.drop, now)
	return false
}

// has reports whether a stranger was Active when last heard, a short time ago, and
// advertised one of the addresses.
func (s *stranger) has(addresses, scratch *addressList, multiplier int, now time.Time) bool {
	scratch.sort(s.adv.Addresses)
	patience := time.Duration(multiplier+1) * s.adv.Interval
	return s.adv.Priority > 0 && now.Sub(s.at) <= patience && addresses.shares(scratch)
}

// Meets reports whether the router is Active and another router is Active with addresses of
// cfg that this router does not have yet. The other router was reconfigured earlier. So far
// its advertisements are discarded, since the two lists have no address in common. After
// [Router.Reconfigure] the election decides which of the two has the addresses: until then
// they must not be on this host's interface. So [Router.Hold] the router, reconfigure what
// owns the addresses and then the router, and release the hold.
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

// meetStrangers lets the machine receive the last advertisements of strangers that share
// an address now. conn.mu is held.
func (r *Router) meetStrangers() {
	now := time.Now()
	r.status.strangers = slices.DeleteFunc(r.status.strangers, func(s stranger) bool {
		met := s.has(&r.wire.ours, &r.wire.theirs, r.cfg.DownMultiplier, now)
		if met {
			r.useMachineLocked(func(now time.Time) []Action { return r.machine.Receive(now, &s.adv) })
		}
		return met
	})
}
