package vip

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestStep(t *testing.T) {
	now := time.Unix(1000, 0)
	soon, never := now.Add(time.Second), time.Time{}
	yes, no := func() bool { return true }, func() bool { return false }
	fresh := lease{lifetime: 4 * time.Second}.from(now)
	due, over := fresh.from(now.Add(-time.Second)), fresh.from(now.Add(-4*time.Second))
	for name, tt := range map[string]struct {
		o    observed
		want []op
		next time.Time
	}{
		"the first look":               {observed{lookAt: now}, []op{opReconcile}, now},
		"nothing to do":                {observed{lookAt: soon}, nil, soon},
		"ended":                        {observed{ended: true, held: true, lookAt: now, lease: over, entitled: no}, nil, never},
		"held":                         {observed{held: true, lookAt: soon.Add(1), lease: fresh}, []op{opAnnounce}, soon},
		"held without a lease":         {observed{held: true, lookAt: soon}, []op{opAnnounce}, soon},
		"a look":                       {observed{held: true, lookAt: now, lease: fresh}, []op{opReconcile, opAnnounce}, now},
		"a renewal":                    {observed{held: true, lookAt: soon, lease: due}, []op{opRenew, opAnnounce}, now},
		"a look before a renewal":      {observed{held: true, lookAt: now, lease: due}, []op{opReconcile, opRenew, opAnnounce}, now},
		"an old lease, nothing held":   {observed{lookAt: soon, lease: over, entitled: no}, nil, soon},
		"the lease is over":            {observed{held: true, lookAt: soon, lease: over, entitled: no}, []op{opLose}, now.Add(-3 * time.Second)},
		"over, and entitled":           {observed{held: true, lookAt: soon, lease: over, entitled: yes}, []op{opReconcile, opRenew, opAnnounce}, now.Add(-3 * time.Second)},
		"over, and about to be lost":   {observed{held: true, lookAt: now, lease: over, entitled: no}, []op{opLose}, now.Add(-3 * time.Second)},
		"something else comes before":  {observed{lookAt: soon, judgeAt: now.Add(6), pursueAt: now.Add(5)}, nil, now.Add(5)},
		"an announcement":              {observed{held: true, lookAt: soon, roundAt: now.Add(5)}, []op{opAnnounce}, now.Add(5)},
		"an announcement, not held":    {observed{lookAt: soon, roundAt: now.Add(5)}, nil, soon},
		"a claim":                      {observed{held: true, lookAt: soon, judgeAt: now}, []op{opJudge, opAnnounce}, now},
		"a successor":                  {observed{lookAt: soon, pursueAt: now}, []op{opPursue}, now},
		"a claim as the lease is over": {observed{held: true, judgeAt: now, lookAt: now, lease: over, entitled: no}, []op{opJudge, opLose}, now.Add(-3 * time.Second)},
	} {
		if got := step(now, tt.o); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
		if got := tt.o.next(); !tt.o.ended && !got.Equal(tt.next) {
			t.Errorf("%s: next at %v, want %v", name, got.Sub(now), tt.next.Sub(now))
		}
	}
}

func TestLeaseValue(t *testing.T) {
	now := time.Unix(1000, 0)
	at := func(d time.Duration) time.Time { return now.Add(d) }
	l := lease{lifetime: 4 * time.Second}.from(now)
	if l.renewalDue() != at(time.Second) || *l.doubtful() != at(3500*time.Millisecond) {
		t.Errorf("renewal due at %v, doubtful from %v, want after 1s and 3.5s", l.renewalDue(), l.doubtful())
	}
	for after, over := range map[time.Duration]bool{0: false, 4*time.Second - slack - 1: false, 4*time.Second - slack: true, time.Hour: true} {
		if l.over(at(after)) != over {
			t.Errorf("over after %v: %v, want %v", after, !over, over)
		}
	}
	if none := (lease{}).from(now); none.over(at(time.Hour)) || none.doubtful() != nil || !none.renewalDue().IsZero() {
		t.Error("no lease is renewed, or ends")
	}
	tried := l
	tried.renewAt = at(3900 * time.Millisecond) // retries went on
	for _, tt := range []struct {
		lease lease
		why   bool
	}{{l, true}, {tried, false}} {
		err := tt.lease.lapse("VI_1", at(4*time.Second))
		if !errors.Is(err, ErrLapsed) || strings.Contains(err.Error(), "did not run") != tt.why || !strings.HasPrefix(err.Error(), "vip: VI_1: not renewed for 4s") {
			t.Errorf("lapse: %v, want one that blames the process: %v", err, tt.why)
		}
	}
}
