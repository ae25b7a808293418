package lb

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// brief is what a snapshot says of the backends, one word each.
func brief(s PoolSnapshot) string {
	var words []string
	for _, b := range s.Backends {
		w := fmt.Sprintf("%s*%d", b.Name, b.Weight)
		for _, flag := range []struct {
			set  bool
			mark string
		}{{!b.Up, "!"}, {b.Draining, "~"}, {!b.InUse, "-"}} {
			if flag.set {
				w += flag.mark
			}
		}
		words = append(words, w)
	}
	return strings.Join(words, " ")
}

// Whatever changes about a pool is in the next snapshot, and the first one is there
// when Watch returns.
func TestWatchTellsWhateverChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bs := append(backends(1, 2), Backend{Name: "spare", Address: "192.0.2.9:80", Backup: true})
		p := newPool(t, PoolConfig{Name: "web", Backends: bs})
		var got []PoolSnapshot
		stop := p.Watch(func(s PoolSnapshot) { got = append(got, s) })
		if len(got) != 1 || got[0].Name != "web" || !got[0].Quorum || got[0].Balance != RoundRobin {
			t.Fatalf("at first %+v", got)
		}
		step := func(change func(), want string) {
			t.Helper()
			change()
			synctest.Wait()
			last := brief(got[len(got)-1])
			if last != want {
				t.Errorf("got %q, want %q", last, want)
			}
		}
		step(func() {}, "a*1 b*2 spare*1-")
		step(func() { p.SetDrain("b", true) }, "a*1 b*2~- spare*1-")
		step(func() { p.SetDrain("b", false) }, "a*1 b*2 spare*1-")
		bs[0].Weight = 7
		step(func() { p.Update(bs[:1]) }, "a*7")
		step(func() { p.Reconfigure(PoolConfig{Name: "db", Balance: Maglev, Backends: bs}) }, "a*7 b*2 spare*1-")
		if s := got[len(got)-1]; s.Name != "db" || s.Balance != Maglev {
			t.Errorf("%+v", s)
		}
		n := len(got)
		p.SetHealth("a", errDown)
		p.SetHealth("b", errDown)
		synctest.Wait()
		if s := got[len(got)-1]; s.Quorum || !s.Backends[2].InUse || s.Backends[0].Up || s.Backends[0].InUse {
			t.Errorf("when all primaries are down: %+v", s)
		}
		p.SetHealth("a", errDown) // nothing new
		stop()
		p.SetHealth("a", nil)
		synctest.Wait()
		if m := len(got) - n; m < 1 || m > 2 {
			t.Errorf("%d snapshots of two changes", m)
		}
		stop() // does nothing
	})
}

// A name that resolves to another address is news.
func TestWatchTellsAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := netip.MustParseAddr("192.0.2.1")
		p := newPool(t, PoolConfig{Backends: []Backend{{Address: "app.test:80"}},
			Resolver: hostsOf(func(string) ([]string, error) {
				address := next
				next = next.Next()
				return []string{address.String()}, nil
			})})
		var got []string
		p.Watch(func(s PoolSnapshot) { got = append(got, s.Backends[0].Resolved) })
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go p.Run(ctx)
		time.Sleep(15 * time.Second)
		synctest.Wait()
		if want := []string{"app.test:80", "192.0.2.1:80", "192.0.2.2:80"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

// Who is slow holds up neither the pool nor others, and gets the last snapshot.
func TestWatchWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, PoolConfig{Backends: backends(1)})
		release := make(chan struct{})
		var slow, stopped, fast []int
		wait := func(got *[]int) func(PoolSnapshot) {
			return func(s PoolSnapshot) {
				if len(*got) > 0 {
					<-release
				}
				*got = append(*got, s.Backends[0].Weight)
			}
		}
		p.Watch(wait(&slow))
		stop := p.Watch(wait(&stopped))
		p.Watch(func(s PoolSnapshot) { fast = append(fast, s.Backends[0].Weight) })
		for weight := 2; weight <= 5; weight++ {
			p.Update(backends(weight))
			synctest.Wait()
		}
		if want := []int{1, 2, 3, 4, 5}; !slices.Equal(fast, want) {
			t.Errorf("%d, want %d", fast, want)
		}
		stop()
		close(release)
		synctest.Wait()
		if want := []int{1, 2}; !slices.Equal(stopped, want) {
			t.Errorf("who has stopped gets %d, want %d", stopped, want)
		}
		if want := []int{1, 2, 5}; !slices.Equal(slow, want) {
			t.Errorf("who is slow gets %d, want %d", slow, want)
		}
	})
}

// A function may change the pool that it watches, and may stop watching.
func TestWatchMayCallThePool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, PoolConfig{Backends: backends(1)})
		var got []int
		stop := func() {}
		stop = p.Watch(func(s PoolSnapshot) {
			w := s.Backends[0].Weight
			if got = append(got, w); w < 5 {
				p.Update(backends(w + 1))
			} else {
				stop()
			}
		})
		synctest.Wait()
		for _, w := range []int{9, 10} {
			p.Update(backends(w))
			synctest.Wait()
		}
		if want := []int{1, 2, 3, 4, 5, 9}; !slices.Equal(got, want) {
			t.Errorf("%d, want %d", got, want)
		}
	})
}

// With changes from everywhere each watcher sees them in one order, and the last.
func TestWatchIsInOrder(t *testing.T) {
	p := newPool(t, PoolConfig{Backends: backends(1, 1, 1)})
	const watchers = 4
	type seen struct {
		sync.Mutex
		weights []int
	}
	all := make([]seen, watchers)
	var stops []func()
	for i := range all {
		stops = append(stops, p.Watch(func(s PoolSnapshot) {
			all[i].Lock()
			defer all[i].Unlock()
			all[i].weights = append(all[i].weights, s.Backends[0].Weight)
		}))
	}
	var changes sync.WaitGroup
	changes.Go(func() {
		for w := range 1000 {
			p.Update(backends(w+1, 1, 1))
		}
	})
	for range 2 {
		changes.Go(func() {
			for range 1000 {
				p.SetHealth("b", map[bool]error{true: errDown}[rand.IntN(2) == 0])
				p.SetDrain("c", rand.IntN(2) == 0)
			}
		})
	}
	changes.Wait()
	for i := range all {
		waitFor(t, "the last snapshot", func() bool {
			all[i].Lock()
			defer all[i].Unlock()
			return all[i].weights[len(all[i].weights)-1] == 1000
		})
		if !slices.IsSorted(all[i].weights) {
			t.Errorf("watcher %d: out of order: %d", i, all[i].weights)
		}
		stops[i]()
	}
	if n := len(p.watchers); n != 0 {
		t.Errorf("%d watchers are left", n)
	}
}

// A snapshot does not change afterwards.
func TestSnapshotsDoNotChange(t *testing.T) {
	p := newPool(t, PoolConfig{Backends: backends(1, 2)})
	var first PoolSnapshot
	p.Watch(func(s PoolSnapshot) {
		if first.Backends == nil {
			first = s
		}
	})
	before := first
	before.Backends = slices.Clone(first.Backends)
	p.SetHealth("a", errDown)
	p.SetDrain("b", true)
	p.Update(backends(3, 4))
	if !reflect.DeepEqual(first, before) {
		t.Errorf("%+v became %+v", before, first)
	}
}
