package lb

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func newPool(t testing.TB, cfg PoolConfig) *Pool {
	t.Helper()
	p, err := NewPool(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// backends makes one backend per weight, named a, b, c, ...
func backends(weights ...int) []Backend {
	var bs []Backend
	for i, w := range weights {
		bs = append(bs, Backend{Name: string(rune('a' + i)), Address: fmt.Sprintf("192.0.2.%d:80", i+1), Weight: w})
	}
	return bs
}

// picks returns the names of n picks, all successful at once.
func picks(t testing.TB, p *Pool, n int) string {
	t.Helper()
	var names []string
	for range n {
		k, err := p.Pick(new(Flow))
		if err != nil {
			names = append(names, "-")
			continue
		}
		names = append(names, k.Backend())
		k.Done(Success)
	}
	return strings.Join(names, " ")
}

// Orders of nginx's ngx_http_upstream_round_robin.c; TestOrderOfARealNginx asks one.
func TestRoundRobinOrderOfNginx(t *testing.T) {
	for _, tt := range []struct {
		weights []int
		want    string
	}{
		{[]int{5, 1, 1}, "a a b a c a a a a b a c a a"},
		{[]int{1, 1, 1}, "a b c a b c"},
		{[]int{1, 2, 1}, "b a c b b a c b"},
		{[]int{3, 2}, "a b a b a a b a b a"},
		{[]int{2, 4}, "b a b b a b"},
		{[]int{1, 5}, "b b a b b b"},
		{[]int{7}, "a a a"},
		{[]int{4, 3, 2, 1}, "a b c a b d a c b a"},
	} {
		p := newPool(t, PoolConfig{Backends: backends(tt.weights...)})
		if got := picks(t, p, len(strings.Fields(tt.want))); got != tt.want {
			t.Errorf("weights %v: order %q, want %q", tt.weights, got, tt.want)
		}
	}
}

// nginxOrder is nginx's algorithm taken literally: the oracle of schedule.
func nginxOrder(weights []int, n int) []int {
	current := make([]int, len(weights))
	var order []int
	for range n {
		best, total := -1, 0
		for i, w := range weights {
			current[i] += w
			total += w
			if best < 0 || current[i] > current[best] {
				best = i
			}
		}
		current[best] -= total
		order = append(order, best)
	}
	return order
}

func TestScheduleEqualsNginx(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.IntRange(1, 40), 1, 12).Draw(t, "weights")
		got := schedule(weights)
		if want := nginxOrder(weights, len(got)); !slices.Equal(got, want) {
			t.Fatalf("schedule(%v) = %v, want %v", weights, got, want)
		}
	})
}

func TestScheduleOfHugeWeightsIsBoundedAndProportional(t *testing.T) {
	weights := []int{65535, 65521, 1, 30011}
	order := schedule(weights)
	if len(order) > maxSchedule+len(weights) {
		t.Fatalf("%d entries, want at most %d", len(order), maxSchedule+len(weights))
	}
	counts := make([]int, len(weights))
	for _, i := range order {
		counts[i]++
	}
	for i, w := range weights {
		want := max(1, float64(w)/161068*float64(len(order)))
		if d := float64(counts[i]) - want; d > 2 || d < -2 {
			t.Errorf("weight %d has %d of %d turns, want about %.0f", w, counts[i], len(order), want)
		}
	}
}

