package vip

import (
	"fmt"
	"time"
)

const (
	// renewals is how often an address is renewed within its lifetime.
	renewals = 4
	// retry is when a renewal that failed is tried again.
	retry = 50 * time.Millisecond
	// slack is by how much the kernel may be early: it counts ticks, and rounds up by a
	// fiftieth of a second (ADDRCONF_TIMER_FUZZ_MINUS).
	slack = 50 * time.Millisecond
)

// minLease is the shortest lifetime that the kernel can be given.
const minLease = time.Second

// LeaseFor returns the lease that suits a virtual router with the given interval between
// advertisements. A peer takes the addresses over a number of intervals after the last
// advertisement; by default 3. The lease is the longest one, in whole seconds, that lapses
// before that. At least 1 s, the kernel's shortest, and at most 1 h.
func LeaseFor(interval time.Duration, intervals int) time.Duration {
	return min(max(minLease, (time.Duration(intervals)*interval).Truncate(time.Second)), maxLease)
}

// lease is for how long the kernel keeps the addresses on its own. It reads no clock.
type lease struct {
	lifetime time.Duration // 0: for ever
	since    time.Time     // the last renewal
	renewAt  time.Time
}

// from returns the lease of addresses that are written at a time.
func (l lease) from(at time.Time) lease {
	return lease{l.lifetime, at, at.Add(l.lifetime / renewals)}
}

// renewalDue returns when the addresses are to be renewed; zero: never.
func (l lease) renewalDue() time.Time {
	if l.lifetime == 0 {
		return time.Time{}
	}
	return l.renewAt
}

// over reports whether the kernel may have removed the addresses.
func (l lease) over(now time.Time) bool {
	return l.lifetime > 0 && now.Sub(l.since) >= l.lifetime-slack
}

// doubtful returns when the renewal is so late that the process may be frozen; nil: never.
func (l lease) doubtful() *time.Time {
	if l.lifetime == 0 {
		return nil
	}
	return new(l.since.Add(l.lifetime - l.lifetime/(2*renewals)))
}

// lapse is the reason to lose the addresses at a time, with the name of their Manager.
func (l lease) lapse(name string, now time.Time) error {
	why := ""
	if now.Sub(l.renewAt) >= l.lifetime/renewals { // no renewal was even tried
		why = ", as this process did not run or the kernel did not answer"
	}
	return fmt.Errorf("vip: %s: not renewed for %v%s: %w", name, now.Sub(l.since).Round(time.Millisecond), why, ErrLapsed)
}
