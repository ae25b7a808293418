package lb

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

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
		fail("a") // the trial
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

// A success within FailTimeout of a failure proves nothing: it may be that of a connection
// made before. It neither readmits the backend nor makes failures forgotten.
func TestEarlySuccessReadmitsNobody(t *testing.T) {
	for _, most := range []int{1, 2} {
		synctest.Test(t, func(t *testing.T) {
			p := newPool(t, PoolConfig{Backends: backends(1), MaxFails: most, FailTimeout: 10 * time.Second})
			pick := func() Pick {
				k, err := p.Pick(nil)
				if err != nil {
					t.Fatal(err)
				}
				return k
			}
			ejected := func(when string, want bool) {
				t.Helper()
				if got := p.find("a").ejected.Load() != 0; got != want {
					t.Errorf("%d failures: %s: ejected %v, want %v", most, when, got, want)
				}
			}
			early, late := pick(), pick()
			for range most {
				k := pick()
				k.Done(Failure)
				time.Sleep(4 * time.Second)
				early.Report(Success)
			}
			ejected("after a success 4 s after the failure", true)
			time.Sleep(6*time.Second + 1)
			late.Done(Success)
			ejected("after a success 10 s after the failure", false)
			k := pick()
			k.Done(Failure)
			ejected("after another failure, the first of a new count", most == 1)
		})
	}
}

func TestFailuresFarApartDoNotEject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, PoolConfig{Backends: backends(1, 1), MaxFails: 2, FailTimeout: time.Second})
		for range 6 {
			k, _ := p.Pick(new(Flow))
			k.Done(Failure)
			time.Sleep(600 * time.Millisecond) // 1.2 s between two failures of one backend
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

// A success soon after a failure changes nothing: it waits for nobody who changes the
// pool, which may take a while.
func TestEarlySuccessDoesNotWait(t *testing.T) {
	p := newPool(t, PoolConfig{MaxFails: 2, FailTimeout: time.Hour, Backends: backends(1)})
	for _, r := range []Result{Failure, Success} {
		k, err := p.Pick(nil)
		if err != nil {
			t.Fatal(err)
		}
		if r == Success {
			p.mu.Lock()
			defer p.mu.Unlock()
		}
		done := make(chan struct{})
		go func() {
			k.Done(r)
			close(done)
		}()
		select {
		case <-done:
		case <-time.After(bound):
			t.Fatalf("%v: it waits for the pool's lock", r)
		}
	}
}

// A connection shows at its beginning that the backend works again, in mode tcp. Its end
// may be far.
func TestConnectionEndsAnEjection(t *testing.T) {
	everyWay(t, func(t *testing.T, open func(*testTCP, ...Backend) (func() stream, func())) {
		const soon = 50 * time.Millisecond
		var log story
		p := newPool(t, PoolConfig{FailTimeout: soon, Backends: []Backend{talker(t, "a")}, Logger: log.logger(slog.LevelInfo)})
		k, err := p.Pick(nil)
		if err != nil {
			t.Fatal(err)
		}
		k.Done(Failure)
		time.Sleep(2 * soon) // the ejection is over, and a success counts
		dial, stop := open(&testTCP{TCPConfig: TCPConfig{Pool: p, ShutdownTimeout: -1}})
		defer stop()
		c := dial()
		defer c.Close()
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the backend to be readmitted", func() bool { return strings.Contains(log.String(), "backend readmitted") })
		if n := p.Status().Backends[0].Active; n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}

// A failure on probation renews the ejection, however many failures it takes otherwise.
func TestFailureOnProbationRenewsTheEjection(t *testing.T) {
	p := newPool(t, PoolConfig{MaxFails: 3, FailTimeout: time.Millisecond, Backends: backends(1, 1)})
	m := p.find("a")
	for range 3 {
		p.failed(m)
	}
	waitFor(t, "the ejection to be over", func() bool { return m.ejected.Load() < p.now() })
	time.Sleep(2 * time.Millisecond) // the failures are forgotten
	before := m.ejected.Load()
	if p.failed(m); before == 0 || m.ejected.Load() <= before || m.ejects.Load() != 1 {
		t.Errorf("ejected until %d, %d before; %d times", m.ejected.Load(), before, m.ejects.Load())
	}
}

// A success that was on its way when another connection failed proves nothing.
func TestSuccessThatWaitedForAFailure(t *testing.T) {
	p := newPool(t, PoolConfig{MaxFails: 2, FailTimeout: time.Minute, Backends: backends(1)})
	m := p.find("a")
	m.fails.Store(1)
	m.lastFail.Store(p.now() - int64(time.Hour))
	p.mu.Lock()
	done := make(chan struct{})
	go func() { p.succeeded(m); close(done) }()
	time.Sleep(5 * time.Millisecond) // it waits by now, or else it sees the failure at once
	m.lastFail.Store(p.now())
	p.mu.Unlock()
	<-done
	if n := m.fails.Load(); n != 1 {
		t.Errorf("%d failures, want 1", n)
	}
}

// Successes of a backend that has not failed wait for no change of the pool.
func TestSuccessesDoNotWait(t *testing.T) {
	p := newPool(t, PoolConfig{Backends: backends(1)})
	k, err := p.Pick(nil)
	if err != nil {
		t.Fatal(err)
	}
	k.member.lastFail.Store(p.now() - int64(time.Hour))
	p.mu.Lock()
	done := make(chan struct{})
	go func() { k.Done(Success); close(done) }()
	select {
	case <-done:
	case <-time.After(bound):
		t.Error("it waits")
	}
	p.mu.Unlock()
	<-done
}

// What happened before a backend went down says nothing after it has come up.
func TestFailuresBeforeADownAreForgotten(t *testing.T) {
	p := newPool(t, PoolConfig{MaxFails: 2, Backends: backends(1, 1)})
	m := p.find("a")
	p.failed(m)
	p.SetHealth("a", errDown)
	p.SetHealth("a", nil)
	if p.failed(m); m.ejected.Load() != 0 {
		t.Error("one failure has ejected it")
	}
}