func TestHealth(t *testing.T) {
	bs := backends(1, 1, 1, 1)
	bs[3].Backup = true
	p := newPool(t, PoolConfig{Backends: bs})
	step := func(what, want string) {
		t.Helper()
		if got := picks(t, p, len(strings.Fields(want))); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	step("all up", "a b c a b c")
	p.SetHealth("b", false)
	step("b down", "a c a c")
	p.SetHealth("a", false)
	step("a and b down", "c c")
	p.SetHealth("c", false)
	step("only the backup is left", "d d")
	p.SetHealth("d", false)
	step("nobody is left", "- -")
	p.SetHealth("nobody", true)
	p.SetHealth("b", true)
	step("b back", "b b")
	if !p.SetDrain("b", true) || p.SetDrain("nobody", true) {
		t.Error("SetDrain reports the wrong thing")
	}
	step("b draining", "- -")
}

func TestPickErrors(t *testing.T) {
	p := newPool(t, PoolConfig{})
	if _, err := p.Pick(new(Flow)); !errors.Is(err, ErrNoBackend) {
		t.Errorf("empty pool: %v, want ErrNoBackend", err)
	}
	bs := backends(1, 1)
	bs[0].MaxConns, bs[1].MaxConns = 1, 2
	for _, balance := range []Balance{RoundRobin, LeastConn, PowerOfTwo, Random, SourceHash, KeyHash, Maglev} {
		p := newPool(t, PoolConfig{Balance: balance, Backends: bs})
		var held []Pick
		for i := range 3 {
			k, err := p.Pick(new(Flow))
			if err != nil {
				t.Fatalf("%s: pick %d: %v", balance, i, err)
			}
			held = append(held, k)
		}
		if _, err := p.Pick(new(Flow)); !errors.Is(err, ErrBusy) {
			t.Errorf("%s: beyond MaxConns: %v, want ErrBusy", balance, err)
		}
		held[1].Done(Success)
		if k, err := p.Pick(new(Flow)); err != nil || k.Backend() != held[1].Backend() {
			t.Errorf("%s: after Done: %v, %v", balance, k, err)
		}
	}
}

func TestFlowAvoidsWhatItTried(t *testing.T) {
	for _, balance := range []Balance{RoundRobin, LeastConn, PowerOfTwo, Random, SourceHash, KeyHash, Maglev} {
		p := newPool(t, PoolConfig{Balance: balance, Backends: backends(5, 1, 1)})
		var f Flow
		seen := make(map[string]bool)
		for range 3 {
			k, err := p.Pick(&f)
			if err != nil {
				t.Fatalf("%s: %v", balance, err)
			}
			seen[k.Backend()] = true
			k.Done(Failure)
		}
		if len(seen) != 3 {
			t.Errorf("%s: tried %v, want all three", balance, seen)
		}
		if _, err := p.Pick(&f); !errors.Is(err, ErrNoBackend) {
			t.Errorf("%s: fourth try: %v, want ErrNoBackend", balance, err)
		}
	}
}

// nginx: max_fails=1 fail_timeout=10s by default, one trial afterwards.
func TestEjection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, PoolConfig{Backends: backends(1, 1)})
		fail := func(name string) {
			t.Helper()
			for range 4 {
				k, err := p.Pick(new(Flow))
				if err != nil {
					t.Fatal(err)
				}
				if k.Backend() == name {
					k.Done(Failure)
					return
				}
				k.Done(Success)
			}
			t.Fatalf("%s was not picked", name)
		}
		step := func(what, want string) {
			t.Helper()
			if got := picks(t, p, len(strings.Fields(want))); got != want {
				t.Errorf("%s: %q, want %q", what, got, want)
			}
		}
		fail("a")
		step("a ejected", "b b b")
		if st := p.Status().Backends[0]; !st.Ejected || st.InUse || st.Ejects != 1 || st.Failures != 1 || !st.Up {
			t.Errorf("status %+v, want ejected, one failure", st)
		}
		time.Sleep(10*time.Second + time.Millisecond)
		fail("a") // The trial.
		step("trial failed", "b b b")
		time.Sleep(10*time.Second + time.Millisecond)
		var f Flow
		trial := Pick{}
		for trial.member == nil || trial.Backend() != "a" {
			f = Flow{}
			trial, _ = p.Pick(&f)
		}
		step("while the trial is under way", "b b b")
		trial.Done(Success)
		if got := picks(t, p, 4); !strings.Contains(got, "a b a") && !strings.Contains(got, "b a b") {
			t.Errorf("readmitted: %q, want both in turn", got)
		}
		if n := p.restless.Load(); n != 0 {
			t.Errorf("restless = %d after everything settled", n)
		}
	})
}

func TestFailuresFarApartDoNotEject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, PoolConfig{Backends: backends(1, 1), MaxFails: 2, FailTimeout: time.Second})
		for range 6 {
			k, _ := p.Pick(new(Flow))
			k.Done(Failure)
			time.Sleep(600 * time.Millisecond) // 1.2 s between two failures of one backend.
		}
		for _, b := range p.Status().Backends {
			if b.Ejected {
				t.Errorf("%s is ejected", b.Name)
			}
		}
	})
}

