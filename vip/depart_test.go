package vip

import (
	"errors"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// lifetime is what the kernel has as the lifetime of its only address.
func (k *fakeKernel) lifetime(t *testing.T) time.Duration {
	t.Helper()
	list, err := k.addresses()
	if err != nil || len(list) != 1 {
		t.Fatalf("%v (%v), want one address", list, err)
	}
	return list[0].valid
}

// TestDepart: in a hand-over an address outlives a process that is not run by a second, or
// by a quarter of the hand-over. A process that runs keeps the address, and what follows the
// hand-over has the configured lease again.
func TestDepart(t *testing.T) {
	for name, tc := range map[string]struct{ lease, within, want time.Duration }{
		"interval of 1 s":    {3 * time.Second, 1200 * time.Millisecond, time.Second},
		"interval of 10 ms":  {time.Second, 210 * time.Millisecond, time.Second},
		"interval of 40 s":   {120 * time.Second, 40200 * time.Millisecond, 10 * time.Second},
		"shorter than ever":  {2 * time.Second, time.Minute, 2 * time.Second},
		"addresses for good": {-1, time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newFakeKernel()
				cfg := Config{Addresses: addrs(t, "192.0.2.10/24"), Lease: tc.lease}
				m := start(t, k, cfg)
				configured := max(0, tc.lease)
				for _, ends := range []func() error{
					func() error { return m.Announce(t.Context()) },
					func() error { return errors.Join(m.Release(t.Context()), m.Acquire(t.Context())) },
				} {
					acquire(t, m)
					time.Sleep(max(configured, 20*time.Second) * 99 / 100) // a while after a renewal, and all rounds
					said := k.sent()
					if err := m.Depart(t.Context(), tc.within); err != nil {
						t.Fatal(err)
					}
					if got := k.lifetime(t); got != tc.want {
						t.Errorf("lifetime %v in a hand-over, want %v", got, tc.want)
					}
					if k.sent() != said {
						t.Error("the address is announced, though it was here all the time")
					}
					if err := m.Reconfigure(t.Context(), m.cfg); err != nil {
						t.Fatal(err)
					}
					time.Sleep(10 * time.Second)
					if got := k.lifetime(t); got != tc.want {
						t.Errorf("lifetime %v later, want %v", got, tc.want)
					}
					if err := ends(); err != nil {
						t.Fatal(err)
					}
					if got := k.lifetime(t); got != configured {
						t.Errorf("lifetime %v after the hand-over, want %v", got, configured)
					}
				}
				time.Sleep(time.Minute)
				if s := m.Status(); !s.Held || s.Reinstated != 0 || s.Lost != 0 {
					t.Errorf("status %+v, want nothing lost at any time", s)
				}
			})
		})
	}
}

// TestDepartFrozen: a process that is not run in a hand-over has no address soon, and adds
// none when it is run again.
func TestDepartFrozen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		var lost error
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24"), Lease: 3 * time.Second, OnLost: func(err error) { lost = err }})
		acquire(t, m)
		time.Sleep(700 * time.Millisecond)
		if err := m.Depart(t.Context(), 1200*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		once := true
		k.hooked(func(op string) error {
			if op == "put" && once {
				once = false
				time.Sleep(5 * time.Second)
			}
			return nil
		})
		time.Sleep(1250 * time.Millisecond)
		if k.has("192.0.2.10") {
			t.Error("the address is still there")
		}
		if !m.Lapsed() {
			t.Error("the lease has not lapsed")
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if m.Status().Held || k.has("192.0.2.10") || !errors.Is(lost, ErrLapsed) {
			t.Errorf("held %v, lost: %v", m.Status().Held, lost)
		}
	})
}

// TestDepartFails: a lease that cannot be shortened counts as short all the same. An
// address that is not here, or that was lost, is not announced.
func TestDepartFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24"), Lease: 3 * time.Second, OnLost: func(error) {}})
		if err := m.Depart(t.Context(), time.Second); err != nil || k.written() != 0 {
			t.Errorf("Depart of a Backup: %v, %d writes", err, k.written())
		}
		acquire(t, m)
		k.failing("put", syscall.ENOBUFS)
		if err := m.Depart(t.Context(), time.Second); !errors.Is(err, syscall.ENOBUFS) {
			t.Errorf("Depart: %v", err)
		}
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if m.Status().Held {
			t.Error("the addresses are kept for longer than the lease")
		}
	})
}
