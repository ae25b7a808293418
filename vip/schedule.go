package vip

import (
	"fmt"
	"sync"
	"time"
)

// Schedule says when an address is announced. In each round an IPv4 address is
// announced by Burst ARP requests and as many ARP replies, as some hosts learn
// only from the one and some only from the other, an IPv6 address by twice Burst
// unsolicited neighbour advertisements.
//
// Linux ignores an ARP packet that would change an entry changed less than 1 s
// before (locktime in arp(7)), so one round is never enough.
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

// validate checks s and fills its defaults in.
func (s *Schedule) validate() error {
	if len(s.Rounds) == 0 {
		s.Rounds = []time.Duration{0, 1100 * time.Millisecond, 5 * time.Second}
	}
	if s.Burst == 0 {
		s.Burst = 3
	}
	if s.Burst < 1 || s.Burst > 100 {
		return fmt.Errorf("vip: announce: burst %d: want 1 to 100", s.Burst)
	}
	for i, d := range s.Rounds {
		if d < 0 || i > 0 && d < s.Rounds[i-1] {
			return fmt.Errorf("vip: announce: rounds %v: want delays that grow", s.Rounds)
		}
	}
	if s.Refresh < 0 || s.Refresh > 0 && s.Refresh < time.Second {
		return fmt.Errorf("vip: announce: refresh %v: want 0, or 1s or more", s.Refresh)
	}
	return nil
}

// announcer walks through a Schedule. It reads no clock.
type announcer struct {
	schedule Schedule
	passes   int // announcements of one address in the round under way
	round    int
	began    time.Time // when start was called; zero: never, or stopped since
	due      time.Time // when the round starts; zero: nothing is left to do
	pos      int       // announcements sent in this round
}

// shot is one announcement: the address's place in the list, and whether the
// ARP reply is meant rather than the request.
type shot struct {
	address int
	reply   bool
}

// start begins the first round at now, whatever was left of an earlier start.
func (a *announcer) start(now time.Time) {
	a.began, a.round, a.pos = now, 0, 0
	a.passes = 2 * a.schedule.Burst
	a.due = now.Add(a.schedule.Rounds[0])
}

// stop drops what is left.
func (a *announcer) stop() { a.due, a.began = time.Time{}, time.Time{} }

// next returns the shot that is due at now, for n addresses. Every address has
// its turn before any has its second.
func (a *announcer) next(now time.Time, n int) (shot, bool) {
	if n == 0 {
		a.due = time.Time{} // or the caller would wait for what never comes
	}
	if a.due.IsZero() || now.Before(a.due) {
		return shot{}, false
	}
	return shot{address: a.pos % n, reply: a.pos/n%2 == 1}, true
}

// sent moves on after the shot that next returned.
func (a *announcer) sent(n int) {
	a.pos++
	if a.pos < a.passes*n {
		return
	}
	a.pos, a.round = 0, a.round+1
	switch s := a.schedule; {
	case a.round < len(s.Rounds):
		a.due = a.began.Add(s.Rounds[a.round])
	case s.Refresh > 0:
		a.passes = 2
		a.due = a.due.Add(s.Refresh)
	default:
		a.due = time.Time{}
	}
}

// Announcements of all Managers of a Namespace share a budget: hundreds of
// addresses that arrive at once must neither fill the interface's queue, where
// advertisements wait too, nor trip the rate limits that switches put on ARP.
const (
	announceRate  = 4000 // frames per second
	announceBurst = 256  // frames at once after a pause
)

// limiter is a token bucket in the form of the generic cell rate algorithm.
type limiter struct {
	mu   sync.Mutex
	full time.Time // when the bucket will be full again
}

// take returns 0 and takes a token, or returns how long to wait for one.
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
