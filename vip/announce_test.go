package vip

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

func TestAnnounceSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24"), Announce: Schedule{Burst: 1}})
		if m.Announce(t.Context()); k.sent() != 0 {
			t.Error("an address that is not held is announced")
		}
		acquire(t, m)
		begin := time.Now()
		m.Announce(t.Context())
		if time.Since(begin) != 0 {
			t.Error("Announce waits")
		}
		for _, step := range []struct {
			at     time.Duration
			frames int
		}{{0, 2}, {1090, 2}, {1110, 4}, {4990, 4}, {5010, 6}, {60_000, 6}} {
			time.Sleep(step.at*time.Millisecond - time.Since(begin))
			synctest.Wait()
			if k.sent() != step.frames {
				t.Errorf("after %d ms: %d frames, want %d", step.at, k.sent(), step.frames)
			}
		}
		m.Announce(t.Context())
		m.Release(t.Context())
		k.forget()
		time.Sleep(time.Minute)
		if k.sent() > 1 { // one asks for the successor
			t.Error("the schedule goes on after Release")
		}
	})
}

func TestAnnounceHundreds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		var list []Address
		for i := range 250 {
			list = append(list, Address{Prefix: prefix("10.0.0.1/32")})
			list[i].Prefix = prefix("10.0.0." + strconv.Itoa(i+1) + "/32")
		}
		m := start(t, k, Config{Addresses: list, Announce: Schedule{Burst: 2, Rounds: []time.Duration{0}}})
		acquire(t, m)
		m.Announce(t.Context())
		if k.sent() != announceBurst {
			t.Errorf("%d frames at once, want %d", k.sent(), announceBurst)
		}
		time.Sleep(time.Second)
		if k.sent() != 1000 {
			t.Errorf("%d frames after a second, want all 1000", k.sent())
		}
	})
}

// When the link comes up again, or with another hardware address, neighbours
// must learn anew.
func TestAnnounceAfterLinkChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24"), Announce: Schedule{Burst: 1, Rounds: []time.Duration{0}}})
		acquire(t, m)
		m.Announce(t.Context())
		change1 := func(name string, f func(l *link)) {
			before := k.sent()
			k.mu.Lock()
			f(&k.links[0])
			k.mu.Unlock()
			k.changes <- change{kind: linkChanged, name: "eth0"}
			time.Sleep(100 * time.Millisecond)
			want := 2
			if name == "down" {
				want = 0
			}
			if got := k.sent() - before; got != want {
				t.Errorf("link %s: %d frames, want %d", name, got, want)
			}
		}
		change1("down", func(l *link) { l.up = false })
		change1("up", func(l *link) { l.up = true })
		change1("MAC", func(l *link) { l.mac = []byte{2, 0, 0, 0, 0, 9} })
	})
}

func TestProbe(t *testing.T) {
	tests := map[string]struct {
		answers []time.Duration // after Acquire
		inUse   bool
	}{
		"nobody answers":                {nil, false},
		"a host that is just leaving":   {[]time.Duration{10 * time.Millisecond}, false},
		"a host that stays":             {[]time.Duration{10 * time.Millisecond, 60 * time.Millisecond}, true},
		"a host that missed one":        {[]time.Duration{60 * time.Millisecond}, true},
		"a host that answered too late": {[]time.Duration{200 * time.Millisecond}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newFakeKernel()
				m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24"), Probe: 100 * time.Millisecond})
				for _, at := range tt.answers {
					time.AfterFunc(at, func() {
						k.heard <- sighting{index: 2, addr: netip.MustParseAddr("192.0.2.10"), mac: net.HardwareAddr{2, 0, 0, 0, 0, 9}, time: time.Now()}
					})
				}
				began := time.Now()
				err := m.Acquire(t.Context())
				if errors.Is(err, ErrInUse) != tt.inUse || !tt.inUse && err != nil {
					t.Errorf("Acquire: %v, want in use %v", err, tt.inUse)
				}
				if k.has("192.0.2.10") == tt.inUse {
					t.Errorf("address there: %v", !tt.inUse)
				}
				if took := time.Since(began); !tt.inUse && took != 100*time.Millisecond {
					t.Errorf("Acquire took %v, want the probe's 100 ms", took)
				}
				if k.sent() != 2 {
					t.Errorf("%d probes sent, want 2", k.sent())
				}
				began = time.Now()
				if m.Status().Held && (m.Acquire(t.Context()) != nil || time.Since(began) > 0) {
					t.Error("an address that is held is probed for")
				}
			})
		})
	}
}

func TestProbeEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24"), Probe: time.Second})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := m.Acquire(ctx); !errors.Is(err, context.DeadlineExceeded) || k.has("192.0.2.10") {
			t.Errorf("Acquire: %v, want the context's error", err)
		}
	})
}