func TestLastServerIsNeverOut(t *testing.T) {
	bs := backends(1, 1)
	p := newPool(t, PoolConfig{Backends: bs[:1]})
	for range 5 {
		k, err := p.Pick(new(Flow))
		if err != nil {
			t.Fatalf("lone server: %v", err)
		}
		k.Done(Failure)
	}
	p = newPool(t, PoolConfig{Backends: bs})
	for range 6 {
		k, err := p.Pick(new(Flow))
		if err != nil {
			t.Fatalf("all ejected: %v", err)
		}
		k.Done(Failure)
	}
}

// What is still under way on a backend when that is removed has nothing to say.
func TestFailureOfARemovedBackend(t *testing.T) {
	bs := backends(1, 1)
	p := newPool(t, PoolConfig{Backends: bs})
	k, err := p.Pick(new(Flow))
	if err != nil || k.Backend() != "a" {
		t.Fatal(k, err)
	}
	if err := p.Update(bs[1:]); err != nil {
		t.Fatal(err)
	}
	k.Done(Failure)
	if n := p.restless.Load(); n != 0 {
		t.Errorf("restless = %d after a failure of a removed backend", n)
	}
}

func TestSlowStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, PoolConfig{Backends: backends(1, 1), SlowStart: 10 * time.Second})
		share := func() float64 {
			return float64(strings.Count(picks(t, p, 4000), "a")) / 4000
		}
		if s := share(); s != 0.5 {
			t.Errorf("at process start the share is %.2f, want 0.5", s)
		}
		p.SetHealth("a", false)
		p.SetHealth("a", true)
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
			p.SetHealth("a", false)
			for range 90 { // About ten connections for each of the others.
				if _, err := p.Pick(new(Flow)); err != nil {
					t.Fatal(err)
				}
			}
			p.SetHealth("a", true)
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
			where := func() (names []string) {
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
			whole := where()
			p.SetHealth("a", false)
			last := where()
			p.SetHealth("a", true)
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
		p.SetHealth("a", false)
		p.SetHealth("a", true)
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

func TestQuorumAndHysteresis(t *testing.T) {
	bs := backends(1, 1, 1, 1, 1)
	bs[4].Backup = true
	p := newPool(t, PoolConfig{Backends: bs, Quorum: 3, Hysteresis: 1})
	step := func(what, backend string, up, quorum bool) {
		t.Helper()
		p.SetHealth(backend, up)
		st := p.Status()
		if st.Quorum != quorum {
			t.Errorf("%s: quorum %v, want %v", what, st.Quorum, quorum)
		}
		if got := picks(t, p, 1); (got == "e") == quorum {
			t.Errorf("%s: picked %s", what, got)
		}
	}
	step("3 of 4", "a", false, true)
	step("2 of 4, within the hysteresis", "b", false, true)
	step("1 of 4", "c", false, false)
	step("2 of 4 again", "c", true, false)
	step("3 of 4 again", "b", true, false)
	step("4 of 4", "a", true, true)
}

// Whatever the hysteresis asks for, all the primaries there are must do.
func TestQuorumComesBack(t *testing.T) {
	for _, tt := range []struct{ name, drain string }{{"all in use", ""}, {"one more, which drains", "d"}} {
		t.Run(tt.name, func(t *testing.T) {
			bs := backends(1, 1, 1, 1, 1)
			bs[4].Backup = true
			if tt.drain == "" {
				bs = slices.Delete(bs, 3, 4)
			}
			p := newPool(t, PoolConfig{Backends: bs, Quorum: 3, Hysteresis: 1})
			p.SetDrain(tt.drain, true)
			for _, step := range []struct {
				backend    string
				up, quorum bool
			}{{"a", false, true}, {"b", false, false}, {"b", true, false}, {"a", true, true}} {
				p.SetHealth(step.backend, step.up)
				if got := picks(t, p, 1); (got == "e") == step.quorum || p.Status().Quorum != step.quorum {
					t.Errorf("%s up %v: picked %s, quorum %v", step.backend, step.up, got, p.Status().Quorum)
				}
			}
			// Those that are left do not make it.
			if err := p.Update(slices.DeleteFunc(bs, func(b Backend) bool { return b.Name == "a" })); err != nil {
				t.Fatal(err)
			}
			p.SetHealth("b", false)
			p.SetHealth("b", true)
			if got := p.Status().Quorum; got {
				t.Error("2 of 2 are a quorum of 3")
			}
		})
	}
}

func TestPanic(t *testing.T) {
	p := newPool(t, PoolConfig{Backends: backends(1, 1, 1, 1), Panic: 50})
	p.SetHealth("a", false)
	p.SetHealth("b", false)
	if st := p.Status(); st.Panic || picks(t, p, 2) != "c d" {
		t.Errorf("half is up: %+v", st)
	}
	p.SetHealth("c", false)
	if st := p.Status(); !st.Panic || len(strings.Fields(strings.ReplaceAll(picks(t, p, 4), "-", ""))) != 4 {
		t.Errorf("a quarter is up: %+v, want panic", st)
	}
}

// In panic health is not believed, so neither is the loss of the quorum.
func TestPanicWithBackups(t *testing.T) {
	bs := backends(1, 1, 1, 1, 1)
	bs[4].Backup = true
	p := newPool(t, PoolConfig{Backends: bs, Panic: 50})
	step := func(what string, panic bool, want string) {
		t.Helper()
		st := p.Status()
		if got := picks(t, p, len(strings.Fields(want))); got != want || st.Panic != panic {
			t.Errorf("%s: %q, panic %v; want %q, %v", what, got, st.Panic, want, panic)
		}
		for _, b := range st.Backends {
			if b.InUse != strings.Contains(want, b.Name) {
				t.Errorf("%s: %s in use: %v", what, b.Name, b.InUse)
			}
		}
	}
	for _, name := range []string{"a", "b", "c", "d"} {
		p.SetHealth(name, false)
	}
	step("the backup is up", false, "e e e e")
	p.SetHealth("e", false)
	step("all are down", true, "a b c d a b")
	p.SetHealth("d", true)
	step("one primary is up", true, "c d a b c d")
	p.SetHealth("c", true)
	step("half of the primaries are up", false, "c d c d")
}

func TestUpdateKeepsWhatIsUnchanged(t *testing.T) {
	bs := backends(1, 1, 1)
	p := newPool(t, PoolConfig{Backends: bs})
	picks(t, p, 3)
	held, _ := p.Pick(new(Flow))
	p.SetHealth("b", false)

	bs[1].Weight = 3                // Still down.
	bs[2].Address = "192.0.2.99:80" // Another server behind the same name.
	bs = append(bs, Backend{Address: "192.0.2.4:80"})
	if err := p.Update(bs); err != nil {
		t.Fatal(err)
	}
	st := p.Status().Backends
	if st[1].Up || st[1].Weight != 3 || st[1].Picks != 1 {
		t.Errorf("b: %+v, want down, weight 3, 1 pick", st[1])
	}
	if !st[2].Up || st[2].Picks != 0 {
		t.Errorf("c: %+v, want a fresh one", st[2])
	}
	if st[3].Name != "192.0.2.4:80" {
		t.Errorf("d: %+v, want its address as its name", st[3])
	}
	if held.Backend() != "a" || st[0].Active != 1 {
		t.Errorf("a: %+v, held %s", st[0], held.Backend())
	}
	held.Done(Success)
	if n := p.Status().Backends[0].Active; n != 0 {
		t.Errorf("a: %d active after Done", n)
	}
}

func TestBadConfigurationIsRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  PoolConfig
		want string
	}{
		{"no address", PoolConfig{Backends: []Backend{{Name: "x"}}}, "backend 1: no address"},
		{"no port", PoolConfig{Backends: []Backend{{Address: "192.0.2.1"}}}, "want host:port"},
		{"port 0", PoolConfig{Backends: []Backend{{Address: "192.0.2.1:0"}}}, "want 1 to 65535"},
		{"port 70000", PoolConfig{Backends: []Backend{{Address: "192.0.2.1:70000"}}}, "want 1 to 65535"},
		{"no host", PoolConfig{Backends: []Backend{{Address: ":80"}}}, "no host"},
		{"no path", PoolConfig{Backends: []Backend{{Address: "unix:"}}}, "no path"},
		{"weight", PoolConfig{Backends: []Backend{{Address: "192.0.2.1:80", Weight: 65536}}}, "want 1 to 65535"},
		{"max conns", PoolConfig{Backends: []Backend{{Address: "192.0.2.1:80", MaxConns: -1}}}, "max conns"},
		{"same name", PoolConfig{Backends: []Backend{{Address: "192.0.2.1:80"}, {Address: "192.0.2.1:80"}}}, "is taken"},
		{"balance", PoolConfig{Balance: "best"}, `balance "best"`},
		{"fail timeout", PoolConfig{FailTimeout: -1}, "fail timeout"},
		{"slow start", PoolConfig{SlowStart: -1}, "slow start"},
		{"quorum", PoolConfig{Quorum: -1}, "quorum"},
		{"quorum out of reach", PoolConfig{Quorum: 4, Backends: []Backend{{Address: "192.0.2.1:80", Weight: 2}, {Address: "192.0.2.2:80"},
			{Address: "192.0.2.3:80", Backup: true, Weight: 9}}}, "weigh 3 in all"},
		{"hysteresis", PoolConfig{Quorum: 2, Hysteresis: 2}, "want 0 to quorum - 1"},
		{"panic", PoolConfig{Panic: 101}, "panic threshold"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.cfg.Name = "web"
			_, err := NewPool(tt.cfg)
			if err == nil || !strings.HasPrefix(err.Error(), `lb: pool "web": `) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
	p := newPool(t, PoolConfig{Backends: backends(1)})
	if err := p.Update([]Backend{{}}); err == nil || picks(t, p, 1) != "a" {
		t.Errorf("a refused update changed the pool: %v", err)
	}
}

func TestDistributionFollowsWeights(t *testing.T) {
	for _, balance := range []Balance{RoundRobin, Random, PowerOfTwo, Maglev, SourceHash, KeyHash} {
		t.Run(string(balance), func(t *testing.T) {
			bs := backends(1, 2, 4, 8)
			p := newPool(t, PoolConfig{Balance: balance, Backends: bs})
			const n = 30000
			counts := make(map[string]int)
			for i := range n {
				addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
				k, err := p.Pick(&Flow{Client: netip.AddrPortFrom(addr, uint16(i)), Key: fmt.Sprint("key", i)})
				if err != nil {
					t.Fatal(err)
				}
				counts[k.Backend()]++
				k.Done(Success)
			}
			for _, b := range bs {
				want := n * b.Weight / 15
				if got := counts[b.Name]; got < want*9/10-100 || got > want*11/10+100 {
					t.Errorf("%s with weight %d has %d, want about %d", b.Name, b.Weight, got, want)
				}
			}
		})
	}
}

// What a backend that is out would get goes to the others by their weights, however
// much that is.
func TestWeightsHoldWithoutTheHeaviest(t *testing.T) {
	for _, balance := range []Balance{RoundRobin, LeastConn, PowerOfTwo, Random} {
		for _, weights := range [][]int{{100, 1, 1}, {500, 1, 2}, {65535, 3, 1}} {
			p := newPool(t, PoolConfig{Balance: balance, Backends: backends(weights...), FailTimeout: time.Hour})
			for f := new(Flow); !p.Status().Backends[0].Ejected; {
				k, err := p.Pick(f)
				if err != nil {
					t.Fatal(err)
				}
				if k.Backend() == "a" {
					k.Report(Failure)
				}
				k.Done(Neutral)
			}
			got := picks(t, p, 3000)
			b, c := strings.Count(got, "b"), strings.Count(got, "c")
			want := 3000 * weights[1] / (weights[1] + weights[2])
			if b+c != 3000 || b < want-150 || b > want+150 {
				t.Errorf("%s, weights %v: b has %d, c %d; want %d and %d", balance, weights, b, c, want, 3000-want)
			}
		}
	}
}

func TestLeastConnAndPowerOfTwoEvenOut(t *testing.T) {
	for _, balance := range []Balance{LeastConn, PowerOfTwo} {
		p := newPool(t, PoolConfig{Balance: balance, Backends: backends(1, 1, 2)})
		for range 400 {
			if _, err := p.Pick(new(Flow)); err != nil {
				t.Fatal(err)
			}
		}
		for i, want := range []int64{100, 100, 200} {
			got := p.Status().Backends[i].Active
			if slack := map[Balance]int64{LeastConn: 0, PowerOfTwo: 15}[balance]; got < want-slack || got > want+slack {
				t.Errorf("%s: backend %d has %d connections, want %d", balance, i, got, want)
			}
		}
	}
}

// When a backend goes, or its health does, only the keys it had move.
func TestHashReshuffle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 12).Draw(t, "backends")
		weights := rapid.SliceOfN(rapid.IntRange(1, 5), n, n).Draw(t, "weights")
		gone := rapid.IntRange(0, n-1).Draw(t, "gone")
		bs := backends(weights...)
		p, err := NewPool(PoolConfig{Balance: KeyHash, Backends: bs})
		if err != nil {
			t.Fatal(err)
		}
		where := func(p *Pool) (names []string) {
			for i := range 2000 {
				k, err := p.Pick(&Flow{Key: fmt.Sprint(i)})
				if err != nil {
					t.Fatal(err)
				}
				names = append(names, k.Backend())
				k.Done(Success)
			}
			return names
		}
		moved := func(before, after []string) (mine, others int) {
			for i := range before {
				if before[i] == after[i] {
					continue
				}
				if before[i] == bs[gone].Name {
					mine++
				} else {
					others++
				}
			}
			return
		}
		before := where(p)
		p.SetHealth(bs[gone].Name, false)
		if _, others := moved(before, where(p)); others != 0 {
			t.Fatalf("%d keys of other backends moved when %s went down", others, bs[gone].Name)
		}
		p.SetHealth(bs[gone].Name, true)
		if mine, others := moved(before, where(p)); mine+others != 0 {
			t.Fatalf("%d keys are elsewhere after %s came back", mine+others, bs[gone].Name)
		}
		// Another node, configured in another order, without that backend.
		rest := slices.Concat(bs[gone+1:], bs[:gone])
		if err := p.Update(rest); err != nil {
			t.Fatal(err)
		}
		if _, others := moved(before, where(p)); others > 2000*15/100 {
			t.Fatalf("%d of 2000 keys of other backends moved when %s was removed", others, bs[gone].Name)
		}
		q, err := NewPool(PoolConfig{Balance: KeyHash, Backends: slices.Concat(bs[:gone], bs[gone+1:])})
		if err != nil {
			t.Fatal(err)
		}
		if mine, others := moved(where(p), where(q)); mine+others != 0 {
			t.Fatalf("two nodes with the same backends differ in %d keys", mine+others)
		}
	})
}

