package vip

import (
	"cmp"
	"context"
	"errors"
	"slices"
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
