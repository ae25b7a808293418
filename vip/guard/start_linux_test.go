package guard_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/quietlog"
	"github.com/havip/havip/internal/quietlog/quietlogtest"
	"github.com/havip/havip/vip"
	"github.com/havip/havip/vip/guard"
)

// Withdrawn wills have no effect.
func TestSetAndWithdraw(t *testing.T) {
	h := lab.New(t).MustHost("a", "192.0.2.1/24")
	var g *guard.Guard
	if err := h.Do(func() (err error) {
		g, err = guard.Start(guard.Config{Form: "quoted"})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	p := guard.Packet{Source: netip.MustParseAddr("192.0.2.1"), Destination: netip.MustParseAddr("192.0.2.2"), Protocol: 112, TTL: 255, Payload: make([]byte, 40000)}
	if err := g.Set("x", guard.Will{Packets: []guard.Packet{p}}); err == nil || !strings.HasPrefix(err.Error(), "guard: x: Packets[0].Payload: 40000 bytes") {
		t.Errorf("Set: %v, want an error that names will and packet", err)
	}
	before := switches(t, os.Getpid())
	p.Payload = farewell4
	for range 10_000 {
		if err := g.Set("x", guard.Will{Packets: []guard.Packet{p}}); err != nil {
			t.Fatal(err)
		}
	}
	// Go's own threads wake up now and then.
	if n := switches(t, os.Getpid()) - before; n > 5000 {
		t.Errorf("10000 changes woke the guard %d times", n)
	}
	if err := g.Set("x", guard.Will{}); err != nil {
		t.Errorf("Set without content: %v", err)
	}
	if err := g.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := g.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// TestLargestWills: a guard takes the wills of as many routers as an interface has at most,
// with as many addresses as an advertisement lists. The list of peers has no end: the will of
// one router has 1 MB, and those of others 5 and 20.
func TestLargestWills(t *testing.T) {
	h := lab.New(t).MustHost("a", "2001:db8::1/64")
	var g *guard.Guard
	if err := h.Do(func() (err error) {
		g, err = guard.Start(guard.Config{})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	const most = 255
	advertisement := make([]byte, 8+16*most+64) // RFC 9568 §5.2, and what authenticates it
	will := func(peers int) (w guard.Will) {
		for i := range peers {
			peer := netip.AddrFrom16([16]byte{0xfe, 0x80, 14: byte(i >> 8), 15: byte(i)})
			w.Packets = append(w.Packets, guard.Packet{
				Interface: 2, Source: netip.MustParseAddr("fe80::1:1"), Destination: peer, Protocol: 112, TTL: 255, Payload: advertisement,
			})
		}
		remove := make([]byte, 16+8+20+20) // header, ifaddrmsg, IFA_LOCAL, IFA_ADDRESS
		binary.NativeEndian.PutUint32(remove, uint32(len(remove)))
		binary.NativeEndian.PutUint16(remove[4:], unix.RTM_DELADDR)
		binary.NativeEndian.PutUint16(remove[6:], unix.NLM_F_REQUEST)
		binary.NativeEndian.PutUint16(remove[24:], 20)
		binary.NativeEndian.PutUint16(remove[44:], 20)
		w.Requests = slices.Repeat([][]byte{remove}, most)
		return w
	}
	peers := slices.Repeat([]int{16}, most)
	peers[0], peers[1], peers[2] = most, 5*most, 20*most
	for i, peers := range peers {
		if err := g.Set(fmt.Sprint("router ", i), will(peers)); err != nil {
			t.Error(err)
		}
	}
}

// TestWithoutMain: a program that knows nothing of guards but Start does not run twice,
// and has its will carried out.
func TestWithoutMain(t *testing.T) {
	h, p, c := start(t, "hold")
	died := time.Now()
	if err := syscall.Kill(p.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wantWillDone(t, h, c, died)
	if n := strings.Count(p.Output(), firstWords); n != 1 {
		t.Errorf("the program has begun %d times. Output:\n%s", n, p.Output())
	}
}

// TestLateMainLog: a program that does other work before it calls MainLog is told so,
// whatever it writes before, and starts no copies of itself without end.
func TestLateMainLog(t *testing.T) {
	h := lab.New(t).MustHost("a", "192.0.2.1/24")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := h.Command(self)
	p.Env = []string{role + "=" + late}
	if err := p.Run(); err == nil {
		t.Error("the program goes on without a guard")
	}
	out := p.Output()
	for _, want := range []string{"the child is not ready: does main begin with guard.MainLog?", "this is the guard itself"} {
		if n := strings.Count(out, want); n != 1 {
			t.Errorf("%q is said %d times, want once: by the parent or by its only child. Output:\n%s", want, n, out)
		}
	}
}

// TestMarkerAlone: the environment alone makes no guard of a program.
func TestMarkerAlone(t *testing.T) {
	h, p, _ := start(t, "hold", "HAVIP_GUARD=1/task/1")
	if !h.Holds(netip.MustParseAddr(vip4)) {
		t.Errorf("the program holds no address. Output:\n%s", p.Output())
	}
}

// TestManagersWillIsValid: a guard takes whatever a Manager asks for.
func TestManagersWillIsValid(t *testing.T) {
	v4, _ := vip.ParseAddress(vip4 + "/24")
	v6, _ := vip.ParseAddress(vip6 + "/64")
	for _, mac := range []net.HardwareAddr{nil, vip.VirtualMAC(51, false)} {
		h := lab.New(t).MustHost("a", "192.0.2.1/24", "2001:db8::1/64")
		var m *vip.Manager
		if err := h.Do(func() (err error) {
			m, err = vip.NewManager(vip.Config{
				Interface: "eth0", Addresses: []vip.Address{v4, v6}, VirtualMAC: mac, NoAccept: true,
				Routes: []vip.Route{
					{Destination: netip.MustParsePrefix("198.51.100.0/24"), Gateway: netip.MustParseAddr("192.0.2.254"), Metric: 7},
					{Destination: netip.MustParsePrefix("2001:db8:1::/64"), Gateway: netip.MustParseAddr("2001:db8::fe"), Source: v6.Prefix.Addr()},
				},
			})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		if err := m.Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		r := m.Removals()
		if len(r.Requests) < 4 || len(r.Filters) != 1 || mac != nil && len(r.Settings) == 0 {
			t.Errorf("virtual MAC %v: %d requests, %d filters, %d settings", mac, len(r.Requests), len(r.Filters), len(r.Settings))
		}
		if err := (guard.Will{Requests: r.Requests, Filters: r.Filters, Settings: r.Settings}).Validate(); err != nil {
			t.Errorf("virtual MAC %v: %v", mac, err)
		}
	}
}

// Close ends the guard for good, also while another one is started.
func TestClose(t *testing.T) {
	h := lab.New(t).MustHost("a", "192.0.2.1/24")
	for _, kill := range []bool{false, true} {
		var log bytes.Buffer
		var g *guard.Guard
		if err := h.Do(func() (err error) {
			g, err = guard.Start(guard.Config{Logger: slog.New(quietlog.Unblocked(slog.NewTextHandler(&log, nil)))})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if kill { // another one is about to be started
			if err := syscall.Kill(guardOf(t, os.Getpid()), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		if strings.Contains(cmdlines(os.Getpid()), "havip-guard") {
			t.Error("a guard is left")
		}
		if err := g.Set("x", guard.Will{}); !errors.Is(err, guard.ErrClosed) {
			t.Errorf("Set after Close: %v, want ErrClosed", err)
		}
		if !kill && log.Len() > 0 {
			t.Errorf("an end on demand is logged:\n%s", log.String())
		}
	}
}

// TestBlockedLogger: a guard that dies is replaced before anybody has heard of it.
func TestBlockedLogger(t *testing.T) {
	h := lab.New(t).MustHost("a", "192.0.2.1/24")
	let := make(chan struct{})
	defer close(let)
	var g *guard.Guard
	if err := h.Do(func() (err error) {
		g, err = guard.Start(guard.Config{Logger: quietlogtest.Blocked(let)})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	first := guardOf(t, os.Getpid())
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 10*time.Second, "there is another guard", func() bool {
		return slices.ContainsFunc(strings.Fields(allChildren(os.Getpid())), func(pid string) bool {
			b, _ := os.ReadFile("/proc/" + pid + "/cmdline")
			return pid != strconv.Itoa(first) && strings.HasPrefix(string(b), "havip-guard")
		})
	})
	if err := g.Close(); err != nil {
		t.Error(err)
	}
}

// cmdlines returns the command lines of a process's children.
func cmdlines(parent int) (out string) {
	for _, pid := range strings.Fields(allChildren(parent)) {
		b, _ := os.ReadFile("/proc/" + pid + "/cmdline")
		out += string(b) + "\n"
	}
	return out
}
