package lb

import (
	"context"
	"errors"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestQueueIsServedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bs := backends(1)
		bs[0].MaxConns = 1
		p := newPool(t, PoolConfig{Backends: bs, Queue: 2, QueueTimeout: time.Minute})
		held, err := p.Acquire(t.Context(), new(Flow))
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan int, 2)
		var wg sync.WaitGroup
		defer wg.Wait()
		for i := range 2 {
			wg.Go(func() {
				k, err := p.Acquire(t.Context(), new(Flow))
				if err != nil {
					t.Error(err)
					return
				}
				served <- i
				time.Sleep(time.Second)
				k.Done(Success)
			})
			synctest.Wait()
		}
		if _, err := p.Acquire(t.Context(), new(Flow)); err != ErrBusy {
			t.Errorf("a third in a queue of two: %v, want ErrBusy at once", err)
		}
		if st := p.Status(); st.Queued != 2 || st.Waits != 2 || st.Overflow != 1 {
			t.Errorf("status %+v", st)
		}
		start := time.Now()
		held.Done(Success)
		if a, b := <-served, <-served; a != 0 || b != 1 {
			t.Errorf("served in the order %d, %d", a, b)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("the second was served after %v, want 1s", took)
		}
	})
}

func TestQueueEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bs := backends(1)
		bs[0].MaxConns = 1
		p := newPool(t, PoolConfig{Backends: bs, Queue: 10, QueueTimeout: 3 * time.Second})
		if _, err := p.Pick(new(Flow)); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := p.Acquire(t.Context(), new(Flow)); err != ErrBusy || time.Since(start) != 3*time.Second {
			t.Errorf("%v after %v, want ErrBusy after 3s", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.Acquire(ctx, new(Flow)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("context over: %v", err)
		}
		go func() {
			time.Sleep(time.Second)
			p.SetHealth("a", errDown)
		}()
		if _, err := p.Acquire(t.Context(), new(Flow)); err != ErrNoBackend {
			t.Errorf("backend down while waiting: %v, want ErrNoBackend", err)
		}
		if st := p.Status(); st.Queued != 0 {
			t.Errorf("%d still wait", st.Queued)
		}
	})
}

// A flow that has waited in vain, or whose client has left, is gone from the queue at once:
// its place is free, and it is given no backend that nobody would give back.
func TestQueueForgetsWhoIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bs := backends(1)
		bs[0].MaxConns = 1
		p := newPool(t, PoolConfig{Backends: bs, Queue: 1, QueueTimeout: 3 * time.Second})
		held, err := p.Pick(nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for _, ctx := range []context.Context{t.Context(), ctx} { // the timeout, and the end of ctx
			if k, err := p.Acquire(ctx, nil); err == nil {
				t.Errorf("picked %s, which is full", k.Backend())
			}
			if n := p.Status().Queued; n != 0 || len(p.queue.flows) != 0 {
				t.Errorf("%d wait, %d are in the queue, want none", n, len(p.queue.flows))
			}
		}
		held.Done(Success)
		if n := p.Status().Backends[0].Active; n != 0 {
			t.Errorf("%d active: who is gone has been given the backend", n)
		}
		if k, err := p.Acquire(t.Context(), nil); err != nil {
			t.Errorf("the backend is free: %q, %v", k.Backend(), err)
		}
	})
}

// A flow that is given a backend at the very moment at which it gives up has the backend:
// nobody else would give it back.
func TestQueueGivesWhatItHasServed(t *testing.T) {
	bs := backends(1)
	bs[0].MaxConns = 1
	p := newPool(t, PoolConfig{Backends: bs, Queue: 1, QueueTimeout: bound})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 { // which of the two the flow sees first is by chance
		held, err := p.Pick(nil)
		if err != nil {
			t.Fatal(err)
		}
		w := queued(t, p)
		held.Done(Neutral)
		k, err := p.await(ctx, w, nil)
		if err != nil || k.Backend() != "a" {
			t.Fatalf("got %q, %v, but has been given a", k.Backend(), err)
		}
		k.Done(Neutral)
	}
}

