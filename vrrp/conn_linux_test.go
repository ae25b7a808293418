package vrrp_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/vrrp"
)

func TestMain(m *testing.M) { lab.Main(m) }

// patience bounds what should take milliseconds.
const patience = 20 * time.Second

func parse(list ...string) (addrs []netip.Addr) {
	for _, s := range list {
		addrs = append(addrs, netip.MustParseAddr(s))
	}
	return addrs
}

// openConn opens a Conn on an interface of a host.
func openConn(t testing.TB, h *lab.Host, cfg vrrp.ListenConfig) *vrrp.Conn {
	t.Helper()
	var conn *vrrp.Conn
	if err := h.Do(func() (err error) {
		conn, err = vrrp.Listen(cfg)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// start makes a router and runs it.
func start(t testing.TB, conn *vrrp.Conn, cfg vrrp.Config) (r *vrrp.Router, stop func()) {
	t.Helper()
	r, err := vrrp.NewRouter(cfg, conn, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r, run(t, r)
}

// run runs a router until the test ends or stop is called.
func run(t testing.TB, r *vrrp.Router) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = func() {
		cancel()
		if err, running := <-done; running {
			if err != nil && !errors.Is(err, vrrp.ErrClosed) {
				t.Errorf("Run: %v", err)
			}
			close(done)
		}
	}
	t.Cleanup(stop)
	return stop
}

// until waits for routers to be in a state.
func until(t testing.TB, want vrrp.State, routers ...*vrrp.Router) {
	t.Helper()
	for _, r := range routers {
		lab.Eventually(t, patience, fmt.Sprintf("%s becomes %v", r.Status().Name, want), func() error {
			if s := r.Status(); s.State != want {
				return fmt.Errorf("%+v", s)
			}
			return nil
		})
	}
}

// TestConn runs two routers on two hosts through raw sockets: one takes over from the
// other, and gives back.
func TestConn(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	hosts := []*lab.Host{
		l.MustHost("lb-01", "192.0.2.1/24", "2001:db8::1/64"),
		l.MustHost("lb-02", "192.0.2.2/24", "2001:db8::2/64"),
	}
	v4, v6 := parse("192.0.2.250"), parse("fe80::250", "2001:db8::250")
	// A message of 4088 bytes goes in fragments.
	var many []netip.Addr
	for i := range 255 {
		many = append(many, netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 14: 1, 15: byte(i)}))
	}
	key := vrrp.Auth{Type: vrrp.AuthHMAC, HMAC: vrrp.HMACConfig{Keys: []vrrp.Key{{ID: 1, Secret: make([]byte, 32)}}}}
	for i, test := range []struct {
		name string
		cfg  vrrp.Config
	}{
		{"v2 multicast", vrrp.Config{Version: 2, Addresses: v4}},
		{"v2 unicast, PASS", vrrp.Config{Version: 2, Addresses: v4, Peers: parse("192.0.2.1", "192.0.2.2"),
			Auth: vrrp.Auth{Type: vrrp.AuthPass, Password: "d0cker"}}},
		{"v2 multicast, AH", vrrp.Config{Version: 2, Addresses: v4, Auth: vrrp.Auth{Type: vrrp.AuthAH, Password: "d0cker"}}},
		{"v2 unicast, AH, TTL", vrrp.Config{Version: 2, Addresses: v4, Peers: parse("192.0.2.1", "192.0.2.2"), TTL: 7, MinTTL: 7, MaxTTL: 7,
			Auth: vrrp.Auth{Type: vrrp.AuthAH, Password: "d0cker"}}},
		{"v3 multicast", vrrp.Config{Addresses: v4, Interval: 100 * time.Millisecond}},
		{"v3 multicast, message checksum", vrrp.Config{Addresses: v4, Interval: 100 * time.Millisecond, Checksum: vrrp.ChecksumMessage}},
		{"v3 multicast, HMAC", vrrp.Config{Addresses: v4, Interval: 100 * time.Millisecond, Auth: key}},
		{"v3 unicast, TTL", vrrp.Config{Addresses: v4, Interval: 100 * time.Millisecond, Peers: parse("192.0.2.1", "192.0.2.2"),
			TTL: 7, MinTTL: 7, MaxTTL: 7}},
		{"v3 IPv6 multicast", vrrp.Config{Addresses: v6, Interval: 100 * time.Millisecond}},
		{"v3 IPv6 multicast, 255 addresses", vrrp.Config{Addresses: many, Interval: 100 * time.Millisecond, Auth: key}},
		{"v3 IPv6 multicast, HMAC", vrrp.Config{Addresses: v6, Interval: 100 * time.Millisecond, Auth: key}},
		{"v3 IPv6 unicast, TTL", vrrp.Config{Addresses: v6, Interval: 100 * time.Millisecond, Peers: parse("2001:db8::1", "2001:db8::2"),
			TTL: 7, MinTTL: 7, MaxTTL: 7}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var routers []*vrrp.Router
			var stops []func()
			for k, h := range hosts {
				cfg := test.cfg
				cfg.Name, cfg.VRID, cfg.Priority = h.Name(), uint8(i+1), uint8(120-10*k)
				conn := openConn(t, h, vrrp.ListenConfig{Interface: "eth0", IPv6: cfg.Addresses[0].Is6()})
				r, stop := start(t, conn, cfg)
				routers, stops = append(routers, r), append(stops, stop)
			}
			a, b := routers[0], routers[1]
			until(t, vrrp.Active, a)
			lab.Until(t, patience, "the Backup hears the Active router", func() bool { return b.Status().Counters.Received > 1 })
			until(t, vrrp.Backup, b)
			stops[0]()
			until(t, vrrp.Active, b)
			if err := b.Resign(); err != nil { // alone: it comes back
				t.Error(err)
			}
			until(t, vrrp.Active, b)
			for _, r := range routers {
				s := r.Status()
				for reason, n := range s.Counters.Dropped {
					t.Errorf("%s dropped %d because of %v", s.Name, n, reason)
				}
				if s.Counters.SendErrors > 0 || s.Counters.Mismatched > 0 {
					t.Errorf("%s: %+v", s.Name, s.Counters)
				}
			}
		})
	}
}

