package vip

import (
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// viaNext is a route that needs an address of 10.1.1.0/24.
var viaNext = Route{Destination: prefix("10.9.0.0/16"), Gateway: netip.MustParseAddr("10.1.1.254"), Interface: "eth0"}

// needsAddress has a kernel refuse the route while it has none of the addresses.
func needsAddress(k *fakeKernel, route string, list ...string) {
	k.hooked(func(op string) error {
		if op == "putRoute "+route && !slices.ContainsFunc(list, k.has) {
			return syscall.ENETUNREACH
		}
		return nil
	})
}

// An address that the gateway of a route needs changes: the new one comes before
// the old one goes, so that the route can stay.
func TestReconfigureAddressOfGateway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		needsAddress(k, "10.9.0.0/16", "10.1.1.1", "10.1.1.2")
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24", "10.1.1.1/24"), Routes: []Route{viaNext}})
		acquire(t, m)
		if err := m.Reconfigure(t.Context(), with(m, addrs(t, "192.0.2.10/24", "10.1.1.2/24"), []Route{viaNext})); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		if s := m.Status(); s != (Status{Held: true}) || !k.has("192.0.2.10") || !k.has("10.1.1.2") || k.has("10.1.1.1") || len(k.routes) != 1 {
			t.Errorf("status %+v, addresses %v, routes %v", s, k.list, k.routes)
		}
	})
}

// TestReconfigureKeepsGateway: a route that stays, and by whose gateway only an
// address is that goes, is an error, and not the loss of all addresses a moment later.
func TestReconfigureKeepsGateway(t *testing.T) {
	onLink := Route{Destination: prefix("10.1.1.0/24"), Interface: "eth0", Table: mainTable}
	optional := viaNext
	optional.Optional = true
	for name, tt := range map[string]struct {
		before, after []Route
		without       []Address
		fails         bool
	}{
		"an address goes":                {[]Route{viaNext}, []Route{viaNext}, addrs(t, "192.0.2.10/24"), true},
		"an address is another one":      {[]Route{viaNext}, []Route{viaNext}, addrs(t, "192.0.2.10/24", "10.2.1.1/24"), true},
		"the network on the link goes":   {[]Route{onLink, viaNext}, []Route{viaNext}, addrs(t, "192.0.2.10/24"), true},
		"the route goes, too":            {[]Route{viaNext}, nil, addrs(t, "192.0.2.10/24"), false},
		"the others can do without that": {[]Route{optional}, []Route{optional}, addrs(t, "192.0.2.10/24"), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newFakeKernel()
				k.hooked(func(op string) error {
					k.mu.Lock()
					defer k.mu.Unlock()
					on := slices.Contains(k.routes, onLink) || slices.ContainsFunc(k.list, func(a assigned) bool { return a.prefix == prefix("10.1.1.1/24") })
					if op == "putRoute 10.9.0.0/16" && !on {
						return syscall.ENETUNREACH
					}
					return nil
				})
				before := addrs(t, "192.0.2.10/24", "10.1.1.1/24")
				if slices.Contains(tt.before, onLink) {
					before = before[:1]
				}
				m := start(t, k, Config{Addresses: before, Routes: tt.before, Lease: 3 * time.Second})
				acquire(t, m)
				err := m.Reconfigure(t.Context(), with(m, tt.without, tt.after))
				if errors.Is(err, syscall.ENETUNREACH) != tt.fails {
					t.Errorf("Reconfigure: %v, want an error: %v", err, tt.fails)
				}
				want := tt.without
				if tt.fails {
					want = before
				}
				for range 2 { // at once, and after a while
					for _, a := range want {
						if s := m.Status(); !s.Held || s.Lost != 0 || !k.has(a.Prefix.Addr().String()) {
							t.Fatalf("status %+v, addresses %v, want %v", s, k.list, want)
						}
					}
					time.Sleep(2 * patrol)
				}
			})
		})
	}
}

// What fails leaves the addresses and routes of before wholly in effect, and the
// will for them.
func TestReconfigureFailsWhole(t *testing.T) {
	for name, fails := range map[string]string{"a route": "putRoute 10.9.0.0/16", "an address": "put"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newFakeKernel()
				var will []string
				m := start(t, k, Config{
					Addresses: addrs(t, "192.0.2.10/24", "192.0.2.11/24"), Lease: time.Minute,
					Routes: []Route{{Destination: prefix("10.8.0.0/16"), Interface: "eth0"}},
					OnRemovals: func(r Removals) {
						requests := r.Requests
						will = nil
						for _, r := range requests {
							will = append(will, string(r))
						}
					},
				})
				acquire(t, m)
				before, wasWill := m.cfg, slices.Clone(will)
				written := 0
				k.hooked(func(op string) error {
					if op == "put" {
						written++
					}
					if op == fails && (op != "put" || written > 1) { // not the first of two
						return syscall.ENETUNREACH
					}
					return nil
				})
				next := with(m, addrs(t, "192.0.2.10/24", "192.0.2.12/24"), []Route{viaNext})
				if fails == "put" {
					next.Lease = time.Second
				}
				if err := m.Reconfigure(t.Context(), next); !errors.Is(err, syscall.ENETUNREACH) {
					t.Errorf("Reconfigure: %v, want ENETUNREACH", err)
				}
				k.hooked(nil)
				time.Sleep(10 * time.Second)
				if s := m.Status(); s != (Status{Held: true}) || !k.has("192.0.2.10") || !k.has("192.0.2.11") || k.has("192.0.2.12") {
					t.Errorf("status %+v, addresses %v", s, k.list)
				}
				if len(k.routes) != 1 || k.routes[0] != before.Routes[0] {
					t.Errorf("routes %v, want %v", k.routes, before.Routes)
				}
				if !slices.Equal(will, wasWill) {
					t.Errorf("the will is %q, want %q", will, wasWill)
				}
				if err := m.Reconfigure(t.Context(), before); err != nil || !k.has("192.0.2.11") {
					t.Errorf("the configuration of before: %v, addresses %v", err, k.list)
				}
			})
		})
	}
}

