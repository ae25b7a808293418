package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// bound is for what should happen at once, on a machine busy with other things.
const bound = 20 * time.Second

// reaches reports whether a can send a UDP datagram to b's address.
func reaches(t *testing.T, a, b *Host, address string) bool {
	t.Helper()
	in, err := b.ListenPacket("udp", net.JoinHostPort(address, "9"))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := a.DialContext(t.Context(), "udp", in.LocalAddr().String())
	if err != nil {
		return false
	}
	defer out.Close()
	if _, err := out.Write([]byte("hello")); err != nil {
		return false
	}
	// A datagram that passes arrives in microseconds. One that does not pass would be
	// waited for in vain.
	in.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	_, _, err = in.ReadFrom(make([]byte, 16))
	return err == nil
}

func eventuallyReaches(t *testing.T, a, b *Host, address string) {
	t.Helper()
	Until(t, bound, a.Name()+" reaches "+address, func() bool { return reaches(t, a, b, address) })
}

func TestHostsTalk(t *testing.T) {
	l := New(t)
	a := l.MustHost("a", "192.0.2.1/24", "2001:db8::1/64")
	b := l.MustHost("b", "192.0.2.2/24", "2001:db8::2/64")
	for _, addr := range []string{"192.0.2.2:80", "[2001:db8::2]:80", "[fe80::ff:fe00:2%eth0]:80"} {
		ln, err := b.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		ctx, cancel := context.WithTimeout(t.Context(), bound)
		defer cancel()
		c, err := a.DialContext(ctx, "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		got, want := s.RemoteAddr().(*net.TCPAddr), c.LocalAddr().(*net.TCPAddr)
		if got.Port != want.Port || !got.IP.Equal(want.IP) {
			t.Errorf("accepted from %v, dialled from %v", got, want)
		}
	}
}

func TestAddresses(t *testing.T) {
	l := New(t)
	h := l.MustHost("a", "192.0.2.1/24", "2001:db8::1/64")
	vip := netip.MustParsePrefix("192.0.2.250/32")
	if h.Holds(vip.Addr()) {
		t.Error("holds an address that it never got")
	}
	if err := h.AddAddr("eth0", vip); err != nil {
		t.Fatal(err)
	}
	if !h.Holds(vip.Addr()) || !h.Holds(netip.MustParseAddr("::ffff:192.0.2.250")) {
		t.Error("does not hold the address that it got")
	}
	got, err := h.Addrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"192.0.2.1/24", "192.0.2.250/32", "2001:db8::1/64", "fe80::ff:fe00:1/64"} {
		if !slices.Contains(got, netip.MustParsePrefix(want)) {
			t.Errorf("addresses %v lack %s", got, want)
		}
	}
	if len(got) != 4 {
		t.Errorf("addresses %v, want 4", got)
	}
}

func TestCutTakesTheCarrierIsolateDoesNot(t *testing.T) {
	l := New(t)
	a, b := l.MustHost("a", "192.0.2.1/24", "2001:db8::1/64"), l.MustHost("b", "192.0.2.2/24", "2001:db8::2/64")
	carrier := func() bool {
		link, err := a.Netlink().LinkByName("eth0")
		if err != nil {
			t.Fatal(err)
		}
		return link.Attrs().RawFlags&syscall.IFF_RUNNING != 0
	}
	steps := []struct {
		name             string
		do               func(...string) error
		carrier, reaches bool
	}{
		{"Cut", a.Cut, false, false},
		{"Cut again", a.Cut, false, false},
		{"Restore", a.Restore, true, true},
		{"Isolate", a.Isolate, true, false},
		{"Rejoin", a.Rejoin, true, true},
		{"Restore what is not cut", a.Restore, true, true},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if carrier() != s.carrier {
			t.Errorf("after %s: carrier %v, want %v", s.name, !s.carrier, s.carrier)
		}
		for _, address := range []string{"192.0.2.2", "2001:db8::2"} {
			if s.reaches {
				eventuallyReaches(t, a, b, address)
			} else if reaches(t, a, b, address) {
				t.Errorf("after %s a still reaches %s", s.name, address)
			}
		}
	}
	// The host's own administrator, in contrast, removes the IPv6 address.
	if err := a.SetLink("eth0", false); err != nil {
		t.Fatal(err)
	}
	if addrs, _ := a.Addrs(); !slices.Equal(addrs, []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}) {
		t.Errorf("addresses after link down: %v", addrs)
	}
}

func TestSegmentsAreSeparate(t *testing.T) {
	l := New(t)
	back, err := l.Segment("back")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := l.Segment("back"); again != back || err != nil {
		t.Errorf("second Segment gives %p, %v; want %p", again, err, back)
	}
	a, b := l.MustHost("a", "192.0.2.1/24"), l.MustHost("b", "192.0.2.2/24")
	if err := a.Attach("eth1", back, netip.MustParsePrefix("198.51.100.1/24")); err != nil {
		t.Fatal(err)
	}
	if err := b.Attach("eth1", back, netip.MustParsePrefix("198.51.100.2/24")); err != nil {
		t.Fatal(err)
	}
	eventuallyReaches(t, a, b, "192.0.2.2")
	eventuallyReaches(t, a, b, "198.51.100.2")
	if err := a.Cut("eth0"); err != nil {
		t.Fatal(err)
	}
	if reaches(t, a, b, "192.0.2.2") {
		t.Error("eth0 is cut and still passes")
	}
	eventuallyReaches(t, a, b, "198.51.100.2")
}

