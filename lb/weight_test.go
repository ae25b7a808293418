package lb

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

var allMethods = []Balance{RoundRobin, LeastConn, PowerOfTwo, Random, SourceHash, KeyHash, Maglev}

// where picks a backend for each of n clients, and gives it back.
func where(t testing.TB, p *Pool, n int) (names []string) {
	t.Helper()
	for i := range n {
		client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1)
		k, err := p.Pick(&Flow{Client: client, Key: fmt.Sprint(i)})
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, k.Backend())
		k.Done(Success)
	}
	return names
}

// A backend whose weight becomes 0 by a reload gets no new connections and keeps those that
// it has. With its weight again it is as before, and no other backend's clients have moved.
func TestWeightZeroDrains(t *testing.T) {
	for _, balance := range allMethods {
		for _, weight := range []int{1, 3} {
			bs := backends(weight, 1, 2)
			cfg := PoolConfig{Balance: balance, Backends: bs, KillOnDown: true}
			p := newPool(t, cfg)
			onCut(t, p, func(*server) { t.Errorf("%s: cut", balance) })
			var held Pick
			for i := 0; held.Backend() != "a"; i++ {
				held.Done(Neutral)
				held, _ = p.Pick(&Flow{Key: fmt.Sprint(i), Client: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}), 1)})
			}
			before := where(t, p, 600)
			cfg.Backends = slices.Clone(bs)
			cfg.Backends[0].Weight = -1
			if err := p.Reconfigure(cfg); err != nil {
				t.Fatal(err)
			}
			drained := where(t, p, 600)
			if slices.Contains(drained, "a") || !slices.Contains(drained, "b") || !slices.Contains(drained, "c") {
				t.Errorf("%s: picked a, or not b and c", balance)
			}
			if st := p.Status().Backends[0]; st.Active != 1 || !st.Draining || st.InUse || !st.Up {
				t.Errorf("%s: %+v, want one connection, draining", balance, st)
			}
			held.Done(Neutral)
			cfg.Backends = bs
			if err := p.Reconfigure(cfg); err != nil {
				t.Fatal(err)
			}
			after := where(t, p, 600)
			if !slices.Contains(after, "a") || p.Status().Backends[0].Draining {
				t.Errorf("%s: a is not used again", balance)
			}
			if balance.hash() == nil {
				continue
			}
			moved := 0
			for i := range before {
				if before[i] != after[i] {
					t.Fatalf("%s: a client of %s is with %s after the drain", balance, before[i], after[i])
				}
				if before[i] != "a" && before[i] != drained[i] {
					moved++
				}
			}
			if weight == 1 && moved > 0 {
				t.Errorf("%s: %d clients of other backends moved", balance, moved)
			}
		}
	}
}

// In whatever pool, a backend without weight and one that drains are the same thing: for
// the schedule, the quorum, panic and backups.
func TestWeightZeroIsDrain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 7).Draw(t, "backends")
		bs := backends(rapid.SliceOfN(rapid.IntRange(1, 4), n, n).Draw(t, "weights")...)
		zero := slices.Clone(bs)
		for i := range bs {
			bs[i].Backup = rapid.IntRange(0, 3).Draw(t, "backup") == 0
			zero[i].Backup = bs[i].Backup
			if rapid.Bool().Draw(t, "drains") {
				bs[i].Drain, bs[i].Weight, zero[i].Weight = true, 1, -1
			}
		}
		cfg := PoolConfig{Balance: rapid.SampledFrom([]Balance{RoundRobin, LeastConn, KeyHash}).Draw(t, "balance"), Backends: bs,
			Panic: rapid.SampledFrom([]int{0, 50}).Draw(t, "panic")}
		p, err := NewPool(cfg)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Backends = zero
		q, err := NewPool(cfg)
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(0, n).Draw(t, "changes") {
			b, up := bs[rapid.IntRange(0, n-1).Draw(t, "backend")].Name, rapid.Bool().Draw(t, "up")
			p.SetHealth(b, health(up))
			q.SetHealth(b, health(up))
		}
		a, b := p.Status(), q.Status()
		if a.Quorum != b.Quorum || a.Panic != b.Panic || p.census != q.census {
			t.Fatalf("quorum %v, panic %v, census %d; want %v, %v, %d", b.Quorum, b.Panic, q.census, a.Quorum, a.Panic, p.census)
		}
		for i := range 20 {
			x, err1 := p.Pick(&Flow{Key: fmt.Sprint(i)})
			y, err2 := q.Pick(&Flow{Key: fmt.Sprint(i)})
			if x.Backend() != y.Backend() || err1 != err2 {
				t.Fatalf("picked %q, %v; want %q, %v", y.Backend(), err2, x.Backend(), err1)
			}
		}
	})
}

// A pool whose backends all have no weight has no backend, and says so. Its connections end
// at the drain timeout.
func TestPoolWithoutWeight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, balance := range allMethods {
			var log story
			cfg := PoolConfig{Name: "web", Balance: balance, Backends: backends(1, 1), Quorum: 2, Panic: 50, Queue: 1, DrainTimeout: time.Minute,
				Logger: log.logger(slog.LevelInfo)}
			p := newPool(t, cfg)
			cuts := 0
			onCut(t, p, func(*server) { cuts++ })
			cfg.Backends = backends(-1, -1)
			if err := p.Reconfigure(cfg); err != nil {
				t.Fatal(err)
			}
			if _, err := p.Acquire(t.Context(), nil); !errors.Is(err, ErrNoBackend) {
				t.Errorf("%s: %v, want ErrNoBackend", balance, err)
			}
			log.want(t, string(balance), `ERROR msg="pool has no working backends" pool=web down=0 ejected=0 draining=2`)
			time.Sleep(time.Minute + refreshPause)
			synctest.Wait()
			if cuts != 2 {
				t.Errorf("%s: %d cuts, want 2", balance, cuts)
			}
			cfg.Backends = backends(-1, 1) // less than the quorum, but the file may say so for a while
			if err := p.Reconfigure(cfg); err != nil {
				t.Fatal(err)
			}
			if got := picks(t, p, 2); got != "b b" {
				t.Errorf("%s: picked %s, want b", balance, got)
			}
		}
	})
}

func TestWeightsOutOfRange(t *testing.T) {
	for _, weight := range []int{-5, -1, 0, 1, MaxWeight, MaxWeight + 1} {
		err := Backend{Address: "192.0.2.1:80", Weight: weight}.Validate()
		if bad := weight > MaxWeight; bad != (err != nil) || bad && !strings.Contains(err.Error(), "Weight: 65536: want 0 to 65535") {
			t.Errorf("weight %d: %v", weight, err)
		}
	}
}
