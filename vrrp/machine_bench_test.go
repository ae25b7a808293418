package vrrp

import (
	"net/netip"
	"testing"
	"time"
)

// hotSteps are the steps that a busy router takes again and again.
func hotSteps(t testing.TB) map[string]func() {
	steps := make(map[string]func())
	cfg := Config{VRID: 51, Priority: 100, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
		Source: netip.MustParseAddr("192.0.2.10")}
	add := func(name string, start State, step func(m *Machine, now time.Time)) {
		m, err := NewMachine(cfg)
		if err != nil {
			t.Fatal(err)
		}
		now := epoch
		m.Start(now)
		for m.State() != start {
			now, _ = m.Deadline()
			m.Tick(now)
		}
		steps[name] = func() {
			now = now.Add(time.Second)
			step(m, now)
			if m.State() != start {
				t.Fatalf("%s: state %v, want %v", name, m.State(), start)
			}
		}
	}
	adv := &Advertisement{Source: netip.MustParseAddr("192.0.2.20"), Version: 3, VRID: 51, Interval: time.Second}
	higher, lower := *adv, *adv
	higher.Priority, lower.Priority = 150, 50
	add("backup receives", Backup, func(m *Machine, now time.Time) { m.Receive(now, &higher) })
	add("active advertises", Active, func(m *Machine, now time.Time) { m.Tick(now) })
	add("active reasserts", Active, func(m *Machine, now time.Time) { m.Tick(now); m.Receive(now, &lower) })
	add("take-over and back", Backup, func(m *Machine, now time.Time) {
		m.Tick(m.timer)
		m.Receive(m.now, &higher)
	})
	return steps
}

func TestMachineAllocs(t *testing.T) {
	for name, step := range hotSteps(t) {
		if n := testing.AllocsPerRun(100, step); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
}

func BenchmarkMachine(b *testing.B) {
	for name, step := range hotSteps(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				step()
			}
		})
	}
}

// A group's routers settle after every packet.
func TestGroupAllocs(t *testing.T) {
	tm := pair(t)
	r := tm.rigs[0]
	adv := &Advertisement{Source: netip.MustParseAddr("192.0.2.20"), Version: 3, Priority: 50, Interval: time.Second}
	if n := testing.AllocsPerRun(100, func() {
		r.now, _ = r.m.Deadline()
		r.m.Tick(r.now)
		tm.g.settle(r.now)
		r.m.Receive(r.now, adv)
		tm.g.settle(r.now)
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
	if r.m.State() != Active {
		t.Errorf("state %v", r.m.State())
	}
}
