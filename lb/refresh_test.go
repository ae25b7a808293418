package lb

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/havip/havip/internal/quietlog"
)

// many makes n backends.
func many(n int, weight func(i int) int) (bs []Backend) {
	for i := range n {
		bs = append(bs, Backend{Name: fmt.Sprint("app", i), Address: fmt.Sprintf("192.0.2.1:%d", 1+i), Weight: weight(i)})
	}
	return bs
}

// snapshots counts those that p makes.
func snapshots(log *story) int { return strings.Count(log.String(), "pool changes") }

// Thousands of backends that go down one after the other, as with a rack that loses its
// power, cost one look at all backends. Yet none is picked after it went down.
func TestManyChangesMakeOneSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 5000
		var log story
		p := newPool(t, PoolConfig{Backends: many(n, benchWeights["mixed"]), Logger: log.logger(slog.LevelDebug)})
		var seen []int // how many are up
		defer p.Watch(func(s PoolSnapshot) {
			up := 0
			for _, b := range s.Backends {
				if b.Up {
					up++
				}
			}
			seen = append(seen, up)
		})()
		down := func(from, to int, why error) {
			for i := from; i < to; i++ {
				p.SetHealth(fmt.Sprint("app", i), why)
			}
		}
		log.Reset()
		for i := range n - 1 {
			down(i, i+1, errDown)
			k, err := p.Pick(nil)
			if err != nil || k.member.index <= i {
				t.Fatalf("%d are down: picked %s, %v", i+1, k.Backend(), err)
			}
			k.Done(Neutral)
		}
		if got := snapshots(&log); got != 0 {
			t.Errorf("%d snapshots of %d changes at one moment, want them later", got, n-1)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := snapshots(&log); got != 1 {
			t.Errorf("%d snapshots of %d changes at one moment, want 1", got, n-1)
		}
		down(0, n/2, nil)
		for i := range n / 2 { // and drains are changes, too
			p.SetDrain(fmt.Sprint("app", i), true)
			p.SetDrain(fmt.Sprint("app", i), false)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := snapshots(&log); got != 2 {
			t.Errorf("%d snapshots of two rounds, want 2", got)
		}
		if want := []int{n, 1, 1 + n/2}; !slices.Equal(seen, want) {
			t.Errorf("who watches sees %d backends up, want %d", seen, want)
		}
	})
}

// In a large pool, too, what SetHealth has said is so when a pick would fail without it:
// the last resort of backups and of panic, and who comes back.
func TestNoPickFailsForWantOfASnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = maxEager + 1
		for _, queue := range []int{0, 1} {
			for _, panic := range []int{0, 50} {
				p := newPool(t, PoolConfig{Backends: many(n, benchWeights["equal"]), Panic: panic, Queue: queue})
				for i := range n {
					p.SetHealth(fmt.Sprint("app", i), errDown)
				}
				k, err := p.Acquire(t.Context(), nil)
				if panic == 0 && err != ErrNoBackend || panic != 0 && err != nil {
					t.Errorf("all are down, panic %d: picked %q, %v", panic, k.Backend(), err)
				}
				k.Done(Neutral)
				p.SetHealth("app7", nil)
				if k, err := p.Acquire(t.Context(), nil); panic == 0 && k.Backend() != "app7" || err != nil {
					t.Errorf("app7 is up, panic %d: picked %q, %v", panic, k.Backend(), err)
				}
				if st := p.Status(); st.Panic != (panic > 0) || !st.Backends[7].InUse || st.Quorum != true {
					t.Errorf("the status says panic %v, quorum %v, %+v", st.Panic, st.Quorum, st.Backends[7])
				}
			}
		}
	})
}

