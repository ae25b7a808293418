package vip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/lab"
)

// TestNetnsHostAddressStays: a virtual address that the host has anyway, without
// being the owner, is a fault that names the way out. The host keeps it, its
// network and its default route, whatever the Manager is told and however it
// ends; and once a person has removed it, it can be held.
func TestNetnsHostAddressStays(t *testing.T) {
	for name, valid := range map[string]time.Duration{"static": 0, "DHCP": time.Hour} {
		for _, lease := range []time.Duration{0, 3 * time.Second} {
			t.Run(name+" lease "+lease.String(), func(t *testing.T) {
				t.Parallel()
				h := lab.New(t).MustHost("a")
				putIn(t, h, "eth0", vip4+"/24", 0, valid)
				link, err := h.Netlink().LinkByName("eth0")
				if err == nil {
					err = h.Netlink().RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: netip.MustParseAddr("192.0.2.254").AsSlice()})
				}
				if err != nil {
					t.Fatal(err)
				}
				before := routes(t, h)
				m, stop := runIn(t, h, Config{Addresses: addrs(t, vip4+"/24", "192.0.2.11/24"), Lease: lease})
				const way = `"ip addr del 192.0.2.10/24 dev eth0"`
				if fault := <-faults(t, m); !strings.Contains(fault, way) {
					t.Errorf("fault %q, want one that names %s", fault, way)
				}
				if err := m.Acquire(t.Context()); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), way) {
					t.Errorf("Acquire: %v, want an error that names %s", err, way)
				}
				if err := m.Release(t.Context()); err != nil {
					t.Error(err)
				}
				for _, r := range m.Removals().Requests { // what a guard would do
					sendRequest(t, h, r)
				}
				same := func(when string) {
					t.Helper()
					wantHeld(t, h, vip4+"/24")
					if got := routes(t, h); !slices.Equal(got, before) {
						t.Errorf("%s the routes are %v, were %v", when, got, before)
					}
				}
				same("while it runs")
				stop()
				same("after the end")

				m, _ = runIn(t, h, Config{Addresses: addrs(t, vip4+"/24"), Lease: lease})
				told := faults(t, m)
				if <-told == "" {
					t.Error("no fault after another start")
				}
				delAddr(t, h, "eth0", vip4+"/24")
				if fault := <-told; fault != "" {
					t.Errorf("fault %q, although the address is gone", fault)
				}
				mustAcquire(t, m)
				wantHeld(t, h, vip4+"/24")
			})
		}
	}
}

// faults returns what a Manager tells a router about why it could not hold the
// addresses.
func faults(t *testing.T, m *Manager) <-chan string {
	told := make(chan string, 100)
	t.Cleanup(m.WatchFaults(func(_ error, faults []string) { told <- strings.Join(faults, ", ") }))
	return told
}

// sendRequest carries out a netlink request inside a host.
func sendRequest(t *testing.T, h *lab.Host, request []byte) {
	t.Helper()
	if err := h.Do(func() error {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}); err != nil {
		t.Fatal(err)
	}
}

// TestNetnsTakeover: what a killed Keepalived has left is in the way, and goes
// with Takeover: with its mark or none. A lifetime is nothing that it leaves.
func TestNetnsTakeover(t *testing.T) {
	tests := map[string]struct {
		mark  uint8
		valid time.Duration
		goes  bool
	}{
		"2.2.7":           {0, 0, true},
		"2.3":             {markKeepalived, 0, true},
		"DHCP":            {0, time.Hour, false},
		"somebody else":   {99, 0, false},
		"kernel, lo":      {1, 0, false},
		"a predecessor's": {protocol, 0, true},
	}
	for name, tt := range tests {
		for _, takeover := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				h := lab.New(t).MustHost("a", "192.0.2.1/24")
				putIn(t, h, "eth0", vip4+"/32", tt.mark, tt.valid)
				m, stop := runIn(t, h, Config{Addresses: addrs(t, vip4+"/32"), Takeover: takeover})
				if tt.goes && takeover || tt.mark == protocol {
					<-m.Ready()
					wantHeld(t, h, "192.0.2.1/24")
					mustAcquire(t, m)
					stop()
					wantHeld(t, h, "192.0.2.1/24")
					return
				}
				if <-faults(t, m) == "" {
					t.Error("no fault")
				}
				stop()
				wantHeld(t, h, "192.0.2.1/24", vip4+"/32")
			})
		}
	}
}