// What could not be removed stays in the will, and is tried again.
func TestReconfigureRemovesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24", "192.0.2.11/24")})
		acquire(t, m)
		removals := 0
		k.hooked(func(op string) error {
			if op == "remove" {
				removals++
			}
			if op == "remove" && removals > 1 { // the first is of the other length
				return syscall.ENOBUFS
			}
			return nil
		})
		if err := m.Reconfigure(t.Context(), with(m, addrs(t, "192.0.2.10/25"), nil)); err != nil {
			t.Error(err)
		}
		inWill := func() bool {
			return slices.ContainsFunc(m.Removals().Requests, func(r []byte) bool { return string(r) == "remove 192.0.2.11/24" })
		}
		time.Sleep(10 * time.Second)
		if !k.has("192.0.2.11") || !inWill() {
			t.Errorf("it is there: %v; in the will: %v", k.has("192.0.2.11"), inWill())
		}
		k.hooked(nil)
		time.Sleep(2 * again)
		if s := m.Status(); k.has("192.0.2.11") || inWill() || !k.has("192.0.2.10") || s != (Status{Held: true}) {
			t.Errorf("it is there: %v; in the will: %v; status %+v", k.has("192.0.2.11"), inWill(), s)
		}
	})
}

// Settings other than addresses change in place, too: nothing is removed.
func TestReconfigureSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		once := Schedule{Burst: 1, Rounds: []time.Duration{0}}
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24"), Announce: once})
		acquire(t, m)
		m.Announce(t.Context())
		synctest.Wait()
		k.hooked(func(op string) error {
			if op == "remove" {
				t.Error("an address is removed")
			}
			return nil
		})
		change := func(f func(c *Config)) {
			t.Helper()
			cfg := m.cfg
			f(&cfg)
			if err := m.Reconfigure(t.Context(), cfg); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		for _, lease := range []time.Duration{3 * time.Second, time.Second, -1} {
			change(func(c *Config) { c.Lease = lease })
			if have, _ := k.addresses(); have[0].valid != max(0, lease) {
				t.Errorf("lease %v, want %v", have[0].valid, lease)
			}
			time.Sleep(10 * time.Second) // it is renewed
			if s := m.Status(); !k.has("192.0.2.10") || s != (Status{Held: true}) {
				t.Errorf("lease %v: status %+v", lease, s)
			}
		}
		before := k.sent()
		change(func(c *Config) { c.Probe = 50 * time.Millisecond })
		if k.sent() != before {
			t.Error("an address that is held is probed for, or announced")
		}
		change(func(c *Config) { c.Announce.Refresh = time.Minute })
		time.Sleep(2*time.Minute + time.Second)
		if got := k.sent() - before; got != 6 {
			t.Errorf("%d announcements, want a pair at once and after each minute", got)
		}
		lost := make(chan error, 1)
		change(func(c *Config) { c.OnLost = func(err error) { lost <- err } })
		k.hooked(nil)
		k.mu.Lock()
		k.links = nil
		k.mu.Unlock()
		k.changes <- linkGone
		if err := <-lost; !errors.Is(err, ErrNoInterface) {
			t.Errorf("the new OnLost is told %v, want ErrNoInterface", err)
		}
	})
}

var linkGone = change{kind: linkChanged, index: 2}

// What takes another Manager is refused by name.
func TestReconfigureFixed(t *testing.T) {
	k := newFakeKernel()
	ns := newNamespace(k, nil)
	defer ns.Close()
	m, err := NewManager(Config{Interface: "eth0", Namespace: ns, Addresses: addrs(t, "192.0.2.10/24")})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for want, f := range map[string]func(c *Config){
		"Name":                    func(c *Config) { c.Name = "other" },
		"Interface":               func(c *Config) { c.Interface = "eth1" },
		"VirtualMAC, MacvlanName": func(c *Config) { c.VirtualMAC = VirtualMAC(51, false) },
		"NoAccept":                func(c *Config) { c.NoAccept = true },
		"Owner":                   func(c *Config) { c.Owner = true },
	} {
		cfg := m.cfg
		f(&cfg)
		wantErr := "vip: eth0: reconfigure: " + want + " cannot change: make another Manager"
		if err := m.Reconfigure(t.Context(), cfg); err == nil || err.Error() != wantErr {
			t.Errorf("%v, want %q", err, wantErr)
		}
	}
}