// A connection that ends while it waits does not keep the backend that it is given then.
func TestTCPQueueGivesBackWhatNobodyUses(t *testing.T) {
	b := talker(t, "a")
	b.MaxConns = 1
	tc := tcpWith(TCPConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{b}, Queue: 1, QueueTimeout: bound})})
	addr, _ := relay(t, tc)
	for range 20 {
		first := dialTest(t, addr)
		if _, err := io.ReadFull(first, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		dialTest(t, addr)
		waitFor(t, "the second to queue", func() bool { return tc.Pool.Status().Queued == 1 })
		tc.sessions.cut(nil) // both: the one gives the backend to the other
		waitFor(t, "the backend to be given back", func() bool {
			st := tc.Pool.Status()
			return st.Queued == 0 && st.Backends[0].Active == 0 && tc.Stats().Active == 0
		})
	}
}

// queued puts flows that have tried those backends into p's queue.
func queued(t *testing.T, p *Pool, tried ...string) *waiter {
	t.Helper()
	f := new(Flow)
	for _, name := range tried {
		f.tried[f.tries] = p.find(name).server
		f.tries++
	}
	w, err := p.enqueue(f)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// got is the backend that w was given, or what became of it otherwise.
func (w *waiter) got() string {
	select {
	case <-w.served:
		if w.err != nil {
			return w.err.Error()
		}
		return w.pick.Backend()
	default:
		return "waits"
	}
}

// Between the end of a flow and the next look at the queue others may come.
func TestNewcomersDoNotOvertakeTheQueue(t *testing.T) {
	bs := backends(1)
	bs[0].MaxConns = 1
	p := newPool(t, PoolConfig{Backends: bs, Queue: 1, QueueTimeout: bound})
	held, err := p.Pick(new(Flow))
	if err != nil {
		t.Fatal(err)
	}
	w := queued(t, p)
	held.member.active.Add(-1) // the first half of Done
	if _, err := p.pickInTurn(new(Flow)); err != ErrBusy || w.got() != "a" {
		t.Errorf("the newcomer gets %v, and who waited %s; want ErrBusy and a", err, w.got())
	}
	next := queued(t, p)
	held.member.active.Add(-1)
	if last := queued(t, p); last.got() != "waits" || next.got() != "a" {
		t.Errorf("the queue was full: the newcomer %s, and who waited %s; want that it waits, and a", last.got(), next.got())
	}
}

// A connection that comes while a backend has just become free leaves it to the
// one that waits.
func TestTCPQueueIsInOrder(t *testing.T) {
	b := talker(t, "a")
	b.MaxConns = 1
	tc := tcpWith(TCPConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{b}, Queue: 2, QueueTimeout: bound})})
	addr, _ := relay(t, tc)
	one := make([]byte, 1)
	first := dialTest(t, addr)
	if _, err := io.ReadFull(first, one); err != nil {
		t.Fatal(err)
	}
	second := dialTest(t, addr) // not before: another loop may be faster with it
	waitFor(t, "the second to queue", func() bool { return tc.Pool.Status().Queued == 1 })
	tc.Pool.snap.Load().all[0].active.Add(-1) // the first half of Done
	third := dialTest(t, addr)
	if _, err := io.ReadFull(second, one); err != nil {
		t.Errorf("the second: %v", err)
	}
	waitFor(t, "the third to queue", func() bool { st := tc.Pool.Status(); return st.Waits == 2 && st.Queued == 1 })
	second.Close()
	if _, err := io.ReadFull(third, one); err != nil {
		t.Errorf("the third: %v", err)
	}
}