// killKeepalived has the real one hold the address inside a host, and kills it.
func killKeepalived(t *testing.T, h *lab.Host) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "keepalived.conf")
	conf := "vrrp_instance VI_1 {\n\tinterface eth0\n\tvirtual_router_id 51\n\tpriority 100\n\tadvert_int 1\n\tvirtual_ipaddress {\n\t\t" + vip4 + "/24\n\t}\n}\n"
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	c := h.Command("keepalived", "--dont-fork", "--log-console", "--vrrp", "--use-file="+file,
		"--pid="+filepath.Join(dir, "keepalived.pid"), "--vrrp_pid="+filepath.Join(dir, "vrrp.pid"))
	c.Dir, c.Private = dir, true
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 60*time.Second, "Keepalived has the address", func() bool { return h.Holds(netip.MustParseAddr(vip4)) })
	// The parent first would have the child clean up, and the child first would be
	// replaced.
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", c.Pid(), c.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(children)))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(syscall.Kill(c.Pid(), syscall.SIGSTOP), syscall.Kill(child, syscall.SIGKILL), h.Kill()); err != nil {
		t.Fatal(err)
	}
}

// TestNetnsKilledKeepalived: the same with the real one.
func TestNetnsKilledKeepalived(t *testing.T) {
	t.Parallel()
	lab.Need(t, "keepalived")
	h := lab.New(t).MustHost("a", "192.0.2.1/24")
	killKeepalived(t, h)
	m, stop := runIn(t, h, Config{Addresses: addrs(t, vip4+"/24")})
	if fault := <-faults(t, m); !strings.Contains(fault, `"ip addr del 192.0.2.10/24 dev eth0" removes it`) {
		t.Errorf("fault %q, want one that names the way out", fault)
	}
	stop()
	wantHeld(t, h, "192.0.2.1/24", vip4+"/24")

	m, _ = runIn(t, h, Config{Addresses: addrs(t, vip4+"/24"), Takeover: true})
	<-m.Ready()
	wantHeld(t, h, "192.0.2.1/24")
	mustAcquire(t, m)
}

// TestNetnsKilledWithoutLease: what a Manager without a lease left behind is
// recognised by the next one: a Backup removes it, whatever its length was, and
// an Active goes on with it.
func TestNetnsKilledWithoutLease(t *testing.T) {
	for _, owner := range []bool{false, true} {
		h := lab.New(t).MustHost("a", "192.0.2.1/24", "2001:db8::1/64")
		killed := newIn(t, h, Config{Owner: owner, Addresses: addrs(t, vip4+"/24", vip6+"/64")})
		mustAcquire(t, killed)
		kill(killed)
		wantHeld(t, h, "192.0.2.1/24", "2001:db8::1/64", vip4+"/24", vip6+"/64")

		m, stop := runIn(t, h, Config{Owner: owner, Addresses: addrs(t, vip4+"/32", vip6+"/64")})
		<-m.Ready()
		wantHeld(t, h, "192.0.2.1/24", "2001:db8::1/64")
		stop()

		killed = newIn(t, h, Config{Owner: owner, Addresses: addrs(t, vip4+"/24", vip6+"/64")})
		mustAcquire(t, killed)
		kill(killed)
		m = newIn(t, h, Config{Owner: owner, Addresses: addrs(t, vip4+"/24", vip6+"/64")})
		mustAcquire(t, m) // before Run has removed anything
		if err := m.Release(context.Background()); err != nil {
			t.Error(err)
		}
		m.Close()
		wantHeld(t, h, "192.0.2.1/24", "2001:db8::1/64")
	}
}
