package vip

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/havip/havip/internal/field"
)

// Schedule says when an address is announced. A round announces an IPv4 address by Burst
// ARP requests and as many ARP replies, because some hosts learn only from requests and
// others only from replies. An IPv6 address gets twice Burst unsolicited neighbour
// advertisements.
//
// Linux does not change an ARP entry twice within 1 s (locktime in arp(7)), so one round is
// never enough.
type Schedule struct {
	// Rounds are the delays after Announce. Default: 0, 1.1 s and 5 s.
	Rounds []time.Duration
	// Burst is the number of pairs of frames for each address in a round, 1 to
	// 100. Default 3.
	Burst int
	// Refresh is the time between further rounds, of one pair for each address,
	// for as long as the addresses are held. 0: none.
	Refresh time.Duration
}

// withDefaults returns s with its zero fields filled in.
func (s Schedule) withDefaults() Schedule {
	if len(s.Rounds) == 0 {
		s.Rounds = []time.Duration{0, 1100 * time.Millisecond, 5 * time.Second}
	}
	s.Burst = cmp.Or(s.Burst, 3)
	return s
}

// validate checks a schedule whose defaults are filled in.
func (s Schedule) validate() error {
	rare := s.Refresh == 0 || s.Refresh >= time.Second && s.Refresh <= 24*time.Hour
	return errors.Join(
		field.If(s.Rounds[0] < 0 || !slices.IsSorted(s.Rounds), "Rounds", "%v: want delays that grow", s.Rounds),
		field.Between("Burst", s.Burst, 1, 100),
		field.If(!rare, "Refresh", "%s: want 0s, or 1s to 24h", field.Span(s.Refresh)))
}

// Times of rounds that are asked for beside the schedule.
const (
	// roundGap is the least time between such a round and any other round.
	roundGap = time.Second
	// locktime is how long Linux keeps an ARP entry as it is (locktime in arp(7)), and
	// some more.
	locktime = 1100 * time.Millisecond
	// disputeGap is the time between rounds while a dispute lasts.
	disputeGap = 5 * time.Second
	// disputeOver: a dispute is over when no round was asked for during this time.
	disputeOver = disputeGap + roundGap
	// newcomerRounds is in how many rounds a host announces an address that it takes.
	newcomerRounds = 3
)

// announcer carries out a Schedule, and the rounds that are asked for beside it. It reads
// no clock.
type announcer struct {
	schedule Schedule
	rounds   []round   // to come, the earliest first
	began    time.Time // the latest start; zero: never, or stopped since
	last     time.Time // when the latest full round was due
	answered time.Time // the latest answer
	answers  int       // in this dispute
	pos      int       // announcements sent in the first of rounds
}

// round is when a round starts, and how many announcements of each address it has.
type round struct {
	at     time.Time
	passes int
}

// shot is one announcement: the index of the address in the list, and whether to send the
// ARP reply or the request.
type shot struct {
	address int
	reply   bool
}

// start begins the schedule at now, and drops the rounds of an earlier start.
func (a *announcer) start(now time.Time) {
	a.began, a.pos, a.rounds = now, 0, a.rounds[:0]
	for _, after := range a.schedule.Rounds {
		a.rounds = append(a.rounds, round{now.Add(after), 2 * a.schedule.Burst})
	}
}

// again is start for addresses that may have been announced just now. Calls that follow
// one another within seconds, as while the link is split, get one round each.
func (a *announcer) again(now time.Time) {
	if a.began.IsZero() || now.Sub(a.latest(now)) >= disputeOver {
		a.start(now)
		return
	}
	a.add(a.soonest(now))
}

// answer contradicts another host's claim: at once, for neighbours that believe the host
// that they heard last, and after locktime, for those that believe the one that they heard
// first. After newcomerRounds answers the other host contradicts in turn, and there is one
// answer each disputeGap.
func (a *announcer) answer(now time.Time) {
	if a.answered.IsZero() || now.Sub(a.answered) >= disputeOver {
		a.answers = 0
	}
	a.answers++
	a.answered = now
	if a.answers <= newcomerRounds {
		at := a.soonest(now)
		a.add(at)
		a.add(later(now, at).Add(locktime))
		return
	}
	if latest := a.latest(now); latest.Before(now.Add(roundGap)) { // that round may fall into locktime
		a.add(later(now.Add(locktime), latest.Add(disputeGap)))
	}
}

