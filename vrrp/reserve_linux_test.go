package vrrp_test

import (
	"context"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/vrrp"
)

// noted is a Handler that only notes when it is called.
type noted struct{ calls atomic.Int32 }

func (n *noted) Acquire(context.Context) error  { n.calls.Add(1); return nil }
func (n *noted) Announce(context.Context) error { n.calls.Add(1); return nil }
func (n *noted) Release(context.Context) error  { n.calls.Add(1); return nil }

// TestConnReserved: two routers with one VRID on an interface of a host do not run,
// whatever Conns and processes they are in. Routers with different families, VRIDs or
// network namespaces do.
func TestConnReserved(t *testing.T) {
	l := lab.New(t)
	a, b := l.MustHost("a", "192.0.2.1/24"), l.MustHost("b", "192.0.2.2/24")
	v4 := vrrp.Config{VRID: 51, Addresses: parse("192.0.2.250"), Priority: 255}
	v6 := vrrp.Config{VRID: 51, Addresses: parse("fe80::250"), Priority: 255}
	first, stop := start(t, openConn(t, a, vrrp.ListenConfig{Interface: "eth0"}), v4)
	until(t, vrrp.Active, first)

	second := openConn(t, a, vrrp.ListenConfig{Interface: "eth0"})
	h := &noted{}
	r, err := vrrp.NewRouter(v4, second, h)
	if err != nil {
		t.Fatal(err)
	}
	err = r.Run(t.Context())
	if want := "interface eth0: VRID 51 (IPv4) is taken by this process"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Run: %v, want %q", err, want)
	}
	if s := r.Status(); s.Counters.Sent > 0 || h.calls.Load() > 0 {
		t.Errorf("%+v, and %d calls of the Handler", s, h.calls.Load())
	}

	other := v4
	other.VRID = 52
	another, _ := start(t, second, other)
	ipv6, _ := start(t, openConn(t, a, vrrp.ListenConfig{Interface: "eth0", IPv6: true}), v6)
	until(t, vrrp.Active, another, ipv6)
	elsewhere := v4
	elsewhere.Priority = 100
	host, _ := start(t, openConn(t, b, vrrp.ListenConfig{Interface: "eth0"}), elsewhere)
	until(t, vrrp.Backup, host)

	// When the first one ends the second one may run.
	stop()
	run(t, r)
	until(t, vrrp.Active, r)
}

// TestRouterReserve: a router is reserved until the last of its reservations is
// released, of which one is Run's.
func TestRouterReserve(t *testing.T) {
	l := lab.New(t)
	a := l.MustHost("a", "192.0.2.1/24")
	cfg := vrrp.Config{VRID: 51, Addresses: parse("192.0.2.250"), Priority: 255}
	var routers []*vrrp.Router
	for range 2 {
		r, err := vrrp.NewRouter(cfg, openConn(t, a, vrrp.ListenConfig{Interface: "eth0"}), nil)
		if err != nil {
			t.Fatal(err)
		}
		routers = append(routers, r)
	}
	mine, others := routers[0], routers[1]
	reserve := func(r *vrrp.Router) (release func()) {
		t.Helper()
		release, err := r.Reserve(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return release
	}
	refused := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if release, err := others.Reserve(ctx); err == nil {
			release()
			t.Error("reserved twice")
		}
	}
	release := reserve(mine)
	refused()
	stop := run(t, mine)
	until(t, vrrp.Active, mine)
	release()
	release() // again, which does nothing
	refused()
	again := reserve(mine)
	stop()
	refused()
	again()
	reserve(others)()

	// Reserve waits for a reservation that is released soon.
	release = reserve(mine)
	time.AfterFunc(100*time.Millisecond, release)
	reserve(others)()
}

// TestConnReservedByStranger: another user who has the name, listening or not,
// does not keep a router from running.
func TestConnReservedByStranger(t *testing.T) {
	l := lab.New(t)
	a := l.MustHost("a", "192.0.2.1/24")
	for vrid, name := range map[uint8]string{51: "who listens", 52: "who does not"} {
		t.Run(name, func(t *testing.T) {
			if name == "who listens" {
				lab.NeedRoot(t)
			}
			socket := "@havip/vrrp/eth0/IPv4/" + strconv.Itoa(int(vrid))
			err := a.Do(func() error {
				if name == "who does not" {
					fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
					if err != nil {
						return err
					}
					t.Cleanup(func() { unix.Close(fd) })
					return unix.Bind(fd, &unix.SockaddrUnix{Name: socket})
				}
				// The thread's user alone: the other threads stay root.
				const nobody = 65534
				if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), nobody, ^uintptr(0)); errno != 0 {
					return errno
				}
				defer unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), 0, ^uintptr(0))
				s, err := net.Listen("unix", socket)
				if err == nil {
					t.Cleanup(func() { s.Close() })
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			r, _ := start(t, openConn(t, a, vrrp.ListenConfig{Interface: "eth0"}), vrrp.Config{
				VRID: vrid, Addresses: parse("192.0.2.250"), Priority: 255,
			})
			until(t, vrrp.Active, r)
		})
	}
}