// Where few are left, the answer still depends on names and weights alone.
func TestHashWithFewLeft(t *testing.T) {
	const n = 6000
	where := func(up string, reverse bool) (names []string) {
		var bs []Backend
		for i := range 100 {
			bs = append(bs, Backend{Name: fmt.Sprint("app", i), Address: "192.0.2.1:80", Weight: 1 + i%3})
		}
		if reverse {
			slices.Reverse(bs)
		}
		p := newPool(t, PoolConfig{Balance: KeyHash, Backends: bs})
		for _, b := range bs {
			p.SetHealth(b.Name, strings.Contains(up, b.Name+" "))
		}
		for i := range n {
			k, err := p.Pick(&Flow{Key: fmt.Sprint(i)})
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, k.Backend())
			k.Done(Success)
		}
		return names
	}
	three := where("app10 app11 app12 ", false)
	counts := make(map[string]int)
	for _, name := range three {
		counts[name]++
	}
	for name, weight := range map[string]int{"app10": 2, "app11": 3, "app12": 1} {
		if got, want := counts[name], n*weight/6; got < want*9/10 || got > want*11/10 {
			t.Errorf("%s with weight %d has %d keys, want about %d", name, weight, got, want)
		}
	}
	if !slices.Equal(three, where("app10 app11 app12 ", true)) {
		t.Error("the order of the configuration matters")
	}
	for i, name := range where("app10 app12 ", false) {
		if three[i] != "app11" && three[i] != name {
			t.Fatalf("key %d moved from %s to %s, although only app11 went", i, three[i], name)
		}
	}
}

