package vip

import (
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/havip/havip/internal/lab/labtest"
)

var rivalMAC = net.HardwareAddr{2, 0, 0, 0, 0, 9}

// claims has the fake kernel hear that a host claims an address.
func (k *fakeKernel) claims(index int, addr string, mac net.HardwareAddr) {
	synctest.Wait() // what is due now comes first
	k.heard <- sighting{index: index, addr: netip.MustParseAddr(addr), mac: mac, time: time.Now()}
	synctest.Wait()
}

// answers has it hear that a host says so to this one only.
func (k *fakeKernel) answers(index int, addr string, mac net.HardwareAddr) {
	synctest.Wait() // what is due now comes first
	k.heard <- sighting{index: index, addr: netip.MustParseAddr(addr), mac: mac, time: time.Now(), aside: true}
	synctest.Wait()
}

// probes has it hear that a host is about to claim an address.
func (k *fakeKernel) probes(index int, addr string, mac net.HardwareAddr) {
	synctest.Wait() // what is due now comes first
	k.heard <- sighting{index: index, addr: netip.MustParseAddr(addr), mac: mac, time: time.Now(), probe: true}
	synctest.Wait()
}

// TestConflict: claims of another host are counted and reported, one a second for
// each address, and nothing else is.
func TestConflict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		var reports []Conflict
		m := start(t, k, Config{
			Addresses:  addrs(t, "192.0.2.10/24"),
			OnConflict: func(c Conflict) { reports = append(reports, c) },
		})
		k.claims(2, "192.0.2.10", rivalMAC) // not held: the other host's good right
		acquire(t, m)
		k.claims(2, "192.0.2.10", testMAC)  // our own, come back
		k.claims(3, "192.0.2.10", rivalMAC) // another link
		k.claims(2, "192.0.2.11", rivalMAC) // another address
		k.probes(2, "192.0.2.10", rivalMAC) // only a question
		k.claims(2, "192.0.2.10", rivalMAC) // the predecessor's, in a hand-over
		time.Sleep(takeoverTime)
		synctest.Wait()
		if len(reports) != 0 || m.Status().Conflicts != 0 {
			t.Fatalf("reports %+v, want none", reports)
		}
		for range 5 {
			k.claims(2, "192.0.2.10", rivalMAC)
			time.Sleep(300 * time.Millisecond)
		}
		synctest.Wait()
		want := Conflict{Address: netip.MustParseAddr("192.0.2.10"), MAC: rivalMAC, Interface: "eth0"}
		if len(reports) != 2 || m.Status().Conflicts != 5 {
			t.Fatalf("%d reports of %d conflicts, want 2 of 5: one a second", len(reports), m.Status().Conflicts)
		}
		if last := m.Status().LastConflict; last.Address != reports[1].Address || last.MAC.String() != reports[1].MAC.String() || last.Time.Before(reports[1].Time) {
			t.Errorf("the last conflict is %+v, want one like %+v", last, reports[1])
		}
		if got := reports[0]; got.Address != want.Address || got.MAC.String() != rivalMAC.String() || got.Interface != "eth0" || got.Time.IsZero() {
			t.Errorf("report %+v, want %+v with a time", got, want)
		}
	})
}

// TestConflictIsLogged: one that goes on is in the log when it begins and every ten
// minutes, and one that comes back is there again. The line names the router as other
// packages do, and what else is known of the other host, and counts since the last one.
func TestConflictIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		k.others = map[string][]netip.Addr{rivalMAC.String(): {netip.MustParseAddr("192.0.2.3"), netip.MustParseAddr("192.0.2.10")}}
		var log labtest.Log
		m := start(t, k, Config{Name: "VI_1", Addresses: addrs(t, "192.0.2.10/24", "192.0.2.11/24"), Logger: slog.New(slog.NewTextHandler(&log, nil))})
		acquire(t, m)
		time.Sleep(time.Minute)
		said := func(what string, want int) {
			t.Helper()
			synctest.Wait()
			line := "level=ERROR msg=\"another host claims an address that is held here\" router=VI_1 address=192.0.2.10 mac=" + rivalMAC.String() + " interface=eth0 host=[192.0.2.3] "
			if got := strings.Count(log.String(), line); got != want {
				t.Errorf("%s: %d lines, want %d:\n%s", what, got, want, log.String())
			}
		}
		dispute := func(d time.Duration) {
			for until := time.Now().Add(d); time.Now().Before(until); time.Sleep(5 * time.Second) {
				k.claims(2, "192.0.2.10", rivalMAC)
				k.claims(2, "192.0.2.11", rivalMAC)
			}
		}
		dispute(9 * time.Minute)
		said("within ten minutes", 1)
		dispute(16 * time.Minute)
		said("within half an hour", 3)
		time.Sleep(2 * time.Minute)
		dispute(10 * time.Second)
		said("another one", 4)
		var times []string
		for line := range strings.Lines(log.String()) {
			if _, n, ok := strings.Cut(line, " times="); ok && strings.Contains(line, "address=192.0.2.10 ") {
				times = append(times, strings.TrimSpace(n))
			}
		}
		if want := []string{"1", "120", "120", "60"}; !slices.Equal(times, want) { // every 5 seconds
			t.Errorf("the lines count %v claims of the address, want %v", times, want)
		}
	})
}

// TestConflictNamesFew: of a host that has hundreds of addresses a line has some.
func TestConflictNamesFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		for i := range byte(200) {
			k.others = map[string][]netip.Addr{rivalMAC.String(): append(k.others[rivalMAC.String()], netip.AddrFrom4([4]byte{198, 51, 100, i}))}
		}
		var log labtest.Log
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24"), Logger: slog.New(slog.NewTextHandler(&log, nil))})
		acquire(t, m)
		time.Sleep(time.Minute)
		k.claims(2, "192.0.2.10", rivalMAC)
		time.Sleep(time.Second)
		if n := strings.Count(log.String(), "198.51.100."); n != maxKnown {
			t.Errorf("%d addresses, want %d:\n%s", n, maxKnown, log.String())
		}
	})
}