// soonest returns when a full round that is asked for at now may start: not within roundGap
// after the last one. If a full round is due, and has not started, that round will do.
func (a *announcer) soonest(now time.Time) time.Time {
	for i, r := range slices.Backward(a.rounds) {
		if r.passes == 2*a.schedule.Burst && !r.at.After(now) && (i > 0 || a.pos == 0) {
			return r.at
		}
	}
	return later(now, a.last.Add(roundGap))
}

// latest returns when the last full round of those to come starts, or when the last one
// was due.
func (a *announcer) latest(now time.Time) time.Time {
	at := a.last
	for _, r := range a.rounds {
		if r.passes == 2*a.schedule.Burst {
			at = r.at
		}
	}
	return at
}

// add adds a full round. If it comes within roundGap after another one, it is put off until
// locktime after that. Likewise a round that comes within roundGap after the new one.
func (a *announcer) add(at time.Time) {
	full := 2 * a.schedule.Burst
	for _, r := range a.rounds {
		if gap := at.Sub(r.at); r.passes == full && gap > 0 && gap < roundGap {
			at = r.at.Add(locktime)
		}
	}
	if i := slices.IndexFunc(a.rounds, func(r round) bool {
		return r.passes == full && !r.at.Before(at) && r.at.Sub(at) < roundGap
	}); i >= 0 {
		if a.rounds[i].at.After(at) {
			a.rounds = slices.Delete(a.rounds, i, i+1)
			a.insert(round{at, full})
			a.add(at.Add(locktime))
		}
		return
	}
	a.insert(round{at, full})
}

// insert puts a round where it belongs.
func (a *announcer) insert(next round) {
	i := slices.IndexFunc(a.rounds, func(r round) bool { return r.at.After(next.at) })
	switch {
	case i < 0:
		i = len(a.rounds)
	case i == 0 && a.pos > 0:
		i = 1
	}
	a.rounds = slices.Insert(a.rounds, i, next)
}

// stop drops all rounds.
func (a *announcer) stop() {
	a.rounds, a.pos = a.rounds[:0], 0
	a.began, a.last, a.answered = time.Time{}, time.Time{}, time.Time{}
}

// due returns when the next round starts, or did; zero: there is none.
func (a *announcer) due() time.Time {
	if len(a.rounds) == 0 {
		return time.Time{}
	}
	return a.rounds[0].at
}

// next returns the shot that is due at now, for n addresses. Each address has its first
// turn before any has its second.
func (a *announcer) next(now time.Time, n int) (shot, bool) {
	if n == 0 {
		a.rounds = a.rounds[:0] // else due would stay in the past
	}
	if len(a.rounds) == 0 || now.Before(a.rounds[0].at) {
		return shot{}, false
	}
	return shot{address: a.pos % n, reply: a.pos/n%2 == 1}, true
}

// sent takes note that the shot of next was sent.
func (a *announcer) sent(n int) {
	done := a.rounds[0]
	if done.passes == 2*a.schedule.Burst {
		a.last = done.at
	}
	a.pos++
	if a.pos < done.passes*n {
		return
	}
	a.pos, a.rounds = 0, slices.Delete(a.rounds, 0, 1)
	if refresh := a.schedule.Refresh; refresh > 0 && len(a.rounds) == 0 {
		a.rounds = append(a.rounds, round{done.at.Add(refresh), 2})
	}
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// All Managers of a Namespace share a budget of announcements: hundreds of addresses that
// are acquired at once must neither fill the interface's queue, where advertisements wait
// too, nor exceed the rate limits that switches have for ARP.
const (
	announceRate  = 4000 // frames per second
	announceBurst = 256  // frames at once after a pause
)

// limiter is a token bucket in the form of the generic cell rate algorithm.
type limiter struct {
	mu   sync.Mutex
	full time.Time // when the bucket will be full again
}

// take takes a token and returns 0, or returns how long to wait for the next one.
func (l *limiter) take(now time.Time) time.Duration {
	const each = time.Second / announceRate
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.full.Before(now) {
		l.full = now
	}
	if wait := l.full.Add(each).Sub(now) - announceBurst*each; wait > 0 {
		return wait
	}
	l.full = l.full.Add(each)
	return 0
}
