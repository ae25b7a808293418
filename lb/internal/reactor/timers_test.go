package reactor

import (
	"math/rand/v2"
	"testing"
	"time"
)

// Timers expire as a plain search for the earliest deadline says, whatever is set,
// set again and stopped in between.
func TestTimersAgreeWithASearch(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	durations := []time.Duration{0, 5, 50, 500, 500}
	var ts Timers[int]
	timers := make([]Timer[int], 40)
	since, deadlines := make(map[int]int64), make(map[int]int64)
	now := int64(0)
	for range 20000 {
		i := rnd.IntN(len(timers))
		timers[i].Owner = i
		switch rnd.IntN(4) {
		case 0, 1:
			d := durations[rnd.IntN(len(durations))]
			ts.Set(&timers[i], now, d)
			since[i], deadlines[i] = now, now+int64(d)
		case 2:
			ts.Stop(&timers[i])
			delete(deadlines, i)
		}
		now += int64(rnd.IntN(4))
		next, oldest := Never, Never
		for i, at := range deadlines {
			next, oldest = min(next, at), min(oldest, since[i])
		}
		if got := ts.Next(); got != next {
			t.Fatalf("at %d: next deadline %d, want %d", now, got, next)
		}
		if got := ts.Oldest(); (got == nil) != (oldest == Never) || got != nil && since[got.Owner] != oldest {
			t.Fatalf("at %d: oldest %+v, want one set at %d", now, got, oldest)
		}
		for x := ts.Expired(now); x != nil; x = ts.Expired(now) {
			if at, set := deadlines[x.Owner]; !set || at > now {
				t.Fatalf("at %d: %d expires, which has deadline %d", now, x.Owner, at)
			}
			delete(deadlines, x.Owner)
		}
		for i, at := range deadlines {
			if at <= now {
				t.Fatalf("at %d: %d does not expire, its deadline was %d", now, i, at)
			}
		}
	}
	if len(ts.lists) > len(durations) {
		t.Errorf("%d lists for %d durations", len(ts.lists), len(durations))
	}
}

// Lists of durations that nobody uses any more are used again.
func TestTimersReuseLists(t *testing.T) {
	var ts Timers[int]
	var x Timer[int]
	for d := range time.Duration(1000) {
		ts.Set(&x, 0, d)
	}
	if len(ts.lists) > 2 {
		t.Errorf("%d lists for one timer", len(ts.lists))
	}
}

// Waking before a deadline would be in vain, so milliseconds are rounded up.
func TestMilliseconds(t *testing.T) {
	for d, want := range map[time.Duration]int{-time.Hour: 0, time.Minute: 60000, time.Minute - time.Microsecond: 60000, 5 * time.Hour: 3600000} {
		if got := milliseconds(Now() + int64(d)); got > want || got < want-1000 { // a machine may be busy
			t.Errorf("%v: %d ms, want %d", d, got, want)
		}
	}
	if got := milliseconds(Never); got != -1 {
		t.Errorf("never: %d, want -1", got)
	}
}