// TestConnOneInterface: a Conn neither hears nor serves another interface of its host.
func TestConnOneInterface(t *testing.T) {
	l := lab.New(t)
	a, b := l.MustHost("a", "192.0.2.1/24"), l.MustHost("b", "192.0.2.2/24")
	other, err := l.Segment("other")
	if err != nil {
		t.Fatal(err)
	}
	for i, h := range []*lab.Host{a, b} {
		if err := h.Attach("eth1", other, netip.MustParsePrefix(fmt.Sprintf("198.51.100.%d/24", i+1))); err != nil {
			t.Fatal(err)
		}
	}
	cfg := vrrp.Config{VRID: 51, Addresses: parse("192.0.2.250"), Interval: 100 * time.Millisecond}
	conn0, conn1 := openConn(t, b, vrrp.ListenConfig{Interface: "eth0"}), openConn(t, b, vrrp.ListenConfig{Interface: "eth1"})
	r0, _ := start(t, conn0, cfg)
	r1, _ := start(t, conn1, cfg)
	until(t, vrrp.Active, r0, r1)

	cfg.Priority = 200
	start(t, openConn(t, a, vrrp.ListenConfig{Interface: "eth1"}), cfg)
	until(t, vrrp.Backup, r1)
	lab.Until(t, patience, "ten more advertisements on eth1", func() bool { return r1.Status().Counters.Received > 10 })
	if s := r0.Status(); s.State != vrrp.Active || s.Counters.Received != 0 || len(s.Counters.Dropped) != 0 {
		t.Errorf("what is sent on eth1 arrives on eth0: %+v", s)
	}
}

// TestListenErrors: each is one line that says what is wrong and where.
func TestListenErrors(t *testing.T) {
	l := lab.New(t)
	a := l.MustHost("a", "192.0.2.1/24")
	for _, test := range []struct {
		name, ifname, want string
	}{
		{"no name", "", "no name"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := a.Do(func() error {
				conn, err := vrrp.Listen(vrrp.ListenConfig{Interface: test.ifname})
				if err == nil {
					conn.Close()
				}
				return err
			})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want it to say %q", err, test.want)
			}
		})
	}
	t.Run("no multicast", func(t *testing.T) {
		conn := openConn(t, a, vrrp.ListenConfig{Interface: "lo"})
		if err := conn.Check(vrrp.Config{VRID: 1, Addresses: parse("192.0.2.250")}); err == nil || !strings.Contains(err.Error(), "no multicast: want unicast peers") {
			t.Errorf("error %v", err)
		}
	})
}

// TestListenUnprivileged takes CAP_NET_RAW from one thread.
func TestListenUnprivileged(t *testing.T) {
	l := lab.New(t)
	a := l.MustHost("a", "192.0.2.1/24")
	err := a.Do(func() error {
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var all [2]unix.CapUserData
		if err := unix.Capget(&header, &all[0]); err != nil {
			t.Fatal(err)
		}
		fewer := all
		fewer[0].Effective &^= 1 << unix.CAP_NET_RAW
		if err := unix.Capset(&header, &fewer[0]); err != nil {
			t.Fatal(err)
		}
		defer unix.Capset(&header, &all[0])
		conn, err := vrrp.Listen(vrrp.ListenConfig{Interface: "eth0"})
		if err == nil {
			conn.Close()
		}
		return err
	})
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "CAP_NET_RAW") {
		t.Errorf("error %v, want one that says CAP_NET_RAW", err)
	}
}

