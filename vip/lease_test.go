package vip

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

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

// TestLossIsReported: a loss that neither OnLost nor a watcher hears of ends Run.
func TestLossIsReported(t *testing.T) {
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
