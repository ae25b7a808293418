package lb

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestSlowStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, PoolConfig{Backends: backends(1, 1), SlowStart: 10 * time.Second})
		share := func() float64 {
			return float64(strings.Count(picks(t, p, 4000), "a")) / 4000
		}
		if s := share(); s != 0.5 {
			t.Errorf("at process start the share is %.2f, want 0.5", s)
		}
		p.SetHealth("a", errDown)
		p.SetHealth("a", nil)
		last := 0.0
		for second := range 10 {
			s := share()
			// Of the picks that are a's turn the fraction second/10 passes.
			pass := max(0.01, float64(second)/10)
			if want := pass / (1 + pass); s < want-0.06 || s > want+0.06 {
				t.Errorf("after %d s the share is %.3f, want about %.3f", second, s, want)
			}
			last = s
			time.Sleep(time.Second)
		}
		if s := share(); s != 0.5 || last >= 0.5 {
			t.Errorf("at the end the share is %.2f (before: %.2f), want 0.5", s, last)
		}
		if n := p.restless.Load(); n != 0 {
			t.Errorf("restless = %d after slow start", n)
		}
	})
}

// Whatever the balancer, halfway through slow start one of ten has half of the share
// that it will have.
func TestSlowStartOfEachBalancer(t *testing.T) {
	for _, balance := range []Balance{RoundRobin, LeastConn, PowerOfTwo, Random} {
		synctest.Test(t, func(t *testing.T) {
			p := newPool(t, PoolConfig{Balance: balance, Backends: backends(1, 1, 1, 1, 1, 1, 1, 1, 1, 1), SlowStart: 10 * time.Second})
			p.SetHealth("a", errDown)
			for range 90 { // about ten connections for each of the others
				if _, err := p.Pick(new(Flow)); err != nil {
					t.Fatal(err)
				}
			}
			p.SetHealth("a", nil)
			time.Sleep(5 * time.Second)
			if slack := map[Balance]int64{LeastConn: 1, PowerOfTwo: 9}[balance]; slack > 0 {
				for range 100 {
					if _, err := p.Pick(new(Flow)); err != nil {
						t.Fatal(err)
					}
				}
				if n := p.find("a").active.Load(); n < 10-slack || n > 10+slack {
					t.Errorf("%s: %d of 190 connections, want about 10", balance, n)
				}
			}
			// Without load.
			for _, m := range p.snap.Load().all {
				m.active.Store(0)
			}
			share := float64(strings.Count(picks(t, p, 10000), "a")) / 10000
			if share < 0.035 || share > 0.07 {
				t.Errorf("%s: %.3f of the picks, want about 0.05", balance, share)
			}
		})
	}
}

// A client moves to a backend in slow start once, and stays.
func TestSlowStartOfHashes(t *testing.T) {
	for _, balance := range []Balance{SourceHash, KeyHash, Maglev} {
		synctest.Test(t, func(t *testing.T) {
			p := newPool(t, PoolConfig{Balance: balance, Backends: backends(1, 1, 1), SlowStart: 10 * time.Second})
			const n = 3000
			where := func() []string { return where(t, p, n) }
			whole := where()
			p.SetHealth("a", errDown)
			last := where()
			p.SetHealth("a", nil)
			for second := range 11 {
				now := where()
				if !slices.Equal(now, where()) {
					t.Fatalf("%s: after %d s clients go to and fro", balance, second)
				}
				arrived := 0
				for i := range now {
					if now[i] != last[i] && now[i] != "a" {
						t.Fatalf("%s: after %d s a client of %s moved to %s", balance, second, last[i], now[i])
					}
					if now[i] == "a" {
						arrived++
					}
				}
				want := n / 3 * second / 10
				if arrived < want-n/30 || arrived > want+n/30 {
					t.Errorf("%s: after %d s %d have moved to a, want about %d", balance, second, arrived, want)
				}
				last = now
				time.Sleep(time.Second)
			}
			if !slices.Equal(last, whole) {
				t.Errorf("%s: after slow start clients are elsewhere than before", balance)
			}
		})
	}
}

// A ramp goes on by the SlowStart that is in force, also one that comes with the
// backend that it is for.
func TestSlowStartChangesWhileItLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := PoolConfig{Backends: backends(1, 1), SlowStart: 10 * time.Second}
		p := newPool(t, cfg)
		step := func(what, backend string, pass float64) {
			t.Helper()
			got := float64(strings.Count(picks(t, p, 4000), backend)) / 4000
			if want := pass / (1 + pass); got < want-0.06 || got > want+0.06 {
				t.Errorf("%s: the share is %.3f, want about %.3f", what, got, want)
			}
			if n := p.restless.Load(); (n == 0) != (pass == 1) {
				t.Errorf("%s: restless = %d", what, n)
			}
		}
		reconfigure := func(slowStart time.Duration, weights ...int) {
			t.Helper()
			cfg.SlowStart, cfg.Backends = slowStart, backends(weights...)
			if err := p.Reconfigure(cfg); err != nil {
				t.Fatal(err)
			}
		}
		p.SetHealth("a", errDown)
		p.SetHealth("a", nil)
		time.Sleep(5 * time.Second)
		step("5 s of 10", "a", 0.5)
		reconfigure(20*time.Second, 1, 1)
		step("5 s of 20", "a", 0.25)
		reconfigure(6*time.Second, 1, 1)
		step("5 s of 6", "a", 5./6)
		reconfigure(0, 1, 1)
		step("slow start off", "a", 1)
		reconfigure(10*time.Second, 1, 1)
		step("slow start on again", "a", 1)

		reconfigure(0, 1)
		reconfigure(10*time.Second, 1, 1)
		time.Sleep(5 * time.Second)
		step("slow start comes with b", "b", 0.5)
		reconfigure(10*time.Second, 1)
		reconfigure(0, 1, 1)
		step("slow start goes as b comes", "b", 1)
	})
}
