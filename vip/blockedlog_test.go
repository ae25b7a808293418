package vip

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/havip/havip/internal/quietlog/quietlogtest"
)

// TestBlockedLogger: a Manager whose logger does not return puts back what goes,
// renews, reports conflicts and losses, and lets go, as any other.
func TestBlockedLogger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		let := make(chan struct{})
		defer close(let)
		var conflicts, losses atomic.Int32
		m := start(t, k, Config{
			Addresses: addrs(t, "192.0.2.10/24"), Lease: 3 * time.Second,
			OnConflict: func(Conflict) { conflicts.Add(1) },
			OnLost:     func(error) { losses.Add(1) },
			Logger:     quietlogtest.Blocked(let),
		})
		acquire(t, m)
		time.Sleep(takeoverTime)
		for range 5 {
			k.changes <- change{kind: overrun}
			k.remove(on(2, "192.0.2.10/24"))
			k.heard <- sighting{index: 2, addr: addrs(t, "192.0.2.10")[0].Prefix.Addr(), mac: []byte{2, 0, 0, 0, 0, 9}, time: time.Now()}
			time.Sleep(10100 * time.Millisecond) // no renewal comes at the same moment
			if !k.has("192.0.2.10") {
				t.Fatal("an address that was removed is not back, or was not renewed")
			}
		}
		if s := m.Status(); s.Reinstated != 5 || conflicts.Load() != 5 {
			t.Errorf("%d reinstated, %d conflicts reported, want 5 each", s.Reinstated, conflicts.Load())
		}
		k.removeLink(2)
		time.Sleep(time.Minute)
		if n := losses.Load(); n != 1 {
			t.Errorf("%d losses reported, want 1", n)
		}
		k.mu.Lock()
		k.links = newFakeKernel().links
		k.mu.Unlock()
		acquire(t, m)
		if err := m.Release(t.Context()); err != nil || k.has("192.0.2.10") {
			t.Errorf("address still there after Release (error %v)", err)
		}
	})
}

// TestBlockedCallbacks: a Manager whose user does not return from what it is told
// renews and puts back all the same, holds the addresses again after a loss, and
// removes them at the end. Run waits for the user.
func TestBlockedCallbacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		let := make(chan struct{})
		var told atomic.Int32
		block := func() { told.Add(1); <-let }
		ns := newNamespace(k, nil)
		defer ns.Close()
		m, err := NewManager(Config{
			Interface: "eth0", Namespace: ns, Addresses: addrs(t, "192.0.2.10/24"), Lease: 3 * time.Second,
			OnConflict: func(Conflict) { block() }, OnLost: func(error) { block() },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		synctest.Wait()
		acquire(t, m)
		time.Sleep(takeoverTime)
		k.heard <- sighting{index: 2, addr: addrs(t, "192.0.2.10")[0].Prefix.Addr(), mac: []byte{2, 0, 0, 0, 0, 9}, time: time.Now()}
		time.Sleep(10 * time.Second)
		if !k.has("192.0.2.10") {
			t.Error("the address was not renewed")
		}
		k.failing("put", ErrNoInterface)
		time.Sleep(10 * time.Second)
		if k.has("192.0.2.10") || m.Status().Lost != 1 {
			t.Fatalf("the address is not lost: %+v", m.Status())
		}
		k.failing("put", nil)
		acquire(t, m)
		time.Sleep(10 * time.Second)
		if !k.has("192.0.2.10") || told.Load() != 2 {
			t.Errorf("the address was not renewed after a loss, or the user not told: %d calls", told.Load())
		}
		cancel()
		time.Sleep(time.Minute)
		if k.has("192.0.2.10") || len(done) > 0 {
			t.Error("the address outlives the end, or Run does not wait for its user")
		}
		close(let)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
