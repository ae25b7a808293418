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
	"time"
)

func newPool(t testing.TB, cfg PoolConfig) *Pool {
	t.Helper()
	p, err := NewPool(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// health is what SetHealth wants.
func health(up bool) error {
	if up {
		return nil
	}
	return errDown
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
	p.SetHealth("b", errDown)
	step("b down", "a c a c")
	p.SetHealth("a", errDown)
	step("a and b down", "c c")
	p.SetHealth("c", errDown)
	step("only the backup is left", "d d")
	p.SetHealth("d", errDown)
	step("nobody is left", "- -")
	p.SetHealth("nobody", nil)
	p.SetHealth("b", nil)
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

func TestQuorumAndHysteresis(t *testing.T) {
	bs := backends(1, 1, 1, 1, 1)
	bs[4].Backup = true
	p := newPool(t, PoolConfig{Backends: bs, Quorum: 3, Hysteresis: 1})
	step := func(what, backend string, up, quorum bool) {
		t.Helper()
		p.SetHealth(backend, health(up))
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
				p.SetHealth(step.backend, health(step.up))
				if got := picks(t, p, 1); (got == "e") == step.quorum || p.Status().Quorum != step.quorum {
					t.Errorf("%s up %v: picked %s, quorum %v", step.backend, step.up, got, p.Status().Quorum)
				}
			}
			// Those that are left do not make it.
			if err := p.Update(slices.DeleteFunc(bs, func(b Backend) bool { return b.Name == "a" })); err != nil {
				t.Fatal(err)
			}
			p.SetHealth("b", errDown)
			p.SetHealth("b", nil)
			if got := p.Status().Quorum; got {
				t.Error("2 of 2 are a quorum of 3")
			}
		})
	}
}

func TestPanic(t *testing.T) {
	p := newPool(t, PoolConfig{Backends: backends(1, 1, 1, 1), Panic: 50})
	p.SetHealth("a", errDown)
	p.SetHealth("b", errDown)
	if st := p.Status(); st.Panic || picks(t, p, 2) != "c d" {
		t.Errorf("half is up: %+v", st)
	}
	p.SetHealth("c", errDown)
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
		p.SetHealth(name, errDown)
	}
	step("the backup is up", false, "e e e e")
	p.SetHealth("e", errDown)
	step("all are down", true, "a b c d a b")
	p.SetHealth("d", nil)
	step("one primary is up", true, "c d a b c d")
	p.SetHealth("c", nil)
	step("half of the primaries are up", false, "c d c d")
}

func TestUpdateKeepsWhatIsUnchanged(t *testing.T) {
	bs := backends(1, 1, 1)
	p := newPool(t, PoolConfig{Backends: bs})
	picks(t, p, 3)
	held, _ := p.Pick(new(Flow))
	p.SetHealth("b", errDown)

	bs[1].Weight = 3                // still down
	bs[2].Address = "192.0.2.99:80" // another server behind the same name
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
		{"no address", PoolConfig{Backends: []Backend{{Name: "x"}}}, `Backends[0].Address: "": want host:port`},
		{"no port", PoolConfig{Backends: []Backend{{Address: "192.0.2.1"}}}, `Backends[0].Address: "192.0.2.1": want host:port`},
		{"port 0", PoolConfig{Backends: []Backend{{Address: "192.0.2.1:0"}}}, "want 1 to 65535"},
		{"port 70000", PoolConfig{Backends: []Backend{{Address: "192.0.2.1:70000"}}}, "want 1 to 65535"},
		{"no host", PoolConfig{Backends: []Backend{{Address: ":80"}}}, "want host:port"},
		{"no path", PoolConfig{Backends: []Backend{{Address: "unix:"}}}, "want a path"},
		{"weight", PoolConfig{Backends: []Backend{{Address: "192.0.2.1:80", Weight: 65536}}}, "Backends[0].Weight: 65536: want 0 to 65535"},
		{"max conns", PoolConfig{Backends: []Backend{{Address: "192.0.2.1:80", MaxConns: -1}}}, "Backends[0].MaxConns: -1: want"},
		{"same name", PoolConfig{Backends: []Backend{{Address: "192.0.2.1:80"}, {Address: "192.0.2.1:80"}}}, `Backends[1].Name: "192.0.2.1:80": taken`},
		{"balance", PoolConfig{Balance: "best"}, `Balance: "best": want round-robin, least-conn,`},
		{"fail timeout", PoolConfig{FailTimeout: -1}, "FailTimeout: -1ns: want"},
		{"slow start", PoolConfig{SlowStart: -1}, "SlowStart: -1ns: want"},
		{"drain timeout", PoolConfig{DrainTimeout: -1}, "DrainTimeout: -1ns: want"},
		{"queue", PoolConfig{Queue: -1}, "Queue: -1: want"},
		{"queue timeout", PoolConfig{QueueTimeout: -1}, "QueueTimeout: -1ns: want"},
		{"resolve interval", PoolConfig{ResolveInterval: -1}, "ResolveInterval: -1ns: want"},
		{"quorum", PoolConfig{Quorum: -1}, "Quorum: -1: want"},
		{"quorum out of reach", PoolConfig{Quorum: 4, Backends: []Backend{{Address: "192.0.2.1:80", Weight: 2}, {Address: "192.0.2.2:80"},
			{Address: "192.0.2.3:80", Backup: true, Weight: 9}}}, "Quorum: 4: out of reach: want no more than 3"},
		{"hysteresis", PoolConfig{Quorum: 2, Hysteresis: 2}, "Hysteresis: 2: want less than the quorum, 2"},
		{"panic", PoolConfig{Panic: 101}, "Panic: 101: want 0 to 100"},
		{"two at once", PoolConfig{Queue: -1, Panic: -1}, "Panic: -1: want 0 to 100\nQueue: -1: want 0 to 1073741824"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.cfg.Name = "web"
			_, err := NewPool(tt.cfg)
			if err == nil || !strings.HasPrefix(err.Error(), `lb: pool "web": `) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
			if again := tt.cfg.Validate(); again == nil || !strings.HasSuffix(err.Error(), again.Error()) {
				t.Errorf("Validate: %v, NewPool: %v", again, err)
			}
		})
	}
	p := newPool(t, PoolConfig{Backends: backends(1)})
	if err := p.Update([]Backend{{}}); err == nil || picks(t, p, 1) != "a" {
		t.Errorf("a refused update changed the pool: %v", err)
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
					var held [8]Pick // enough for a to be full
					for j := range held {
						k, err := p.Pick(&Flow{Client: netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(8*i+j))})
						if errors.Is(err, ErrBusy) { // only a is left, and full
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
			p.SetHealth("b", health(i%2 == 0))
			p.SetHealth("c", health(i%3 == 0))
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
	p.SetHealth("b", errDown)
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