// Who has tried a does not want it again, and does not keep it from the others.
func TestQueueSkipsWhoCannotUseWhatIsFree(t *testing.T) {
	bs := backends(1, 1)
	bs[0].MaxConns, bs[1].MaxConns = 1, 1
	p := newPool(t, PoolConfig{Backends: bs, Queue: 10, QueueTimeout: bound})
	var held [2]Pick
	for i := range held {
		held[i], _ = p.Pick(new(Flow))
	}
	ws := []*waiter{queued(t, p, "a"), queued(t, p, "a"), queued(t, p, "b"), queued(t, p), queued(t, p)}
	step := func(what string, want ...string) {
		t.Helper()
		var got []string
		for _, w := range ws {
			got = append(got, w.got())
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%s: %q, want %q", what, got, want)
		}
	}
	done := func(w *waiter) { w.pick.Done(Success) }
	step("all are busy", "waits", "waits", "waits", "waits", "waits")
	held[0].Done(Success)
	step("a is free", "waits", "waits", "a", "waits", "waits")
	held[1].Done(Success)
	step("b is free", "b", "waits", "a", "waits", "waits")
	done(ws[2])
	step("a is free again", "b", "waits", "a", "a", "waits")
	done(ws[0])
	step("b is free again", "b", "b", "a", "a", "waits")
	p.SetHealth("a", errDown)
	p.SetHealth("b", errDown)
	step("both are down", "b", "b", "a", "a", ErrNoBackend.Error())
	if n := p.Status().Queued; n != 0 {
		t.Errorf("%d wait", n)
	}
}

// A pick that finds no room must leave no trace that hides the room that
// another flow leaves at this moment: nobody would wake who waits for it.
func TestMaxConnsIsNotExceededForAMoment(t *testing.T) {
	m := &member{Backend: Backend{MaxConns: 1}, server: new(server)}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 500000 {
				if !m.reserve() {
					continue
				}
				if n := m.active.Load(); n > 1 {
					t.Errorf("%d connections, want at most 1", n)
					return
				}
				m.active.Add(-1)
			}
		})
	}
	wg.Wait()
	if n := m.active.Load(); n != 0 {
		t.Errorf("%d connections at the end", n)
	}
}

// Every flow is served although each backend takes but few at a time.
func TestQueueUnderLoad(t *testing.T) {
	bs := backends(1, 1)
	bs[0].MaxConns, bs[1].MaxConns = 2, 1
	p := newPool(t, PoolConfig{Backends: bs, Queue: 64, QueueTimeout: bound})
	var held []Pick
	for range 3 {
		k, err := p.Pick(new(Flow))
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, k)
	}
	var wg sync.WaitGroup
	var now [2]atomic.Int64 // flows that have the backend
	for range 64 {
		wg.Go(func() {
			for range 200 {
				k, err := p.Acquire(t.Context(), new(Flow))
				if err != nil {
					t.Error(err)
					return
				}
				i := k.member.index
				if n := now[i].Add(1); n > int64(bs[i].MaxConns) {
					t.Errorf("%d at once have %s", n, k.Backend())
				}
				runtime.Gosched()
				now[i].Add(-1)
				k.Done(Success)
			}
		})
	}
	waitFor(t, "all to queue", func() bool { return p.Status().Queued == 64 })
	for _, k := range held {
		k.Done(Success)
	}
	wg.Wait()
	st := p.Status()
	if st.Queued != 0 || st.Overflow != 0 || st.Waits < 64 {
		t.Errorf("status %+v, want none queued, none in vain, 64 that waited", st)
	}
	for _, b := range st.Backends {
		if b.Active != 0 {
			t.Errorf("%s: %d active at the end", b.Name, b.Active)
		}
	}
	if n := st.Backends[0].Picks + st.Backends[1].Picks; n != 64*200+3 {
		t.Errorf("%d picks, want %d", n, 64*200+3)
	}
}

// A flow that is served as soon as it is there dismisses nobody, although the queue has been
// made shorter than it is.
func TestServedAtOnceInAQueueThatIsTooLong(t *testing.T) {
	var free bool
	q := queue{choose: func(f *Flow) (Pick, bool, error) {
		if free && f.tries == 0 {
			return Pick{}, false, nil
		}
		return Pick{}, false, ErrBusy
	}}
	tired := func() *Flow { return &Flow{tries: 1, tried: [maxTries]*server{new(server)}} }
	for range 2 {
		if _, err := q.add(tired(), 2); err != nil {
			t.Fatal(err)
		}
	}
	free = true
	w, err := q.add(new(Flow), 1)
	if err != nil || q.waiting.Load() != 2 || q.overflow.Load() != 0 {
		t.Fatalf("%v, %d wait, %d dismissed", err, q.waiting.Load(), q.overflow.Load())
	}
	select {
	case <-w.served:
	default:
		t.Error("the new one is not served")
	}
}
