package vip

import (
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/havip/havip/internal/lab/labtest"
)

// TestProblemIsOver: whoever has read that something is wrong reads when that is over,
// once.
func TestProblemIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		var log labtest.Log
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24"), Lease: 3 * time.Second, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		acquire(t, m)
		const wrong, right = "addresses are not as they should be", "addresses are as they should be again"
		check := func(wants int) {
			t.Helper()
			time.Sleep(remind / 2)
			synctest.Wait()
			if w, r := log.Count(wrong), log.Count(right); w != wants || r != wants {
				t.Errorf("wrong %d times, right again %d times, want %d each:\n%s", w, r, wants, log.String())
			}
		}
		check(0)
		for n := range 2 {
			k.failing("addresses", syscall.ENOBUFS)
			m.disturb()
			time.Sleep(again)
			k.hooked(nil)
			check(n + 1)
		}
	})
}

// TestProblemIsNews: a problem that comes back, or another one, is said at once, also
// where the log does not say that the one before is over.
func TestProblemIsNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		var log labtest.Log
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24"), Lease: 3 * time.Second,
			Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))})
		acquire(t, m)
		for n, no := range []syscall.Errno{syscall.ENOBUFS, syscall.ENOBUFS, syscall.ENOMEM, syscall.ENOBUFS} {
			k.failing("addresses", no)
			m.disturb()
			time.Sleep(again)
			k.hooked(nil)
			time.Sleep(2 * again)
			synctest.Wait()
			if said := log.Count("addresses are not as they should be"); said != n+1 {
				t.Errorf("said %d times, want %d:\n%s", said, n+1, log.String())
			}
		}
	})
}

// TestOptionalAddress: what is optional does not take the rest with it, is put and
// announced as soon as it can be, and is said meanwhile.
func TestOptionalAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		disable := func(no6 bool) {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.refuse = func(a assigned) bool { return no6 && is6(a.prefix) }
			k.links[0].no6 = no6 // nothing tells of that
		}
		list := addrs(t, "192.0.2.10/24", "2001:db8::10/64")
		list[1].Optional = true
		m := start(t, k, Config{Addresses: list, Lease: 3 * time.Second})
		faults := watchFaults(t, m)
		faults.want("")
		check := func(has6 bool, reinstated uint64, sent int) {
			t.Helper()
			synctest.Wait()
			s := m.Status()
			if !s.Held || s.Reinstated != reinstated || !k.has("192.0.2.10") || k.has("2001:db8::10") != has6 {
				t.Errorf("status %+v, IPv4 %v, IPv6 %v, want %v", s, k.has("192.0.2.10"), k.has("2001:db8::10"), has6)
			}
			if (s.Problem == "") != has6 || !has6 && !strings.Contains(s.Problem, "held without 2001:db8::10/64 (") {
				t.Errorf("problem %q", s.Problem)
			}
			if got := k.sent(); got != sent {
				t.Errorf("%d announcements, want %d: of the addresses that are held", got, sent)
			}
		}
		disable(true)
		time.Sleep(spacing)
		acquire(t, m)
		if err := m.Announce(t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		const all = 3 * 6 // of one address
		check(false, 0, all)
		disable(false)
		time.Sleep(time.Minute)
		check(true, 0, all+2*all)
		disable(true)
		k.remove(on(2, "2001:db8::10/64"))
		time.Sleep(patrol + patrol/2)
		check(false, 1, all+2*all)
		disable(false)
		time.Sleep(again)
		synctest.Wait()
		if !k.has("2001:db8::10") {
			t.Error("the address is not back after a second")
		}
		faults.want()
	})
}

// TestNeededAddress: an address that is not optional does take the rest with it, and
// its interface's lack of IPv6 is a fault.
func TestNeededAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24", "2001:db8::10/64")})
		faults := watchFaults(t, m)
		faults.want("")
		k.refuse = func(a assigned) bool { return is6(a.prefix) }
		if err := m.Acquire(t.Context()); err == nil || k.has("192.0.2.10") {
			t.Errorf("Acquire: %v, want an error and nothing held", err)
		}
		k.mu.Lock()
		k.links[0].no6 = true
		k.mu.Unlock()
		time.Sleep(again) // nothing tells of that
		faults.want("IPv6 disabled on eth0")
		k.mu.Lock()
		k.links[0].no6, k.refuse = false, nil
		k.mu.Unlock()
		time.Sleep(again)
		faults.want("")
		acquire(t, m)
	})
}
