package guard_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/vip"
	_ "github.com/havip/havip/vip/filter"
	"github.com/havip/havip/vip/guard"
)

// many is the role of a program with two routers on one interface, the first of
// which does not accept what is sent to its address.
const many = "many"

// other4 is the second router's address.
const other4 = "198.51.100.10"

func guardedMany(ctx context.Context, g *guard.Guard) error {
	ns, err := vip.OpenNamespace(nil)
	if err != nil {
		return err
	}
	for i, p := range []string{vip4 + "/24", other4 + "/24"} {
		name := fmt.Sprint("router ", i)
		m, err := vip.NewManager(vip.Config{
			Name: name, Interface: "eth0", Namespace: ns, NoAccept: i == 0,
			Addresses: []vip.Address{{Prefix: netip.MustParsePrefix(p)}},
			OnRemovals: func(r vip.Removals) {
				if err := g.Set(name, guard.Will{Requests: r.Requests, Filters: r.Filters, Settings: r.Settings}); err != nil {
					fmt.Println(err)
				}
			},
		})
		if err != nil {
			return err
		}
		go m.Run(ctx)
		<-m.Ready()
		if err := m.Acquire(ctx); err != nil {
			return err
		}
	}
	fmt.Println("ready <nil>")
	<-ctx.Done()
	return nil
}

// TestSettingsComeLast: the wills of all routers are carried out before what they
// rely on is put back: the host's addresses in the networks of virtual ones, which
// are the older ones, survive.
func TestSettingsComeLast(t *testing.T) {
	h := lab.New(t).MustHost("a")
	const setting = "net.ipv4.conf.eth0.promote_secondaries"
	if err := h.Sysctl(setting, "0"); err != nil {
		t.Fatal(err)
	}
	p := startAs(t, h, many)
	own := []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("198.51.100.1/24")}
	for _, o := range own {
		if err := h.AddAddr("eth0", o); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Kill(p.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 10*time.Second, "the addresses are gone", func() bool {
		return !h.Holds(netip.MustParseAddr(vip4)) && !h.Holds(netip.MustParseAddr(other4))
	})
	lab.Until(t, 10*time.Second, "the setting is what it was", func() bool { return sysctl(t, h, setting) == "0" })
	for _, o := range own {
		if !h.Holds(o.Addr()) {
			t.Errorf("the host has lost its own address %v", o)
		}
	}
}

// TestFilterGoes: a filter of a program that was killed would keep the host from
// an address that it gets anew.
func TestFilterGoes(t *testing.T) {
	h := lab.New(t).MustHost("a", "192.0.2.1/24")
	p := startAs(t, h, many)
	var conn *nftables.Conn
	if err := h.Do(func() (err error) {
		conn, err = nftables.New(nftables.AsLasting())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer conn.CloseLasting()
	tables := func() (names []string) {
		list, err := conn.ListTables()
		if err != nil {
			t.Fatal(err)
		}
		for _, table := range list {
			names = append(names, table.Name)
		}
		return names
	}
	if got := tables(); len(got) != 1 {
		t.Fatalf("tables %q, want the router's", got)
	}
	if err := syscall.Kill(p.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 10*time.Second, "the filter is gone", func() bool { return len(tables()) == 0 })
}

// startAs runs the program in a role inside a host, and waits until it is ready.
func startAs(t *testing.T, h *lab.Host, as string) *lab.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := h.Command(self)
	p.Env = []string{role + "=" + as}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 10*time.Second, "the program is ready", func() bool { return strings.Contains(p.Output(), "ready <nil>") })
	return p
}

// sysctl returns a setting as it is inside a host.
func sysctl(t *testing.T, h *lab.Host, name string) (value string) {
	t.Helper()
	if err := h.Do(func() error {
		out, err := exec.Command("cat", "/proc/sys/"+strings.ReplaceAll(name, ".", "/")).Output()
		value = strings.TrimSpace(string(out))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return value
}
