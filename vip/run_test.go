package vip

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/havip/havip/vip/internal/hook"
)

// TestCloseEndsRun: Close takes the addresses off, whoever calls it and however often,
// and Run says that it was called.
func TestCloseEndsRun(t *testing.T) {
	for _, from := range []string{"outside", "OnLost", "WatchFaults", "OnConflict"} {
		t.Run("from "+from, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newFakeKernel()
				ns := newNamespace(k, nil)
				defer ns.Close()
				cfg := Config{Interface: "eth0", Addresses: addrs(t, "192.0.2.10/24", "192.0.2.11/24"), Namespace: ns}
				var m *Manager
				var closed atomic.Bool
				shut := func() {
					if err := m.Close(); err != nil {
						t.Error(err)
					}
					closed.Store(true)
				}
				if from == "OnLost" {
					cfg.OnLost = func(error) { shut() }
				}
				if from == "OnConflict" {
					cfg.OnConflict = func(Conflict) { shut() }
				}
				m, err := NewManager(cfg)
				if err != nil {
					t.Fatal(err)
				}
				done := make(chan error, 1)
				go func() { done <- m.Run(t.Context()) }()
				synctest.Wait()
				acquire(t, m)
				switch from {
				case "outside":
					shut()
				case "OnLost":
					m.mu.Lock()
					_ = m.loseAddresses(ErrLapsed)
					m.mu.Unlock()
				case "WatchFaults":
					m.WatchFaults(func(error, []string) { shut() })
				case "OnConflict":
					time.Sleep(time.Minute)
					k.claims(2, "192.0.2.10", rivalMAC)
				}
				if err := <-done; !errors.Is(err, ErrClosed) {
					t.Errorf("Run: %v, want ErrClosed", err)
				}
				if !closed.Load() || k.has("192.0.2.10") || k.has("192.0.2.11") {
					t.Errorf("closed: %v, addresses %v", closed.Load(), k.list)
				}
				if err := m.Close(); err != nil {
					t.Errorf("a second Close: %v", err)
				}
			})
		})
	}
}

// TestCloseBeforeRun: what was acquired goes, and what may be another process's stays.
func TestCloseBeforeRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, acquired := range []bool{false, true} {
			k := newFakeKernel()
			ns := newNamespace(k, nil)
			other := on(2, "192.0.2.10/24")
			other.mark = protocol
			if !acquired {
				k.put(other, true)
			}
			m, err := NewManager(Config{Interface: "eth0", Addresses: addrs(t, "192.0.2.10/24"), Namespace: ns})
			if err != nil {
				t.Fatal(err)
			}
			if acquired {
				acquire(t, m)
			}
			if err := m.Close(); err != nil {
				t.Error(err)
			}
			if k.has("192.0.2.10") == acquired {
				t.Errorf("acquired: %v, and the address is there after Close: %v", acquired, !acquired)
			}
			ns.Close()
		}
	})
}

// TestUseAfterClose: every use is an error that says so, and adds nothing.
func TestUseAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		ns := newNamespace(k, nil)
		cfg := Config{Interface: "eth0", Addresses: addrs(t, "192.0.2.10/24"), Namespace: ns}
		m, err := NewManager(cfg)
		if err != nil {
			t.Fatal(err)
		}
		m.Close()
		ctx := t.Context()
		for name, err := range map[string]error{
			"Run": m.Run(ctx), "Acquire": m.Acquire(ctx), "Announce": m.Announce(ctx), "Release": m.Release(ctx),
			"Reconfigure": m.Reconfigure(ctx, cfg), "Check": m.Check(),
		} {
			if !errors.Is(err, ErrClosed) {
				t.Errorf("%s: %v, want ErrClosed", name, err)
			}
		}
		m.WatchFaults(func(error, []string) { t.Error("a watcher hears of a closed Manager") })()
		if s := m.Status(); s != (Status{}) || m.Lapsed() || len(m.Removals().Requests) > 0 || k.has("192.0.2.10") {
			t.Errorf("status %+v, lapsed %v, removals %v, addresses %v", s, m.Lapsed(), m.Removals(), k.list)
		}
		for range 2 {
			if err := ns.Close(); err != nil {
				t.Error(err)
			}
		}
		if _, err := NewManager(cfg); !errors.Is(err, ErrClosed) {
			t.Errorf("NewManager in a closed Namespace: %v, want ErrClosed", err)
		}
	})
}

// TestNoAcceptWithoutFilter: what is asked for and cannot be done is refused at once.
func TestNoAcceptWithoutFilter(t *testing.T) {
	defer func(open func() (hook.Filter, error)) { hook.OpenFilter = open }(hook.OpenFilter)
	hook.OpenFilter = nil
	ns := newNamespace(newFakeKernel(), nil)
	defer ns.Close()
	if _, err := NewManager(Config{Interface: "eth0", NoAccept: true, Namespace: ns}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("NewManager: %v, want ErrUnsupported", err)
	}
}

// TestNilContext: no context is an error.
func TestNilContext(t *testing.T) {
	ns := newNamespace(newFakeKernel(), nil)
	defer ns.Close()
	cfg := Config{Interface: "eth0", Namespace: ns}
	m, err := NewManager(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var none context.Context
	for name, err := range map[string]error{"Run": m.Run(none), "Acquire": m.Acquire(none), "Reconfigure": m.Reconfigure(none, cfg)} {
		if err == nil || !strings.Contains(err.Error(), "no context") {
			t.Errorf("%s: %v, want an error that there is no context", name, err)
		}
	}
	if mac := m.HardwareAddr(none, netip.MustParseAddr("192.0.2.1")); mac != nil {
		t.Errorf("HardwareAddr: %v", mac)
	}
}

// TestSecondRun: there is one Run at a time, and one in all.
func TestSecondRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ns := newNamespace(newFakeKernel(), nil)
		defer ns.Close()
		m, stop := startIn(t, Config{Addresses: addrs(t, "192.0.2.10/24"), Namespace: ns})
		if err := m.Run(t.Context()); !errors.Is(err, ErrRunning) {
			t.Errorf("a second Run: %v, want ErrRunning", err)
		}
		stop()
		if err := m.Run(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("a later Run: %v, want ErrClosed", err)
		}
	})
}

// TestCallbacks: nothing is called by NewManager, OnRemovals may ask for the removals,
// and who watches with nothing is not called.
func TestCallbacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		ns := newNamespace(k, nil)
		defer ns.Close()
		var calls atomic.Int32
		var m *Manager
		m, err := NewManager(Config{
			Interface: "eth0", Addresses: addrs(t, "192.0.2.10/24"), Namespace: ns,
			OnLost: func(error) { calls.Add(1) }, OnConflict: func(Conflict) { calls.Add(1) },
			Entitled: func() bool { calls.Add(1); return true },
			OnRemovals: func(r Removals) {
				calls.Add(1)
				if now := m.Removals(); !reflect.DeepEqual(now, r) {
					t.Errorf("Removals: %v, and OnRemovals hears %v", now, r)
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		k.changes <- change{kind: overrun}
		synctest.Wait()
		if n := calls.Load(); n != 0 {
			t.Errorf("%d calls before Run", n)
		}
		m.WatchFaults(nil)()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- m.Run(ctx) }()
		synctest.Wait()
		acquire(t, m)
		if calls.Load() == 0 || len(m.Removals().Requests) != 1 {
			t.Errorf("%d calls, removals %v", calls.Load(), m.Removals())
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
