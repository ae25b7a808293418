package vip

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestOwner: what the host has anyway is neither added nor removed nor given a
// lifetime, and is announced. What it has not comes and goes.
func TestOwner(t *testing.T) {
	for _, lease := range []time.Duration{0, 3 * time.Second} {
		t.Run(fmt.Sprint("lease ", lease), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newFakeKernel()
				k.put(on(2, "192.0.2.10/24"), false)
				dynamic := on(2, "192.0.2.11/24")
				dynamic.valid = time.Hour
				k.put(dynamic, false)
				before := slices.Clone(k.list)
				m := start(t, k, Config{
					Owner: true, Lease: lease, Addresses: addrs(t, "192.0.2.10/24", "192.0.2.11/32", "192.0.2.12/24"),
				})
				removes := func(want string) {
					t.Helper()
					if got := removed(m.Removals().Requests); got != want {
						t.Errorf("to be removed on the Manager's behalf: %q, want %q", got, want)
					}
				}
				stays := func() {
					t.Helper()
					synctest.Wait()
					k.mu.Lock()
					defer k.mu.Unlock()
					for _, a := range before {
						if !slices.Contains(k.list, a) {
							t.Errorf("%v is not what it was: %v", a, k.list)
						}
					}
				}
				removes("remove 192.0.2.12/24")
				for range 2 {
					acquire(t, m)
					time.Sleep(10 * time.Second)
					stays()
					if !k.has("192.0.2.12") {
						t.Error("what the host has not is not there after Acquire")
					}
					removes("remove 192.0.2.12/24")
					k.frames = nil
					if err := m.Announce(t.Context()); err != nil || len(k.frames) < 3 {
						t.Errorf("%d announcements (%v), want one for each address", len(k.frames), err)
					}
					if err := m.Release(t.Context()); err != nil {
						t.Error(err)
					}
					stays()
					if k.has("192.0.2.12") {
						t.Error("what the host has not is there after Release")
					}
				}
				// It comes into being while nobody holds it, as after boot.
				k.put(on(2, "192.0.2.12/24"), false)
				time.Sleep(time.Minute)
				before = slices.Clone(k.list)
				stays()
				removes("")
				if got := m.Status().Removed; got != 0 {
					t.Errorf("%d strays removed", got)
				}

				// Deleted while it is held it is put back, and is the Manager's.
				acquire(t, m)
				k.remove(before[0])
				time.Sleep(time.Second)
				if !k.has("192.0.2.10") {
					t.Error("it is not put back")
				}
				removes("remove 192.0.2.10/24")
				m.Release(t.Context())
				if before = before[1:]; k.has("192.0.2.10") {
					t.Error("what the Manager has put back is there after Release")
				}
				stays()
			})
		})
	}
}

// removed renders those of some requests that remove something.
func removed(requests [][]byte) string {
	var list []string
	for _, r := range requests {
		if text := string(r); strings.HasPrefix(text, "remove") {
			list = append(list, text)
		}
	}
	return strings.Join(list, ", ")
}

// TestOwnerLeftovers: what a predecessor had added goes.
func TestOwnerLeftovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		k.put(our(2, "192.0.2.10/24"), false)
		start(t, k, Config{Owner: true, Addresses: addrs(t, "192.0.2.10/24")})
		if k.has("192.0.2.10") {
			t.Error("a predecessor's address is still there after the start")
		}
	})
}