// The table must be the same in all versions that may ever share a cluster.
func TestMaglevTableIsFixed(t *testing.T) {
	table := MaglevTable([]string{"192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80"}, []int{1, 2, 1})
	var h uint64
	for _, i := range table {
		h = mix(h ^ uint64(i))
	}
	if want := uint64(0x774ac60a14df7ba6); len(table) != 65537 || h != want {
		t.Errorf("table of %d entries with digest %#x, want 65537 and %#x", len(table), h, want)
	}
}

func TestConcurrentPicksAndChanges(t *testing.T) {
	for _, balance := range []Balance{RoundRobin, LeastConn, PowerOfTwo, Maglev} {
		bs := backends(3, 1, 2, 1, 1, 1)
		bs[0].MaxConns = 3
		p := newPool(t, PoolConfig{Balance: balance, Backends: bs, SlowStart: time.Millisecond, FailTimeout: time.Millisecond})
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				for i := range 1000 {
					var held [8]Pick // Enough for a to be full.
					for j := range held {
						k, err := p.Pick(&Flow{Client: netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(8*i+j))})
						if errors.Is(err, ErrBusy) { // Only a is left, and full.
							continue
						}
						if err != nil {
							t.Errorf("%s: %v", balance, err)
							return
						}
						if n := k.member.active.Load(); k.Backend() == "a" && n > 3 {
							t.Errorf("%s: a has %d connections, want at most 3", balance, n)
						}
						held[j] = k
					}
					runtime.Gosched()
					for j, k := range held {
						if k.pool != nil {
							k.Done(Result((i + j + g) % 3))
						}
					}
				}
			})
		}
		for i := range 60 {
			p.SetHealth("b", i%2 == 0)
			p.SetHealth("c", i%3 == 0)
			if err := p.Update(bs[:2+i%5]); err != nil {
				t.Error(err)
			}
		}
		wg.Wait()
		if err := p.Update(bs); err != nil {
			t.Fatal(err)
		}
		for _, b := range p.Status().Backends {
			if b.Active != 0 {
				t.Errorf("%s: %s has %d connections at the end", balance, b.Name, b.Active)
			}
		}
	}
}

