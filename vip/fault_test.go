package vip

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// faultLog is what a watcher of faults was told.
type faultLog struct {
	t    testing.TB
	mu   sync.Mutex
	told []string
}

// watchFaults watches a Manager until the test ends.
func watchFaults(t testing.TB, m *Manager) *faultLog {
	l := &faultLog{t: t}
	t.Cleanup(m.WatchFaults(func(lost error, faults []string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if lost != nil {
			l.told = append(l.told, "lost: "+lost.Error())
		}
		l.told = append(l.told, strings.Join(faults, ", "))
	}))
	return l
}

// want checks all that was told since the last call.
func (l *faultLog) want(want ...string) {
	l.t.Helper()
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Equal(l.told, want) {
		l.t.Errorf("told %q, want %q", l.told, want)
	}
	l.told = nil
}

// TestFaultIsReported: a router hears that it could not have the addresses before it
// wins the election, and that it could again.
func TestFaultIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		k.links = append(k.links, link{index: 3, name: "eth1", up: true, ethernet: true})
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24")})
		faults := watchFaults(t, m)
		faults.want("")
		elsewhere := on(3, "192.0.2.10/24")
		k.put(elsewhere, false)
		time.Sleep(10 * time.Second)
		faults.want(`vip: eth0: 192.0.2.10 is on eth1 already, "ip addr del 192.0.2.10/24 dev eth1" removes it: ` + ErrInUse.Error())
		if err := m.Acquire(t.Context()); err == nil || !errors.Is(err, ErrInUse) {
			t.Errorf("Acquire: %v, want ErrInUse", err)
		}
		time.Sleep(10 * time.Second)
		faults.want()
		k.remove(elsewhere)
		time.Sleep(spacing)
		faults.want("")
		acquire(t, m)
		faults.want()
	})
}

// setLink changes an interface, and tells of it.
func (k *fakeKernel) setLink(name string, f func(*link)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range k.links {
		if k.links[i].name == name {
			f(&k.links[i])
			k.changes <- change{kind: linkChanged, name: name, index: k.links[i].index}
		}
	}
}

// TestFaultLinks: whatever interface the addresses are on, one that could not carry
// them is a fault, held or not, until it could.
func TestFaultLinks(t *testing.T) {
	for _, held := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			k := newFakeKernel()
			k.links = append(k.links, link{index: 3, name: "eth1", up: true, ethernet: true})
			list := addrs(t, "192.0.2.10/24", "198.51.100.10/24", "2001:db8::10/64")
			list[1].Interface, list[2].Interface = "eth1", "eth1"
			m := start(t, k, Config{Addresses: list})
			faults := watchFaults(t, m)
			faults.want("")
			if held {
				acquire(t, m)
			}
			for _, c := range []struct {
				name   string
				change func(*link)
				want   string
			}{
				{"eth1", func(l *link) { l.up = false }, "link eth1 down"},
				{"eth1", func(l *link) { l.no6 = true }, "link eth1 down, IPv6 disabled on eth1"},
				{"eth1", func(l *link) { l.up = true }, "IPv6 disabled on eth1"},
				{"eth1", func(l *link) { l.no6 = false }, ""},
				{"eth0", func(l *link) { l.up = false }, "link eth0 down"},
				{"eth0", func(l *link) { l.up, l.no6 = true, true }, ""},
			} {
				k.setLink(c.name, c.change)
				time.Sleep(spacing)
				faults.want(c.want)
			}
			if m.Status().Held != held {
				t.Errorf("held %v, want %v: a fault alone takes nothing away", m.Status().Held, held)
			}
		})
	}
}

// TestFaultMissingLink: an interface that vanishes loses the addresses, and stays
// a fault until it is there again.
func TestFaultMissingLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		eth1 := link{index: 3, name: "eth1", up: true, ethernet: true}
		k.links = append(k.links, eth1)
		list := addrs(t, "192.0.2.10/24", "198.51.100.10/24")
		list[1].Interface = "eth1"
		m := start(t, k, Config{Addresses: list})
		faults := watchFaults(t, m)
		acquire(t, m)
		faults.want("")
		k.removeLink(3)
		k.changes <- change{kind: linkChanged, name: "eth1", index: 3}
		time.Sleep(spacing)
		missing := "link eth1 missing"
		faults.want(`lost: vip: interface "eth1": `+ErrNoInterface.Error(), missing)
		time.Sleep(10 * again)
		faults.want()
		k.mu.Lock()
		eth1.index = 4
		k.links = append(k.links, eth1)
		k.mu.Unlock()
		k.changes <- change{kind: linkChanged, name: "eth1", index: 4}
		time.Sleep(spacing)
		faults.want("")
		acquire(t, m)
	})
}

// TestFaultHope: what Acquire failed for is not known, so any change may have
// helped: whoever waits hears of it, and of nothing else.
func TestFaultHope(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24", "192.0.2.11/24")})
		faults := watchFaults(t, m)
		faults.want("")
		puts := 0
		k.hooked(func(op string) error {
			if op == "put" {
				if puts++; puts%2 == 0 {
					return errors.New("no")
				}
			}
			return nil
		})
		for range 3 { // each puts the first address, and removes it
			if m.Acquire(t.Context()) == nil {
				t.Fatal("Acquire has not failed")
			}
			time.Sleep(5 * time.Second)
		}
		faults.want()
		k.hooked(nil)
		k.put(assigned{index: 2, prefix: netip.MustParsePrefix("192.0.2.1/24")}, false)
		time.Sleep(again)
		faults.want("")
		time.Sleep(time.Minute)
		faults.want()
	})
}