// TestKeepalived: a keepalived shares the VRID, in either role.
func TestKeepalived(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	lab.Need(t, "keepalived")
	for _, test := range []struct {
		name     string
		priority uint8 // keepalived's; ours is 110
	}{{"keepalived prevails", 120}, {"keepalived backs", 100}} {
		t.Run(test.name, func(t *testing.T) {
			i := int(test.priority)
			a := l.MustHost(fmt.Sprintf("a%d", i), fmt.Sprintf("192.0.2.%d/24", i))
			k := l.MustHost(fmt.Sprintf("k%d", i), fmt.Sprintf("192.0.2.%d/24", i+1))
			conf := filepath.Join(t.TempDir(), "keepalived.conf")
			if err := os.WriteFile(conf, fmt.Appendf(nil, `
vrrp_instance VI_1 {
    state BACKUP
    interface eth0
    virtual_router_id 51
    priority %d
    advert_int 1
    unicast_src_ip 192.0.2.%d
    unicast_peer {
        192.0.2.%d
    }
    authentication {
        auth_type PASS
        auth_pass d0cker
    }
    virtual_ipaddress {
        192.0.2.250/24
    }
}
`, i, i+1, i), 0o600); err != nil {
				t.Fatal(err)
			}
			r, _ := start(t, openConn(t, a, vrrp.ListenConfig{Interface: "eth0"}), vrrp.Config{
				VRID: 51, Priority: 110, Version: 2, Addresses: parse("192.0.2.250"),
				Peers: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)})},
				Auth:  vrrp.Auth{Type: vrrp.AuthPass, Password: "d0cker"},
			})
			daemon := k.Command("keepalived", "--dont-fork", "--log-console", "--vrrp", "--use-file", conf)
			daemon.Private = true
			if err := daemon.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { daemon.Stop(patience) })
			vip := netip.MustParseAddr("192.0.2.250")
			if test.priority < 110 {
				until(t, vrrp.Active, r)
				lab.Until(t, patience, "keepalived listens", func() bool {
					return strings.Contains(daemon.Output(), "Entering BACKUP STATE")
				})
				if err := r.Resign(); err != nil {
					t.Error(err)
				}
				lab.Until(t, patience, "keepalived takes over", func() bool { return k.Holds(vip) })
				until(t, vrrp.Backup, r)
				daemon.Stop(patience)
				until(t, vrrp.Active, r)
			} else {
				lab.Until(t, patience, "keepalived becomes MASTER", func() bool { return k.Holds(vip) })
				until(t, vrrp.Backup, r)
				r.SetPriority(130)
				until(t, vrrp.Active, r)
				lab.Until(t, patience, "keepalived becomes BACKUP", func() bool { return !k.Holds(vip) })
				r.SetPriority(110)
				until(t, vrrp.Backup, r)
				daemon.Stop(patience)
				until(t, vrrp.Active, r)
			}
			if s := r.Status(); len(s.Counters.Dropped) > 0 || s.Counters.Mismatched > 0 {
				t.Errorf("%+v", s)
			}
			if t.Failed() {
				t.Log(daemon.Output())
			}
		})
	}
}

// TestConnCloses: a Conn leaves neither goroutines nor descriptors behind.
func TestConnCloses(t *testing.T) {
	l := lab.New(t)
	a := l.MustHost("a", "192.0.2.1/24")
	open := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	once := func() {
		for _, cfg := range []vrrp.Config{
			{VRID: 1, Addresses: parse("fe80::250")},
			{VRID: 1, Addresses: parse("192.0.2.250"), Version: 2, Auth: vrrp.Auth{Type: vrrp.AuthAH, Password: "d0cker"}},
		} {
			conn := openConn(t, a, vrrp.ListenConfig{Interface: "eth0", IPv6: cfg.Addresses[0].Is6()})
			_, stop := start(t, conn, cfg)
			stop()
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
			if err := conn.Close(); err != nil {
				t.Errorf("Close again: %v", err)
			}
		}
	}
	once() // netlink and the poller keep some of their own
	files, goroutines := open(), runtime.NumGoroutine()
	for range 10 {
		once()
	}
	lab.Eventually(t, patience, "everything is closed", func() error {
		if f, g := open(), runtime.NumGoroutine(); f > files || g > goroutines {
			return fmt.Errorf("%d descriptors, before %d; %d goroutines, before %d", f, files, g, goroutines)
		}
		return nil
	})
}