// A flow that waits is not turned away for want of a snapshot.
func TestQueueWaitsForTheSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bs := many(maxEager+1, benchWeights["equal"])
		for i := range bs {
			bs[i].MaxConns = 1
		}
		p := newPool(t, PoolConfig{Backends: bs, Panic: 50, Queue: 1})
		var held []Pick
		for range bs {
			k, err := p.Pick(nil)
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, k)
		}
		w := queued(t, p)
		for _, b := range bs {
			p.SetHealth(b.Name, errDown)
		}
		p.queue.serve() // as if a connection had ended, without room for another one
		if got := w.got(); got != "waits" {
			t.Errorf("who waits gets %s", got)
		}
		held[3].Done(Neutral)
		time.Sleep(time.Second)
		synctest.Wait()
		if got := w.got(); got != held[3].Backend() {
			t.Errorf("who waits gets %s, want %s: there is panic", got, held[3].Backend())
		}
	})
}

// meddler is a Balancer during whose first choice, of nobody, something happens.
type meddler struct{ happens func() }

func (m *meddler) Pick(Flow, []Candidate) int {
	happens := m.happens
	if m.happens = nil; happens == nil {
		return 0
	}
	happens()
	return -1
}

// A snapshot that takes the place of another one while a flow finds nothing there is asked
// too: nobody is turned away while a backend is up.
func TestNoPickFailsWhileTheSnapshotChanges(t *testing.T) {
	for _, waits := range []bool{false, true} {
		var m meddler
		p := newPool(t, PoolConfig{Balancer: &m, Backends: many(maxEager+1, benchWeights["equal"]), Queue: 1})
		for i := range maxEager {
			p.SetHealth(fmt.Sprint("app", i+1), errDown)
		}
		p.refresh()
		var w *waiter
		if waits {
			w = &waiter{flow: new(Flow), served: make(chan struct{})}
			p.queue.flows = append(p.queue.flows, w)
			p.queue.waiting.Add(1)
		}
		published := make(chan struct{})
		m.happens = func() {
			p.SetHealth("app7", nil)
			p.SetHealth("app0", errDown)
			go func() {
				defer close(published)
				p.refresh()
			}()
			waitFor(t, "a snapshot", func() bool { return !p.stale() })
		}
		if !waits {
			if k, err := p.Pick(nil); k.Backend() != "app7" {
				t.Errorf("picked %q, %v; want app7, which is up", k.Backend(), err)
			}
		} else {
			p.queue.serve()
		}
		<-published
		if waits && w.got() != "app7" {
			t.Errorf("who waits gets %s, want app7, which is up", w.got())
		}
	}
}

// The moment between the end of the last backend that is up and the snapshot in which there
// is panic fails no pick, and turns away nobody who waits.
func TestNoPickFailsBeforeTheSnapshot(t *testing.T) {
	for name, end := range map[string]func(*Pool){
		"down":  func(p *Pool) { p.SetHealth("b", errDown) },
		"drain": func(p *Pool) { p.SetDrain("b", true) },
	} {
		bs := backends(1, 1)
		bs[0].MaxConns, bs[1].MaxConns = 2, 1
		p := newPool(t, PoolConfig{Panic: 50, Queue: 1, Backends: bs})
		p.SetHealth("a", errDown)
		if _, err := p.Pick(nil); err != nil {
			t.Fatal(err)
		}
		w := queued(t, p) // b is full
		var once sync.Once
		picked := make(chan string)
		p.log = slog.New(quietlog.Unblocked(logFunc(func(slog.Record) {
			once.Do(func() { // in the midst of the change
				p.queue.serve()
				began := make(chan struct{})
				go func() {
					close(began)
					k, err := p.Pick(nil)
					picked <- fmt.Sprint(k.Backend(), err)
				}()
				<-began
				time.Sleep(time.Millisecond) // to see what comes of it at once, if anything does
			})
		})))
		end(p)
		if got := <-picked; got != "a<nil>" {
			t.Errorf("%s: picked %s, want a: there is panic", name, got)
		}
		if got := w.got(); got != "a" {
			t.Errorf("%s: who waits gets %s, want a: there is panic", name, got)
		}
	}
}

// In a large pool, too, a flow is not turned away by backends that are full when another one
// is up.
func TestNoPickIsBusyForWantOfASnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bs := many(maxEager+1, benchWeights["equal"])
		bs[0].MaxConns = 1
		p := newPool(t, PoolConfig{Backends: bs})
		for _, b := range bs[1:] {
			p.SetHealth(b.Name, errDown)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if k, err := p.Pick(nil); k.Backend() != "app0" {
			t.Fatalf("picked %q, %v", k.Backend(), err)
		}
		p.SetHealth("app7", nil)
		if k, err := p.Pick(nil); k.Backend() != "app7" {
			t.Errorf("picked %q, %v; want app7, which is up", k.Backend(), err)
		}
	})
}

