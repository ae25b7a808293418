package vip

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestFaultIsTold: a router hears that it could not have the addresses before it
// wins the election, and that it could again.
func TestFaultIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		k.links = append(k.links, link{index: 3, name: "eth1", up: true, ethernet: true})
		var told []error
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24"), OnFault: func(err error) { told = append(told, err) }})
		if len(told) != 0 {
			t.Fatalf("told %v at the start, when nothing is wrong", told)
		}
		elsewhere := on(3, "192.0.2.10/24")
		k.put(elsewhere)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if len(told) != 1 || !errors.Is(told[0], ErrInUse) {
			t.Fatalf("told %v, want once that the address is in use", told)
		}
		if err := m.Acquire(t.Context()); err == nil || !errors.Is(err, ErrInUse) {
			t.Errorf("Acquire: %v, want ErrInUse", err)
		}
		time.Sleep(10 * time.Second)
		k.remove(elsewhere)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(told) != 2 || told[1] != nil {
			t.Fatalf("told %v, want once more, that it is over", told)
		}
		acquire(t, m)
	})
}
