package monitor

import (
	"math"
	"slices"
	"time"
)

// pace is how regularly a sender advertises to one destination.
type pace struct {
	last     time.Time
	interval time.Duration // that it was measured at

	// Of the gaps that are about as long as the interval, by Welford's method, in seconds.
	count    int
	mean, m2 float64
	recent   []time.Duration // a ring of the last ones, for the percentile
	next     int             // where the next one goes

	// Of all gaps, with those that an answer to another router makes shorter, and those
	// that a lost advertisement makes longer.
	all     int
	total   time.Duration
	longest time.Duration
	lost    int  // advertisements, guessed from the lengths
	odd     bool // said to be off
}

// ring is how many gaps the percentile is made of.
const ring = 1000

// add notes an advertisement of a sender that advertises this interval and returns the gap
// before, or 0 if there is none.
func (p *pace) add(at time.Time, interval time.Duration) time.Duration {
	last := p.last
	p.last = at
	if p.interval != interval { // another pace from now on
		*p = pace{last: at, lost: p.lost, interval: interval, odd: p.odd}
	}
	if last.IsZero() || !at.After(last) || interval <= 0 {
		return 0
	}
	gap := at.Sub(last)
	if gap >= 3*interval {
		return gap // so long that a Backup may have taken over
	}
	p.all++
	p.total += gap
	p.longest = max(p.longest, gap)
	switch {
	case gap >= interval*3/2:
		p.lost += int((gap+interval/2)/interval) - 1
	case gap >= interval/2:
		p.regular(gap)
	}
	return gap
}

// regular adds a gap to the figures of those that are about as long as the interval.
func (p *pace) regular(gap time.Duration) {
	p.count++
	delta := gap.Seconds() - p.mean
	p.mean += delta / float64(p.count)
	p.m2 += delta * (gap.Seconds() - p.mean)
	if len(p.recent) < ring {
		p.recent = append(p.recent, gap)
		return
	}
	p.recent[p.next] = gap
	p.next = (p.next + 1) % ring
}

// pause ends a run: what follows is no gap.
func (p *pace) pause() { p.last = time.Time{} }

// average is the mean gap: of the regular ones, if there are any.
func (p *pace) average() time.Duration {
	switch {
	case p.count > 0:
		return time.Duration(p.mean * float64(time.Second))
	case p.all > 0:
		return p.total / time.Duration(p.all)
	}
	return 0
}

// deviation is the standard deviation of the regular gaps.
func (p *pace) deviation() time.Duration {
	if p.count < 2 {
		return 0
	}
	return time.Duration(math.Sqrt(p.m2/float64(p.count-1)) * float64(time.Second))
}

// percentile99 is the length that 99 % of the last regular gaps do not exceed.
func (p *pace) percentile99() time.Duration {
	if len(p.recent) == 0 {
		return 0
	}
	list := slices.Sorted(slices.Values(p.recent))
	return list[(len(list)*99+99)/100-1]
}

// off returns the mean of all gaps if the sender keeps to another interval than it
// advertises, and otherwise 0.
func (p *pace) off() time.Duration {
	if p.all < 10 {
		return 0
	}
	mean := p.total / time.Duration(p.all)
	if (mean-p.interval).Abs() > p.interval/5 && p.count < p.all/2 {
		return mean
	}
	return 0
}
