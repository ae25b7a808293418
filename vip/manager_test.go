package vip

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// start runs a Manager on a fake kernel until the test ends.
func start(t *testing.T, k *fakeKernel, cfg Config) *Manager {
	t.Helper()
	ns := newNamespace(k, cfg.Logger)
	cfg.Namespace = ns
	m, stop := startIn(t, cfg)
	t.Cleanup(func() {
		stop()
		ns.Close()
	})
	return m
}

// plain is a test's configuration: on eth0, and without a lease unless it has one.
// The test itself looks whether addresses are lost.
func plain(cfg Config) Config {
	cfg.Interface = cmp.Or(cfg.Interface, "eth0")
	cfg.Lease = cmp.Or(cfg.Lease, -1)
	if cfg.OnLost == nil {
		cfg.OnLost = func(error) {}
	}
	return cfg
}

// startIn runs a Manager in a Namespace until stop is called.
func startIn(t *testing.T, cfg Config) (m *Manager, stop func()) {
	t.Helper()
	m, err := NewManager(plain(cfg))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	synctest.Wait()
	return m, stop
}

// kill ends a Manager as the end of its process does: its addresses stay.
func kill(m *Manager) {
	m.mu.Lock()
	m.held = false
	m.mu.Unlock()
	m.Close()
}

func acquire(t *testing.T, m *Manager) {
	t.Helper()
	if err := m.Acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

func TestLifecycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		k.put(on(2, "192.0.2.1/24"), false)
		k.put(our(2, "192.0.2.10/24"), false)
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24")})
		if k.has("192.0.2.10") {
			t.Error("a predecessor's address is still there after the start")
		}
		acquire(t, m)
		if !k.has("192.0.2.10") || !m.Status().Held {
			t.Error("address not there after Acquire")
		}
		if err := m.Release(t.Context()); err != nil || k.has("192.0.2.10") || m.Status().Held {
			t.Errorf("address still there after Release (error %v)", err)
		}
		if !k.has("192.0.2.1") {
			t.Error("the host's own address has gone")
		}
	})
}

func TestRunRemovesAddressesAtExit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		ns := newNamespace(k, nil)
		defer ns.Close()
		m, err := NewManager(Config{Interface: "eth0", Addresses: addrs(t, "192.0.2.10"), Namespace: ns})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- m.Run(ctx) }()
		synctest.Wait()
		acquire(t, m)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if k.has("192.0.2.10") {
			t.Error("the address outlived Run")
		}
		if err := m.Acquire(t.Context()); !errors.Is(err, ErrClosed) || k.has("192.0.2.10") {
			t.Errorf("Acquire after Run: error %v, want ErrClosed", err)
		}
	})
}

func TestReconcile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24", "2001:db8::10/64")})
		k.put(our(2, "192.0.2.10/32"), false)
		time.Sleep(100 * time.Millisecond)
		if k.has("192.0.2.10") {
			t.Error("an address that appeared while it is not held was not removed")
		}
		acquire(t, m)
		for range 3 {
			k.remove(on(2, "192.0.2.10/24"))
			time.Sleep(100 * time.Millisecond)
			if !k.has("192.0.2.10") {
				t.Fatal("an address that was removed is not back")
			}
		}
		want := Status{Held: true, Reinstated: 3, Removed: 1}
		if got := m.Status(); got != want {
			t.Errorf("status %+v, want %+v", got, want)
		}
	})
}

// A failure that goes away when one looks again is no loss.
func TestReinstateAgain(t *testing.T) {
	for failures, lost := range map[int]bool{1: false, 2: false, 3: true} {
		synctest.Test(t, func(t *testing.T) {
			k := newFakeKernel()
			m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24")})
			acquire(t, m)
			left := failures
			k.hooked(func(op string) error {
				if op == "put" && left > 0 {
					left--
					return syscall.EINVAL
				}
				return nil
			})
			k.remove(on(2, "192.0.2.10/24"))
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			if m.Status().Held == lost || k.has("192.0.2.10") == lost {
				t.Errorf("after %d failures: held %v, want lost %v", failures, m.Status().Held, lost)
			}
		})
	}
}

