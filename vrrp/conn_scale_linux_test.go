package vrrp_test

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/vrrp"
)

// TestConnEveryRouter: every VRID of both families on one interface, in this process.
// All of them become Active and advertise, with the sockets of two Conns, and each
// with three goroutines, which mostly sleep, and a socket that keeps other
// processes out.
func TestConnEveryRouter(t *testing.T) {
	l := lab.New(t)
	h := l.MustHost("lb-01", "192.0.2.1/24")
	lan, err := l.Segment("lan")
	if err != nil {
		t.Fatal(err)
	}
	wire, err := lan.Capture(lab.Protocol(112))
	if err != nil {
		t.Fatal(err)
	}
	conns := []*vrrp.Conn{
		openConn(t, h, vrrp.ListenConfig{Interface: "eth0"}),
		openConn(t, h, vrrp.ListenConfig{Interface: "eth0", IPv6: true}),
	}
	sockets, goroutines := openSockets(t), runtime.NumGoroutine()

	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var running sync.WaitGroup
	var routers []*vrrp.Router
	for vrid := 1; vrid <= 255; vrid++ {
		for i, addr := range []netip.Addr{
			netip.AddrFrom4([4]byte{198, 51, 100, byte(vrid)}),
			netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: byte(vrid)}),
		} {
			r, err := vrrp.NewRouter(vrrp.Config{VRID: uint8(vrid), Addresses: []netip.Addr{addr}}, conns[i], nil)
			if err != nil {
				t.Fatal(err)
			}
			routers = append(routers, r)
			running.Go(func() {
				if err := r.Run(ctx); err != nil {
					t.Error(err)
				}
			})
		}
	}
	until(t, vrrp.Active, routers...)

	type router struct {
		ipv6 bool
		vrid byte
	}
	heard := func() (advertisements map[router]int, total int) {
		advertisements = make(map[router]int)
		for _, f := range wire.Packets() {
			src, _, _, b, ok := f.IP()
			if !ok || len(b) < 8 {
				t.Fatalf("not an advertisement: %x", f.Data)
			}
			advertisements[router{src.Is6(), b[1]}]++
			total++
		}
		return advertisements, total
	}
	lab.Until(t, patience, "three advertisements of each router", func() bool {
		list, _ := heard()
		for _, n := range list {
			if n < 3 {
				return false
			}
		}
		return len(list) == len(routers)
	})
	if n := openSockets(t) - sockets; n != len(routers) {
		t.Errorf("%d sockets more than without routers, want one for each", n)
	}
	if n := runtime.NumGoroutine() - goroutines; n > 3*len(routers) {
		t.Errorf("%d goroutines for %d routers, want three for each", n, len(routers))
	}

	stop()
	running.Wait()
	sent := 0
	for _, r := range routers {
		c := r.Status().Counters
		sent += int(c.Sent)
		if c.SendErrors > 0 || c.Received > 0 || len(c.Dropped) > 0 {
			t.Errorf("%s: %+v", r.Status().Name, c)
		}
	}
	lab.Until(t, patience, "all that was sent is on the wire", func() bool {
		_, total := heard()
		return total >= sent
	})
	if _, total := heard(); total != sent {
		t.Errorf("%d advertisements on the wire, and %d counted", total, sent)
	}
}

// openSockets counts this process's sockets.
func openSockets(t *testing.T) int {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}