// passes counts how often a plane has to look through its connections.
type passes struct{ n, servers int }

func (p *passes) cut(gone servers) {
	p.n++
	p.servers += len(gone)
}

// The backends of a large pool that go down, or whose drains are over, one after the other,
// are cut in one pass through the connections.
func TestManyCutsAreOnePass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = maxEager + 100
		p := newPool(t, PoolConfig{Backends: many(n, benchWeights["equal"]), KillOnDown: true, DrainTimeout: time.Minute})
		r, seen := new(registry), new(passes)
		r.add(seen)
		p.watchGone(r)
		defer runtime.KeepAlive(r)
		for i := range n / 2 {
			p.SetHealth(fmt.Sprint("app", i), errDown)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if *seen != (passes{1, n / 2}) {
			t.Errorf("after %d went down: %+v, want one pass", n/2, *seen)
		}
		for i := range n / 2 {
			p.SetDrain(fmt.Sprint("app", n/2+i), true)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if *seen != (passes{2, n / 2 * 2}) {
			t.Errorf("after %d more have drained: %+v, want one more pass", n/2, *seen)
		}
		if err := p.Update(nil); err != nil { // a small pool with many backends that drain
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if *seen != (passes{3, n / 2 * 3}) {
			t.Errorf("after the rest were removed: %+v, want one more pass", *seen)
		}
		if p.gone != nil || p.soon != nil {
			t.Error("something is left to be cut")
		}
	})
}

// Whatever happens in whatever order, in the end the snapshot and the counts are those that
// a look at all backends gives. Small pools become large ones, and the other way round.
func TestCountsAndSnapshotsAreTrue(t *testing.T) {
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			all := many(maxEager+20, benchWeights["mixed"])
			cfg := PoolConfig{Backends: all, MaxFails: 1, Quorum: 100, Panic: 20}
			p := newPool(t, cfg)
			var wg sync.WaitGroup
			for range 4 {
				rnd := rand.New(rand.NewPCG(rnd.Uint64(), 0))
				wg.Go(func() {
					for range 200 {
						b := all[rnd.IntN(len(all))].Name
						switch rnd.IntN(12) {
						case 0:
							if err := p.Update(all[:len(all)-rnd.IntN(40)]); err != nil {
								t.Error(err)
							}
						case 1, 2, 3, 4:
							p.SetHealth(b, errDown)
						case 5, 6:
							p.SetHealth(b, nil)
						case 7:
							p.SetDrain(b, rnd.IntN(2) == 0)
						case 8:
							time.Sleep(time.Duration(rnd.IntN(20)) * time.Millisecond)
						default:
							if k, err := p.Pick(nil); err == nil {
								k.Done(Result(rnd.IntN(3)))
							} else if !errors.Is(err, ErrNoBackend) {
								t.Error(err)
							}
						}
					}
				})
			}
			wg.Wait()
			time.Sleep(time.Second)
			synctest.Wait()
			p.mu.Lock()
			defer p.mu.Unlock()
			s := p.snap.Load()
			var want census
			for _, m := range s.all {
				want[m.state()]++
			}
			if p.census != want {
				t.Errorf("seed %d: the census says %d, want %d", seed, p.census, want)
			}
			fresh := p.newSnapshot(s.roster)
			for i := range s.tiers {
				if !slices.Equal(s.tiers[i].live, fresh.tiers[i].live) {
					t.Errorf("seed %d: %d backends in tier %d, want %d", seed, len(s.tiers[i].live), i, len(fresh.tiers[i].live))
				}
			}
			if s.panic != fresh.panic || s.quorum != fresh.quorum {
				t.Errorf("seed %d: panic %v, quorum %v, want %v, %v", seed, s.panic, s.quorum, fresh.panic, fresh.quorum)
			}
		})
	}
}