// Two programs that want opposite things must not keep the machine busy.
func TestFightCostsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24")})
		acquire(t, m)
		for range 10_000 {
			k.remove(on(2, "192.0.2.10/24"))
			time.Sleep(100 * time.Microsecond)
		}
		if n := k.written(); n > 110 {
			t.Errorf("address was written %d times in a second, want about 100", n)
		}
	})
}

func TestLostNotifications(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24")})
		acquire(t, m)
		k.mu.Lock()
		k.list = nil // nobody is told
		k.mu.Unlock()
		k.changes <- change{kind: overrun}
		time.Sleep(100 * time.Millisecond)
		if !k.has("192.0.2.10") {
			t.Error("address not back after notifications were lost")
		}
	})
}

func TestLeaseIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24"), Lease: 3 * time.Second})
		acquire(t, m)
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			if !k.has("192.0.2.10") {
				t.Fatal("a held address lapsed")
			}
		}
		// 3 s, renewed four times as often: 13 renewals in 10 s.
		if n := k.written(); n != 14 {
			t.Errorf("address was written %d times, want 14", n)
		}
		if s := m.Status(); s.Reinstated != 0 || s.Lost != 0 {
			t.Errorf("status %+v: renewals are neither a loss nor a reinstatement", s)
		}
		m.Release(t.Context())
		n := k.written()
		time.Sleep(time.Minute)
		if k.written() != n {
			t.Error("the lease is renewed after Release")
		}
	})
}

// TestLossIsHeard: a loss that neither OnLost nor a watcher hears of ends Run.
func TestLossIsHeard(t *testing.T) {
	for name, tt := range map[string]struct {
		onLost, watched, ends bool
	}{"by nobody": {ends: true}, "by OnLost": {onLost: true}, "by a watcher": {watched: true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newFakeKernel()
				ns := newNamespace(k, nil)
				defer ns.Close()
				cfg := Config{Interface: "eth0", Addresses: addrs(t, "192.0.2.10/24"), Namespace: ns}
				if tt.onLost {
					cfg.OnLost = func(error) {}
				}
				m, err := NewManager(cfg)
				if err != nil {
					t.Fatal(err)
				}
				if tt.watched {
					m.WatchFaults(func(error, []string) {})()
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- m.Run(ctx) }()
				synctest.Wait()
				acquire(t, m)
				k.mu.Lock()
				k.links = nil
				k.mu.Unlock()
				k.changes <- change{kind: linkChanged, index: 2, name: "eth0"}
				time.Sleep(time.Second)
				synctest.Wait()
				if got := len(done) > 0; got != tt.ends {
					t.Errorf("Run has ended: %v, want %v", got, tt.ends)
				}
				cancel()
				if err := <-done; errors.Is(err, ErrNoInterface) != tt.ends {
					t.Errorf("Run: %v", err)
				}
			})
		})
	}
}

// A process that was frozen learns that its lease lapsed before it adds
// anything, wherever the freeze caught it.
func TestLapsedLease(t *testing.T) {
	for _, frozen := range []string{"link", "addresses", "put"} {
		t.Run("frozen in "+frozen, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newFakeKernel()
				var lost error
				m := start(t, k, Config{
					Addresses: addrs(t, "192.0.2.10/24"),
					Lease:     time.Second,
					OnLost:    func(err error) { lost = err },
				})
				acquire(t, m)
				once := true
				k.hooked(func(op string) error {
					if op == frozen && once {
						once = false
						time.Sleep(5 * time.Second)
					}
					return nil
				})
				k.changes <- change{kind: overrun} // have a look at once
				time.Sleep(time.Minute)
				synctest.Wait()
				if once {
					t.Fatal("the freeze did not happen")
				}
				if !errors.Is(lost, ErrLapsed) {
					t.Errorf("OnLost was told %v, want ErrLapsed", lost)
				}
				if s := m.Status(); s.Held || s.Lost != 1 || k.has("192.0.2.10") {
					t.Errorf("status %+v, want lost once and nothing there", s)
				}
				acquire(t, m)
				if !k.has("192.0.2.10") {
					t.Error("the next Acquire does not work")
				}
			})
		})
	}
}