// TestFaultNotPrepared: as long as Run has not got what the configuration asks for
// that is a fault.
func TestFaultNotPrepared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		k.failing("sweep", errors.New("no nftables"))
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24")})
		faults := watchFaults(t, m)
		faults.want("addresses: no nftables")
		k.failing("", nil)
		time.Sleep(2 * again)
		faults.want("")
	})
}

// TestFaultGateway: a gateway that nothing would make a neighbour is a fault; what a
// Manager brings along, another one included, does make it one.
func TestFaultGateway(t *testing.T) {
	gateway := netip.MustParseAddr("10.1.1.254")
	route := Route{Destination: netip.MustParsePrefix("10.9.0.0/16"), Gateway: gateway, Interface: "eth0"}
	const fault = "route to 10.9.0.0/16: gateway 10.1.1.254 is not on the link of eth0"
	with := func(f func(*Route)) Route {
		r := route
		f(&r)
		return r
	}
	for name, c := range map[string]struct {
		own, other []string // addresses of the Manager, and of another one
		host       string
		neighbour  bool
		routes     []Route
		want       string
	}{
		"nothing":           {routes: []Route{route}, want: fault},
		"no gateway":        {routes: []Route{with(func(r *Route) { r.Gateway = netip.Addr{} })}},
		"link-local":        {routes: []Route{with(func(r *Route) { r.Gateway = netip.MustParseAddr("169.254.0.1") })}},
		"another table":     {routes: []Route{with(func(r *Route) { r.Table = 7 })}},
		"optional":          {routes: []Route{with(func(r *Route) { r.Optional = true })}},
		"a kernel's route":  {routes: []Route{route}, neighbour: true},
		"a route beside it": {routes: []Route{{Destination: netip.MustParsePrefix("10.1.0.0/16"), Interface: "eth0"}, route}},
		"host's address":    {routes: []Route{route}, host: "10.1.1.1/24"},
		"own address":       {routes: []Route{route}, own: []string{"10.1.1.10/24"}},
		"too small":         {routes: []Route{route}, own: []string{"10.1.1.10/32"}, want: fault},
		"other's address":   {routes: []Route{route}, other: []string{"10.1.1.10/24"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newFakeKernel()
				if c.host != "" {
					k.put(on(2, c.host), false)
				}
				if c.neighbour {
					k.neighbours = []netip.Addr{gateway}
				}
				m := start(t, k, Config{Addresses: addrs(t, append(c.own, "192.0.2.10/24")...), Routes: c.routes})
				if c.other != nil {
					other, err := NewManager(Config{Interface: "eth0", Addresses: addrs(t, c.other...), Namespace: m.ns})
					if err != nil {
						t.Fatal(err)
					}
					defer other.Close()
					m.disturb()
					time.Sleep(spacing)
				}
				faults := watchFaults(t, m)
				if faults.want(c.want); c.want != "" {
					k.mu.Lock()
					k.neighbours = []netip.Addr{gateway}
					k.mu.Unlock()
					time.Sleep(again)
					faults.want("")
				}
				acquire(t, m)
			})
		})
	}
}

// TestInterfaceLater: a Manager begins on an interface that does not exist yet. That
// is a fault until it does, and the addresses can be had then.
func TestInterfaceLater(t *testing.T) {
	for name, test := range map[string]struct {
		cfg  Config
		want string // the fault
	}{
		"IPv4":        {Config{Addresses: addrs(t, "192.0.2.10/24")}, "link eth0 missing"},
		"IPv6":        {Config{Addresses: addrs(t, "2001:db8::10/64")}, "link eth0 missing"},
		"virtual MAC": {Config{Addresses: addrs(t, "192.0.2.10/24"), VirtualMAC: VirtualMAC(51, false)}, "link eth0 missing"},
		"a second one": {Config{Addresses: []Address{
			{Prefix: netip.MustParsePrefix("192.0.2.10/24")}, {Prefix: netip.MustParsePrefix("192.0.2.11/24"), Interface: "eth1"},
		}}, "link eth1 missing"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newFakeKernel()
				late := link{index: 7, name: strings.Fields(test.want)[1], mac: testMAC, up: true, enabled: true, ethernet: true}
				k.links = slices.DeleteFunc(k.links, func(l link) bool { return l.name == late.name })
				m := start(t, k, test.cfg)
				check := func() error {
					cfg := m.cfg
					cfg.Namespace = m.ns
					other, err := NewManager(cfg)
					if err != nil {
						return err
					}
					defer other.Close()
					return other.Check()
				}
				if err := check(); !errors.Is(err, ErrNoInterface) {
					t.Errorf("Check: %v, want ErrNoInterface", err)
				}
				faults := watchFaults(t, m)
				faults.want(test.want)
				if err := m.Acquire(t.Context()); !errors.Is(err, ErrNoInterface) {
					t.Errorf("Acquire: %v, want ErrNoInterface", err)
				}
				time.Sleep(time.Hour)
				faults.want()
				k.mu.Lock()
				k.links = append(k.links, late)
				k.mu.Unlock()
				k.changes <- change{kind: linkChanged, name: late.name, index: late.index}
				time.Sleep(spacing)
				faults.want("")
				if err := check(); err != nil {
					t.Error(err)
				}
				acquire(t, m)
				if !k.has(test.cfg.Addresses[0].Prefix.Addr().String()) {
					t.Error("the address is not there")
				}
			})
		})
	}
}