func TestErrors(t *testing.T) {
	l := New(t)
	h := l.MustHost("a", "192.0.2.1/24")
	lan, err := l.Segment("lan")
	if err != nil {
		t.Fatal(err)
	}
	closed, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(closed.Close(), closed.Close()); err != nil {
		t.Errorf("closing twice: %v", err)
	}
	_, noSegment := l.Segment("a-name-of-16-bytes")
	_, noHost := closed.Host("b")
	_, noCapture := h.Capture("eth7")
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"segment name too long", noSegment, "lab: segment a-name-of-16-bytes: "},
		{"closed lab", noHost, net.ErrClosed.Error()},
		{"capture on no interface", noCapture, "lab: host a: capture: "},
		{"interface exists", h.Attach("eth0", lan), "lab: host a: eth0: file exists"},
		{"address exists", h.AddAddr("eth0", netip.MustParsePrefix("192.0.2.1/24")), "lab: host a: eth0: add 192.0.2.1/24: file exists"},
		{"cut no interface", h.Cut("eth7"), "lab: host a: no interface eth7"},
		{"set no interface", h.SetLink("eth7", true), "lab: host a: eth7: set link: "},
		{"no such sysctl", h.Sysctl("net.ipv4.nonesuch", "1"), "lab: host a: sysctl: "},
		{"no such program", h.Command("havip-no-such-program").Start(), "lab: a: havip-no-such-program: "},
	}
	for _, tt := range tests {
		if tt.err == nil || !strings.Contains(tt.err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q in it", tt.name, tt.err, tt.want)
		}
	}
	if _, err := l.Host("c", netip.Prefix{}); err == nil {
		t.Error("a host with an invalid address is made")
	}
}

func TestDo(t *testing.T) {
	l := New(t)
	a, b := l.MustHost("a", "192.0.2.1/24"), l.MustHost("b", "192.0.2.2/24")
	t.Run("nested, and back", func(t *testing.T) {
		outer := threadNamespace(t)
		err := a.Do(func() error {
			inA := threadNamespace(t)
			if err := b.Do(func() error {
				if ns := threadNamespace(t); ns == inA || ns == outer {
					t.Error("b is not a host of its own")
				}
				return nil
			}); err != nil {
				return err
			}
			if threadNamespace(t) != inA {
				t.Error("a's thread moved")
			}
			return os.ErrExist
		})
		if err != os.ErrExist {
			t.Errorf("error %v, want f's", err)
		}
		if threadNamespace(t) != outer {
			t.Error("the caller moved")
		}
	})
	t.Run("ends the test as FailNow does", func(t *testing.T) {
		r := record(func(tb testing.TB) {
			a.Do(func() error { tb.Fatalf("inside"); return nil })
			t.Error("went on after Fatalf")
		})
		if r.failed != "inside" {
			t.Errorf("failed with %q", r.failed)
		}
	})
	t.Run("sysctl is the host's own", func(t *testing.T) {
		if err := a.Sysctl("net.ipv4.ip_forward", "1"); err != nil {
			t.Fatal(err)
		}
		for h, want := range map[*Host]string{a: "1\n", b: "0\n"} {
			h.Do(func() error {
				if got, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward"); string(got) != want {
					t.Errorf("%s: ip_forward is %q (%v), want %q", h.Name(), got, err, want)
				}
				return nil
			})
		}
	})
}

func threadNamespace(t *testing.T) string {
	ns, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

func TestManyHosts(t *testing.T) {
	n := 100
	if testing.Short() {
		n = 10
	}
	l := New(t)
	start := time.Now()
	hosts := make([]*Host, n)
	for i := range hosts {
		hosts[i] = l.MustHost(fmt.Sprint("h", i), fmt.Sprintf("10.0.0.%d/24", i+1))
	}
	t.Logf("%d hosts in %v", n, time.Since(start))
	eventuallyReaches(t, hosts[0], hosts[n-1], fmt.Sprintf("10.0.0.%d", n))
}

// TestNothingIsLeft: neither the machine's network, nor this process's descriptors
// and threads, show that there was a lab.
func TestNothingIsLeft(t *testing.T) {
	New(t) // skips
	links := func() string {
		var names []string
		list, err := netlink.LinkList()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range list {
			names = append(names, l.Attrs().Name)
		}
		return strings.Join(names, " ")
	}
	use := func() {
		l, err := Open()
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}()
		for _, name := range []string{"a", "b"} {
			h, err := l.Host(name, netip.MustParsePrefix("192.0.2.1/24"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := h.Capture("eth0"); err != nil {
				t.Fatal(err)
			}
			if err := h.Command("sleep", "1000").Start(); err != nil {
				t.Fatal(err)
			}
		}
	}
	use() // what the first use keeps for good, as Go's poller, is not a leak
	before, fds := links(), openFiles(t)
	for range 5 {
		use()
	}
	if after := links(); after != before {
		t.Errorf("links of the machine: %s, were %s", after, before)
	}
	Eventually(t, bound, "descriptors closed", func() error {
		if now := openFiles(t); len(now) > len(fds) {
			return fmt.Errorf("%d open, were %d: %v", len(now), len(fds), now)
		}
		return nil
	})
	Eventually(t, bound, "threads gone or at home", func() error {
		home, _ := os.Readlink("/proc/self/ns/net")
		tasks, err := filepath.Glob("/proc/self/task/*/ns/net")
		if err != nil || len(tasks) == 0 {
			t.Fatal(tasks, err)
		}
		for _, task := range tasks {
			if ns, err := os.Readlink(task); err == nil && ns != home {
				return fmt.Errorf("%s is %s, want %s", task, ns, home)
			}
		}
		return nil
	})
}

func openFiles(t *testing.T) []string {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, e := range entries {
		target, _ := os.Readlink("/proc/self/fd/" + e.Name())
		files = append(files, target)
	}
	return files
}