func TestLapsedWhileAcquiring(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24", "192.0.2.11/24"), Lease: time.Second})
		k.hooked(func(op string) error {
			if op == "put" {
				time.Sleep(600 * time.Millisecond)
			}
			return nil
		})
		if err := m.Acquire(t.Context()); !errors.Is(err, ErrLapsed) {
			t.Errorf("Acquire: %v, want ErrLapsed", err)
		}
		if k.has("192.0.2.10") || k.has("192.0.2.11") {
			t.Error("addresses are left after a failed Acquire")
		}
	})
}

// TestNoPutAfterTheLease: who was frozen while it put one of several addresses puts
// none of the others: by then they may be another host's.
func TestNoPutAfterTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24", "192.0.2.11/24"), Lease: time.Second})
		puts := 0
		k.hooked(func(op string) error {
			if op == "put" {
				if puts++; puts == 1 {
					time.Sleep(time.Second)
				}
			}
			return nil
		})
		if err := m.Acquire(t.Context()); !errors.Is(err, ErrLapsed) {
			t.Errorf("Acquire: %v, want ErrLapsed", err)
		}
		if puts != 1 {
			t.Errorf("%d addresses were put, want only the one that took as long as the lease", puts)
		}
	})
}

func TestRenewalFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		losses := 0
		m := start(t, k, Config{
			Addresses: addrs(t, "192.0.2.10/24"), Lease: 2 * time.Second,
			OnLost: func(error) { losses++ },
		})
		acquire(t, m)
		k.failing("put", syscall.ENOBUFS)
		time.Sleep(time.Second)
		if !m.Status().Held {
			t.Error("lost before the lease is over")
		}
		k.failing("", nil)
		time.Sleep(10 * time.Second)
		if !m.Status().Held || !k.has("192.0.2.10") || losses != 0 {
			t.Error("a renewal that failed for a while is not made up for")
		}
		k.failing("put", syscall.ENOBUFS)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if m.Status().Held || losses != 1 {
			t.Errorf("held %v, %d losses; want one loss", m.Status().Held, losses)
		}
	})
}

func TestInterfaceVanishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		var lost error
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24"), OnLost: func(err error) { lost = err }})
		acquire(t, m)
		k.mu.Lock()
		k.links, k.list = nil, nil
		k.mu.Unlock()
		k.changes <- change{kind: linkChanged, name: "eth0"}
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if !errors.Is(lost, ErrNoInterface) {
			t.Errorf("OnLost was told %v, want ErrNoInterface", lost)
		}
		if err := m.Acquire(t.Context()); !errors.Is(err, ErrNoInterface) {
			t.Errorf("Acquire: %v, want ErrNoInterface", err)
		}
		if err := m.Release(t.Context()); err != nil {
			t.Errorf("Release: %v; there is nothing to remove", err)
		}
		k.mu.Lock()
		k.links = []link{{index: 7, name: "eth0", mac: testMAC, up: true, ethernet: true}}
		k.mu.Unlock()
		acquire(t, m)
		if !k.has("192.0.2.10") {
			t.Error("address is not on the interface that was made anew")
		}
	})
}

func TestAcquireIsAllOrNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24", "2001:db8::1/64")})
		n := 0
		k.hooked(func(op string) error {
			if op != "put" {
				return nil
			}
			if n++; n == 2 {
				return syscall.EACCES
			}
			return nil
		})
		if err := m.Acquire(t.Context()); !errors.Is(err, syscall.EACCES) {
			t.Errorf("Acquire: %v, want EACCES", err)
		}
		if k.has("192.0.2.10") || m.Status().Held {
			t.Error("half of the addresses are held")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := m.Acquire(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Acquire with an ended context: %v", err)
		}
	})
}

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