// TestHandOverIsNoConflict: what the successor claims while this host lets go, or
// may have to, is neither reported nor contradicted.
func TestHandOverIsNoConflict(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, m *Manager, entitled *atomic.Bool){
		"released a moment later": func(t *testing.T, m *Manager, _ *atomic.Bool) {
			time.Sleep(verdictTime - time.Millisecond)
			if err := m.Release(t.Context()); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Second)
			acquire(t, m) // what is past does not count for what comes
		},
		"not entitled any more": func(_ *testing.T, _ *Manager, entitled *atomic.Bool) { entitled.Store(false) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newFakeKernel()
				var entitled atomic.Bool
				entitled.Store(true)
				m := start(t, k, Config{
					Addresses:  addrs(t, "192.0.2.10/24"),
					Entitled:   entitled.Load,
					OnConflict: func(c Conflict) { t.Errorf("reported: %+v", c) },
				})
				acquire(t, m)
				time.Sleep(time.Minute)
				k.claims(2, "192.0.2.10", rivalMAC)
				end(t, m, &entitled)
				time.Sleep(time.Minute)
				if n := k.sent(); n != 0 || m.Status().Conflicts != 0 {
					t.Errorf("%d frames sent, %d conflicts, want none", n, m.Status().Conflicts)
				}
			})
		})
	}
}

// TestClaimIsContradicted: who claims an address that is held here is contradicted
// soon, and when no neighbour ignores that any more.
func TestClaimIsContradicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24"), Announce: Schedule{Burst: 1}})
		acquire(t, m)
		time.Sleep(time.Minute)
		k.claims(2, "192.0.2.10", rivalMAC)
		for _, step := range []struct {
			after time.Duration
			sent  int
		}{{verdictTime - 1, 0}, {1, 2}, {locktime - 1, 2}, {1, 4}, {time.Minute, 4}} {
			time.Sleep(step.after)
			synctest.Wait()
			if got := k.sent(); got != step.sent {
				t.Fatalf("%d frames sent, want %d", got, step.sent)
			}
		}
	})
}

// TestNewcomerIsContradicted: so is each round in which a host that takes an address
// claims it: the neighbours believe the last one as long as they can.
func TestNewcomerIsContradicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24"), Announce: Schedule{Burst: 1}})
		acquire(t, m)
		time.Sleep(time.Minute)
		for range 2 { // the next one is none of the same dispute
			begin := time.Now()
			for _, at := range m.cfg.Announce.Rounds {
				time.Sleep(time.Until(begin.Add(at)))
				k.claims(2, "192.0.2.10", rivalMAC)
				time.Sleep(verdictTime - 1)
				k.forget()
				time.Sleep(time.Nanosecond)
				if synctest.Wait(); k.sent() != 2 {
					t.Errorf("the claim after %v is not contradicted", at)
				}
			}
			time.Sleep(time.Minute)
		}
	})
}

// TestNewcomerDoesNotContradict: a host that contradicts as soon as the addresses are
// held here had them before. It is reported and left alone until they are acquired
// anew, and nobody else is.
func TestNewcomerDoesNotContradict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24"), Announce: Schedule{Burst: 1}})
		contradicted := func(mac net.HardwareAddr) bool {
			sent := k.sent()
			k.claims(2, "192.0.2.10", mac)
			time.Sleep(time.Minute)
			return k.sent() > sent
		}
		acquire(t, m)
		time.Sleep(elderTime - 1)
		for range 3 {
			if contradicted(rivalMAC) {
				t.Error("a newcomer contradicts")
			}
		}
		if got := m.Status().Conflicts; got != 3 {
			t.Errorf("%d conflicts, want 3", got)
		}
		if !contradicted(net.HardwareAddr{2, 0, 0, 0, 0, 8}) {
			t.Error("one that came even later is not contradicted")
		}
		if err := m.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		acquire(t, m)
		time.Sleep(elderTime)
		if !contradicted(rivalMAC) {
			t.Error("what was before the addresses were acquired still counts")
		}
	})
}

// TestDisputeIsBounded: who claims an address without end is answered every five
// seconds, and once more when nobody ignores that any more after the last claim,
// whenever that was.
func TestDisputeIsBounded(t *testing.T) {
	for more := range 12 {
		synctest.Test(t, func(t *testing.T) {
			k := newFakeKernel()
			m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24"), Announce: Schedule{Burst: 1}})
			acquire(t, m)
			time.Sleep(time.Minute)
			const step = 100 * time.Millisecond
			var rounds []time.Time
			pass := func() {
				if n := k.sent() / 2; n != len(rounds) {
					rounds = append(rounds, time.Now())
				}
				time.Sleep(step)
			}
			var claimed time.Time
			for range 600 + 5*more {
				claimed = time.Now()
				k.claims(2, "192.0.2.10", rivalMAC)
				pass()
			}
			disputed := len(rounds)
			for range 200 {
				pass()
			}
			if disputed < 60/5 || disputed > 2+65/5+1 {
				t.Errorf("%d rounds in a minute", disputed)
			}
			for i := range rounds[1:] {
				if d := rounds[i+1].Sub(rounds[i]); d < roundGap {
					t.Errorf("a round %v after the last one", d)
				}
			}
			if d := rounds[len(rounds)-1].Sub(claimed); d < roundGap || d > disputeGap+locktime+verdictTime+step {
				t.Errorf("the last word came %v after the last claim", d)
			}
		})
	}
}
