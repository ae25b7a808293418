package vip

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// timedShot is a shot and when it was made, in milliseconds.
type timedShot struct {
	At      int
	Address int
	Reply   bool
}

// play runs an announcer for n addresses until the time is over.
func play(a *announcer, n int, until time.Duration) []timedShot {
	start := time.Unix(1000, 0)
	a.start(start)
	var out []timedShot
	for at := time.Duration(0); at <= until; at += 100 * time.Millisecond {
		for {
			s, ok := a.next(start.Add(at), n)
			if !ok {
				break
			}
			out = append(out, timedShot{int(at.Milliseconds()), s.address, s.reply})
			a.sent(n)
		}
	}
	return out
}

func TestAnnouncer(t *testing.T) {
	tests := map[string]struct {
		schedule Schedule
		n        int
		until    time.Duration
		want     []timedShot
	}{
		"defaults, one address": {
			Schedule{Burst: 1}, 1, time.Minute,
			[]timedShot{
				{0, 0, false}, {0, 0, true},
				{1100, 0, false}, {1100, 0, true},
				{5000, 0, false}, {5000, 0, true},
			},
		},
		"every address has its turn before any has its second": {
			Schedule{Burst: 2, Rounds: []time.Duration{0}}, 3, time.Minute,
			[]timedShot{
				{0, 0, false}, {0, 1, false}, {0, 2, false}, {0, 0, true}, {0, 1, true}, {0, 2, true},
				{0, 0, false}, {0, 1, false}, {0, 2, false}, {0, 0, true}, {0, 1, true}, {0, 2, true},
			},
		},
		"refresh sends one frame of each kind, for ever": {
			Schedule{Burst: 2, Rounds: []time.Duration{0}, Refresh: 2 * time.Second}, 1, 5 * time.Second,
			[]timedShot{
				{0, 0, false}, {0, 0, true}, {0, 0, false}, {0, 0, true},
				{2000, 0, false}, {2000, 0, true},
				{4000, 0, false}, {4000, 0, true},
			},
		},
		"first round later": {
			Schedule{Burst: 1, Rounds: []time.Duration{300 * time.Millisecond}}, 1, time.Minute,
			[]timedShot{{300, 0, false}, {300, 0, true}},
		},
		"no addresses": {Schedule{Burst: 1}, 0, time.Minute, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.schedule = tt.schedule.withDefaults()
			a := announcer{schedule: tt.schedule}
			if diff := cmp.Diff(tt.want, play(&a, tt.n, tt.until)); diff != "" {
				t.Errorf("shots (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnnouncerStopAndRestart(t *testing.T) {
	a := announcer{schedule: Schedule{Burst: 1, Rounds: []time.Duration{0, time.Second}}}
	now := time.Unix(1000, 0)
	a.start(now)
	a.sent(1)
	a.stop()
	if s, ok := a.next(now.Add(time.Hour), 1); ok {
		t.Errorf("stopped announcer wants %+v", s)
	}
	if got := len(play(&a, 1, time.Minute)); got != 4 {
		t.Errorf("restarted announcer made %d shots, want 4: the whole schedule", got)
	}
}

// TestAnnouncerAgain: what is asked for every few seconds is one round each, what is
// asked for after a while the whole schedule.
func TestAnnouncerAgain(t *testing.T) {
	const ms = time.Millisecond
	begin := time.Unix(1000, 0)
	for name, tt := range map[string]struct {
		asked []time.Duration // since the start
		want  []int           // rounds, in milliseconds since then
	}{
		"once":                         {nil, []int{0, 1100, 5000}},
		"at the same moment":           {[]time.Duration{0}, []int{0, 1100, 5000}},
		"every second":                 {[]time.Duration{1000 * ms, 2000 * ms, 3000 * ms}, []int{0, 1000, 2000, 3000, 4100, 5200}},
		"faster than every second":     {[]time.Duration{1200 * ms, 1300 * ms, 1400 * ms}, []int{0, 1100, 2100, 5000}},
		"every five seconds":           {[]time.Duration{5000 * ms, 10000 * ms, 15000 * ms}, []int{0, 1100, 5000, 10000, 15000}},
		"when all had been quiet long": {[]time.Duration{20000 * ms}, []int{0, 1100, 5000, 20000, 21100, 25000}},
	} {
		t.Run(name, func(t *testing.T) {
			a := announcer{schedule: Schedule{Burst: 1}}
			a.schedule = a.schedule.withDefaults()
			a.again(begin)
			var got []int
			for at := time.Duration(0); at <= time.Minute; at += 100 * ms {
				if slices.Contains(tt.asked, at) {
					a.again(begin.Add(at))
				}
				for n := 0; ; n++ {
					if _, ok := a.next(begin.Add(at), 1); !ok {
						break
					}
					if a.sent(1); n%2 == 0 {
						got = append(got, int(at/ms))
					}
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("rounds (-want +got):\n%s", diff)
			}
		})
	}
}

// A takeover with hundreds of addresses must not put all frames on the wire at
// once: what passes in any second is the bucket and the rate at most.
func TestLimiter(t *testing.T) {
	var l limiter
	start := time.Unix(1000, 0)
	now, sent := start, 0
	for now.Sub(start) < time.Second {
		if wait := l.take(now); wait > 0 {
			now = now.Add(wait)
			continue
		}
		sent++
	}
	if want := announceBurst + announceRate; sent < want-1 || sent > want+1 {
		t.Errorf("%d frames in a second, want %d", sent, want)
	}
	now = now.Add(time.Minute)
	for i := range announceBurst {
		if l.take(now) > 0 {
			t.Fatalf("frame %d after a pause has to wait", i)
		}
	}
	if l.take(now) == 0 {
		t.Error("the bucket has no bottom")
	}
}