// TestNoAddresses: a Manager that has nothing to hold holds it, at rest, until it
// is given addresses, and after they were taken from it.
func TestNoAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		m := start(t, k, Config{NoAccept: true, Lease: time.Second})
		rest := func() {
			t.Helper()
			time.Sleep(time.Minute)
			if s := m.Status(); k.sent() > 0 || s != (Status{Held: true}) {
				t.Errorf("%d frames were sent, status %+v", k.sent(), s)
			}
		}
		acquire(t, m)
		if err := m.Announce(t.Context()); err != nil {
			t.Fatal(err)
		}
		rest()
		if err := m.Reconfigure(t.Context(), with(m, addrs(t, "192.0.2.10/24"), nil)); err != nil || !k.has("192.0.2.10") {
			t.Errorf("given an address: %v", err)
		}
		time.Sleep(time.Minute)
		if k.sent() == 0 {
			t.Error("the address was not announced")
		}
		if err := m.Reconfigure(t.Context(), with(m, nil, nil)); err != nil || k.has("192.0.2.10") {
			t.Errorf("the address was taken away: %v", err)
		}
		n := k.sent()
		if time.Sleep(time.Minute); k.sent() != n {
			t.Error("an address that has gone was announced")
		}
		if err := m.Release(t.Context()); err != nil || m.Status().Held {
			t.Errorf("Release: %v", err)
		}
	})
}

func TestReconfigure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24", "192.0.2.11/24"), Announce: Schedule{Burst: 1, Rounds: []time.Duration{0}}})
		route := Route{Destination: prefix("198.51.100.0/24"), Interface: "eth0"}
		update := func(routes []Route, list ...string) {
			t.Helper()
			if err := m.Reconfigure(t.Context(), with(m, addrs(t, list...), routes)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		want := func(routes int, list ...string) {
			t.Helper()
			time.Sleep(time.Second)
			for _, a := range []string{"192.0.2.10", "192.0.2.11", "192.0.2.12"} {
				if k.has(a) != slices.Contains(list, a) {
					t.Errorf("%s is there: %v", a, k.has(a))
				}
			}
			if len(k.routes) != routes {
				t.Errorf("%d routes, want %d", len(k.routes), routes)
			}
		}
		update([]Route{route}, "192.0.2.10/24", "192.0.2.12/24")
		want(0) // nothing is held

		acquire(t, m)
		want(1, "192.0.2.10", "192.0.2.12")
		dropped := false
		k.hooked(func(op string) error { dropped = dropped || op == "remove"; return nil })
		before := k.sent()
		update(nil, "192.0.2.10/24", "192.0.2.11/24", "192.0.2.12/24")
		want(0, "192.0.2.10", "192.0.2.11", "192.0.2.12")
		if dropped {
			t.Error("an address that stays was removed")
		}
		if got := k.sent() - before; got != 6 {
			t.Errorf("%d announcements, want 6", got)
		}
		update(nil, "192.0.2.11/24")
		want(0, "192.0.2.11")
		if s := m.Status(); s.Reinstated != 0 || s.Removed != 0 || s.Lost != 0 {
			t.Errorf("status %+v", s)
		}

		// What is watched for is what is configured now.
		k.remove(on(2, "192.0.2.11/24"))
		want(0, "192.0.2.11")
		k.put(on(2, "192.0.2.10/24"), false)
		want(0, "192.0.2.10", "192.0.2.11") // somebody else's by now

		if err := m.Reconfigure(t.Context(), with(m, make([]Address, 1), nil)); err == nil {
			t.Error("an update with an invalid address is accepted")
		}
		want(0, "192.0.2.10", "192.0.2.11")
		k.failing("put", syscall.EPERM)
		if err := m.Reconfigure(t.Context(), with(m, addrs(t, "192.0.2.11/24", "192.0.2.12/24"), nil)); !errors.Is(err, syscall.EPERM) {
			t.Errorf("Reconfigure: %v, want EPERM", err)
		}
		want(0, "192.0.2.10", "192.0.2.11")
		if want := (Status{Held: true, Reinstated: 1}); m.Status() != want {
			t.Errorf("status %+v, want %+v", m.Status(), want)
		}
	})
}

// TestFailureOutsideRun: what Release could not remove is removed a second later,
// although it is not Run that has failed.
func TestFailureOutsideRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24")})
		acquire(t, m)
		time.Sleep(patrol + patrol/2)
		k.failing("remove", syscall.ENOBUFS)
		if m.Release(t.Context()) == nil {
			t.Fatal("Release has not failed")
		}
		k.failing("", nil)
		time.Sleep(again)
		synctest.Wait()
		if k.has("192.0.2.10") {
			t.Error("the address is still there")
		}
	})
}
