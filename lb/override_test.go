package lb

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// drains and weighs are what commands say of a backend.
func drains(drain bool) func(*Override) { return func(o *Override) { o.Drain = &drain } }
func weighs(weight int) func(*Override) { return func(o *Override) { o.Weight = &weight } }
func asConfigured(o *Override)          { o.Drain, o.Weight = nil, nil }

// An override counts at once, for drain and weight each, and its end restores what is
// configured.
func TestOverride(t *testing.T) {
	bs := backends(1, 1, 2)
	bs[1].Drain = true
	p := newPool(t, PoolConfig{Backends: bs})
	for _, tt := range []struct {
		what, backend string
		change        func(*Override)
		want          string
	}{
		{"nothing", "a", func(*Override) {}, "c a c c a c"},
		{"use of what the configuration drains", "b", drains(false), "c a b c c a b c"},
		{"drain", "a", drains(true), "c b c c b c"},
		{"a weight for what drains", "a", weighs(5), "c b c c b c"},
		{"use again", "a", drains(false), "a c a a b a c a"},
		{"weight 0, whatever else is said", "a", weighs(0), "c b c c b c"},
		{"more than there is", "a", weighs(1 << 30), "a a a"},
		{"as configured", "a", asConfigured, "c a b c c a b c"},
		{"the other as well", "b", asConfigured, "c a c c a c"},
	} {
		if !p.Override(tt.backend, tt.change) {
			t.Errorf("%s: no backend %s", tt.what, tt.backend)
		}
		p.turns[0].schedule.Store(0)
		if got := picks(t, p, len(strings.Fields(tt.want))); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.what, got, tt.want)
		}
	}
	if all := p.Overrides(); len(all) != 0 {
		t.Errorf("left over: %+v", all)
	}
	if p.Override("nobody", func(*Override) { t.Error("called for nobody") }) {
		t.Error("nobody is there")
	}
}

// said lists the overrides of a pool.
func said(p *Pool) string {
	var all []string
	for _, o := range p.Overrides() {
		s := o.Backend
		if o.Drain != nil {
			s += fmt.Sprint(" drain=", *o.Drain)
		}
		if o.Weight != nil {
			s += fmt.Sprint(" weight=", *o.Weight)
		}
		all = append(all, s)
	}
	return strings.Join(all, ", ")
}

// An override outlives changes of everything but of what it replaces.
func TestOverrideAndUpdate(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func([]Backend) []Backend
		want   string
	}{
		{"the same", func(bs []Backend) []Backend { return bs }, "a drain=true weight=7"},
		{"another bound", func(bs []Backend) []Backend { bs[0].MaxConns = 5; return bs }, "a drain=true weight=7"},
		{"another weight of another backend", func(bs []Backend) []Backend { bs[1].Weight = 9; return bs }, "a drain=true weight=7"},
		{"another order", func(bs []Backend) []Backend { bs[0], bs[1] = bs[1], bs[0]; return bs }, "a drain=true weight=7"},
		{"another weight", func(bs []Backend) []Backend { bs[0].Weight = 9; return bs }, "a drain=true"},
		{"drain in the configuration", func(bs []Backend) []Backend { bs[0].Drain = true; return bs }, "a weight=7"},
		{"both", func(bs []Backend) []Backend { bs[0].Weight, bs[0].Drain = -1, true; return bs }, ""},
		{"another address", func(bs []Backend) []Backend { bs[0].Address = "192.0.2.99:80"; return bs }, ""},
		{"removed", func(bs []Backend) []Backend { return bs[1:] }, ""},
	} {
		p := newPool(t, PoolConfig{Backends: backends(1, 1)})
		p.Override("a", drains(true))
		p.Override("a", weighs(7))
		if err := p.Update(tt.change(backends(1, 1))); err != nil {
			t.Fatal(err)
		}
		if got := said(p); got != tt.want {
			t.Errorf("%s: %q stays, want %q", tt.name, got, tt.want)
		}
		m := p.snap.Load().find("a")
		if tt.want == "a weight=7" && (m.Weight != 7 || m.configured != 1) {
			t.Errorf("%s: weight %d instead of %d, want 7 instead of 1", tt.name, m.Weight, m.configured)
		}
		if err := p.Update(backends(1, 1)); err != nil {
			t.Fatal(err)
		}
		if got := said(p); got != tt.want {
			t.Errorf("%s, and back: %q stays, want %q", tt.name, got, tt.want)
		}
	}
}

