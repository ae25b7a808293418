package vip

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestDisputeRounds: whatever is asked for beside the schedule, and however late the
// frames go out, rounds are a roundGap apart, and few when it lasts.
func TestDisputeRounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		begin := time.Unix(1000, 0)
		a := announcer{schedule: Schedule{Burst: 3, Rounds: []time.Duration{0}}}
		if rapid.Bool().Draw(t, "default schedule") {
			a.schedule.Rounds = nil
		}
		if rapid.Bool().Draw(t, "refresh") {
			a.schedule.Refresh = rapid.SampledFrom([]time.Duration{time.Second, 1500 * time.Millisecond, 10 * time.Second}).Draw(t, "every")
		}
		a.schedule = a.schedule.withDefaults()
		mode := rapid.SampledFrom([]string{"answer", "again", "both"}).Draw(t, "mode")
		var rounds []time.Duration
		now := begin
		a.start(now)
		pause := rapid.IntRange(1, 1500).Draw(t, "pause")
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			if mode == "answer" || mode == "both" && rapid.Bool().Draw(t, "which") {
				a.answer(now)
			} else {
				a.again(now)
			}
			if !slices.IsSortedFunc(a.rounds, func(x, y round) int { return x.at.Compare(y.at) }) || len(a.rounds) > 8 {
				t.Fatalf("rounds %v are left", a.rounds)
			}
			late := rapid.IntRange(0, 9).Draw(t, "no budget") == 0
			now = now.Add(time.Duration(rapid.IntRange(1, pause).Draw(t, "wait")) * time.Millisecond)
			for !late {
				if _, ok := a.next(now, 1); !ok {
					break
				}
				if a.pos == 0 && a.rounds[0].passes == 6 {
					rounds = append(rounds, a.rounds[0].at.Sub(begin))
				}
				a.sent(1)
			}
		}
		for i := 1; i < len(rounds); i++ {
			if gap := rounds[i] - rounds[i-1]; gap < roundGap {
				t.Fatalf("%v apart: %v", gap, rounds)
			} else if mode == "answer" && rounds[i-1] > 10*time.Second && gap < disputeGap {
				t.Fatalf("%v apart, after 10s: %v", gap, rounds)
			}
		}
	})
}