// While an Update makes tables for thousands, changes of health do not wait: that is done
// before the pool is locked.
func TestSetHealthDoesNotWaitForUpdate(t *testing.T) {
	bs := many(maxEager+1, benchWeights["equal"])
	p := newPool(t, PoolConfig{Balance: Maglev, Backends: bs})
	p.building.Lock() // where an Update is when it has a roster
	bs[0].Weight = 2
	updated := make(chan error)
	go func() { updated <- p.Update(bs) }()
	waitFor(t, "Update to begin", func() bool {
		free := p.updating.TryLock()
		if free {
			p.updating.Unlock()
		}
		return !free
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 100 {
			p.SetHealth("app3", errDown)
			p.SetHealth("app3", nil)
			p.SetHealth("app4", errDown)
		}
	}()
	select {
	case <-done:
	case <-time.After(bound):
		t.Error("SetHealth waits for Update")
	}
	p.building.Unlock()
	if err := <-updated; err != nil {
		t.Error(err)
	}
	if st := p.Status().Backends; st[0].Weight != 2 || !st[3].Up || !st[3].InUse || st[4].Up || st[4].InUse {
		t.Error("the next roster does not know what SetHealth said")
	}
}

// A table is made once for all changes that leave names and weights alone.
func TestTablesAreMadeOnce(t *testing.T) {
	bs := many(300, benchWeights["equal"])
	p := newPool(t, PoolConfig{Balance: Maglev, Backends: bs})
	table := func() *uint32 { return &p.snap.Load().tables[0][0] }
	before := table()
	bs[3].Address, bs[4].MaxConns = "192.0.2.9:80", 5
	if err := p.Reconfigure(PoolConfig{Balance: KeyHash, Backends: bs, Panic: 10}); err != nil || table() != before {
		t.Errorf("%v; or another table of the same names and weights", err)
	}
	bs[5].Weight = 2
	if err := p.Update(bs); err != nil || table() == before {
		t.Errorf("%v; or the same table of another weight", err)
	}
}

// A small pool that becomes a large one while it loses its quorum does not forget that: within
// the hysteresis the quorum stays lost.
func TestQuorumIsLostWhileAPoolGrows(t *testing.T) {
	bs := many(maxEager+1, benchWeights["equal"])
	for i := range bs {
		bs[i].Drain = i >= 4
	}
	cfg := PoolConfig{Quorum: 3, Hysteresis: 1, Backends: bs[:4]}
	p := newPool(t, cfg)
	r := newRoster(p.snap.Load().all, p.config(), nil)
	r.all = append(slices.Clip(r.all), make([]*member, maxEager)...)
	for i := range r.all[4:] {
		r.all[4+i] = &member{Backend: bs[4], server: new(server)}
	}
	s := p.buildAhead(r)
	for _, b := range bs[:3] {
		p.SetHealth(b.Name, errDown)
	}
	p.SetHealth(bs[0].Name, nil)
	p.SetHealth(bs[1].Name, nil)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.snap.Load().quorum {
		t.Fatal("there is a quorum, want it lost: 3 of 4 are up, which regain it at 4")
	}
	p.publish(r, s)
	if p.snap.Load().quorum {
		t.Error("the quorum is back with 3 of 4")
	}
}

func BenchmarkSetHealth(b *testing.B) {
	for _, n := range []int{maxEager, 500, 5000} {
		for _, name := range []string{"equal", "mixed"} {
			b.Run(fmt.Sprintf("%d %s", n, name), func(b *testing.B) {
				bs := many(n, benchWeights[name])
				p := newPool(b, PoolConfig{Backends: bs})
				for i := 0; b.Loop(); i++ {
					p.SetHealth(bs[i%n].Name, health(i/n%2 == 1))
				}
			})
		}
	}
}

func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{500, 5000} {
		for _, balance := range []Balance{RoundRobin, Maglev} {
			b.Run(fmt.Sprintf("%d %s", n, balance), func(b *testing.B) {
				bs := many(n, benchWeights["mixed"])
				p := newPool(b, PoolConfig{Balance: balance, Backends: bs})
				for b.Loop() {
					if err := p.Update(bs); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