// What was said of a name is for all of its addresses, now and later; what was said of an
// address is for that alone, and counts again when the address comes back.
func TestOverrideOfNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{hosts: map[string][]string{}}
		p, step := resolving(t, z, PoolConfig{Backends: []Backend{{Name: "app", Address: "app.test:80"}}})
		p.Override("app", drains(true))
		expect(t, "before there is an answer", members(p), "app=app.test:80~")
		answer := func(addrs ...string) string { return step(func() { z.hosts["app.test"] = addrs }) }
		expect(t, "the answer", answer("192.0.2.1"), "app/192.0.2.1:80~")
		expect(t, "another address", answer("192.0.2.1", "192.0.2.2"), "app/192.0.2.1:80~ app/192.0.2.2:80~")
		if !p.Override("app/192.0.2.2:80", drains(false)) {
			t.Fatal("the address is not known")
		}
		expect(t, "one of them in use", members(p), "app/192.0.2.1:80~ app/192.0.2.2:80")
		expect(t, "that one is gone", answer("192.0.2.1"), "app/192.0.2.1:80~")
		expect(t, "and back", answer("192.0.2.1", "192.0.2.2"), "app/192.0.2.1:80~ app/192.0.2.2:80")
		if got := said(p); got != "app drain=true, app/192.0.2.2:80 drain=false" {
			t.Errorf("in force: %q", got)
		}
		if err := p.Update(nil); err != nil {
			t.Fatal(err)
		}
		if got := said(p); got != "" {
			t.Errorf("outlives the name: %q", got)
		}
	})
}

// Connections of a backend that drains stay, until its drain timeout, and end at once when
// they are cut; those of others stay.
func TestOverrideEndsConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, PoolConfig{Backends: backends(1, 1), DrainTimeout: time.Minute})
		servers, start, cuts := p.snap.Load().all, time.Now(), ""
		onCut(t, p, func(s *server) { cuts += fmt.Sprint(s == servers[0].server, " after ", time.Since(start), "; ") })
		p.Override("a", drains(true))
		time.Sleep(time.Second)
		if !p.Cut("a") || p.Cut("nobody") {
			t.Error("Cut reports the wrong thing")
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if want := "true after 1s; true after 1m0.01s; "; cuts != want {
			t.Errorf("cuts: %s, want %s", cuts, want)
		}
	})
}

// Picks, updates and overrides at the same time lose nothing that was said.
func TestOverrideDuringUpdates(t *testing.T) {
	p := newPool(t, PoolConfig{Backends: backends(1, 1, 1)})
	var all sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		all.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				bs := backends(1, 1, 1)
				bs[2].Weight = n%5 + 1
				if err := p.Update(bs); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				k, _ := p.Pick(nil)
				k.Done(Success)
				p.Status()
			}
		}
	})
	for range 300 {
		drain, weight := rand.IntN(2) == 0, 1+rand.IntN(3)
		p.Override("a", drains(drain))
		p.Override("b", weighs(weight))
		i := slices.IndexFunc(p.Status().Backends, func(b BackendStatus) bool { return b.Name == "a" })
		if st := p.Status().Backends; st[i].Draining != drain || st[1].Weight != weight || st[1].ConfiguredWeight != 1 {
			t.Fatalf("a drains: %v, want %v; b weighs %d, want %d", st[i].Draining, drain, st[1].Weight, weight)
		}
	}
	close(stop)
	all.Wait()
}