func TestPickDoesNotAllocate(t *testing.T) {
	for _, balance := range []Balance{RoundRobin, LeastConn, PowerOfTwo, Random, SourceHash, KeyHash, Maglev} {
		p := newPool(t, PoolConfig{Balance: balance, Backends: backends(1, 2, 3)})
		n := testing.AllocsPerRun(100, func() {
			f := Flow{Key: "k"}
			k, err := p.Pick(&f)
			if err != nil {
				t.Fatal(err)
			}
			k.Done(Success)
		})
		if n != 0 {
			t.Errorf("%s: %v allocations per pick", balance, n)
		}
	}
}

func TestReconfigureKeepsWhatIsKnown(t *testing.T) {
	bs := backends(1, 1, 1)
	p := newPool(t, PoolConfig{Name: "old", Backends: bs})
	p.SetHealth("b", false)
	k, err := p.Pick(new(Flow))
	if err != nil || k.Backend() != "a" {
		t.Fatal(k, err)
	}
	k.Done(Failure)
	bs[2].Weight = 2
	if err := p.Reconfigure(PoolConfig{Name: "new", Balance: KeyHash, Backends: bs[:2], Panic: 101}); err == nil {
		t.Error("a bad configuration is taken")
	}
	if st := p.Status(); st.Name != "old" || len(st.Backends) != 3 {
		t.Errorf("a refused configuration changed the pool: %+v", st)
	}
	if err := p.Reconfigure(PoolConfig{Name: "new", Balance: KeyHash, Backends: bs, MaxFails: -1}); err != nil {
		t.Fatal(err)
	}
	st := p.Status()
	if a := st.Backends[0]; st.Name != "new" || !a.Ejected || a.Failures != 1 || st.Backends[1].Up || st.Backends[2].Weight != 2 {
		t.Errorf("%+v", st)
	}
	for i := range 20 {
		k, err := p.Pick(&Flow{Key: fmt.Sprint(i)})
		if err != nil || k.Backend() != "c" {
			t.Fatalf("picked %v, %v; want c, the only one that is neither down nor ejected", k, err)
		}
		k.Done(Failure)
	}
	if st := p.Status().Backends[2]; st.Ejected {
		t.Error("c is ejected although MaxFails is off now")
	}
}
