package daemon

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
	"github.com/havip/havip/vrrp"
)

// bound is for what happens soon on an idle machine.
const bound = 30 * time.Second

// node is a daemon on a host of a lab.
type node struct {
	*Daemon
	t    *testing.T
	host *lab.Host
	log  *labtest.Log
}

// startNode runs a daemon on a host until the test ends.
func startNode(t *testing.T, h *lab.Host, text string) *node {
	t.Helper()
	n := &node{t: t, host: h, log: &labtest.Log{}}
	cfg := parse(t, text)
	if err := h.Do(func() (err error) {
		n.Daemon, err = New(cfg, slog.New(slog.NewTextHandler(n.log, nil)), nil, false)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(n.log.String())
		}
	})
	<-n.started
	return n
}

// reload goes on with another file.
func (n *node) reload(text string) error {
	n.t.Helper()
	cfg := parse(n.t, text)
	return n.host.Do(func() error { return n.Reconfigure(cfg) })
}

func (n *node) must(text string) {
	n.t.Helper()
	if err := n.reload(text); err != nil {
		n.t.Fatal(err)
	}
}

// router finds a router that runs.
func (n *node) router(name string) *router {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.routers[name] == nil {
		n.t.Fatalf("there is no router %s", name)
	}
	return n.routers[name]
}

// awaits waits for a router's state.
func (n *node) awaits(name string, want vrrp.State) {
	n.t.Helper()
	lab.Until(n.t, bound, fmt.Sprintf("%s is %v", name, want), func() bool { return n.router(name).node.Router().Status().State == want })
}

// holds waits for addresses to be there, or not.
func (n *node) holds(want bool, list ...string) {
	n.t.Helper()
	for _, a := range list {
		lab.Until(n.t, bound, fmt.Sprintf("%s is held: %v", a, want), func() bool { return n.host.Holds(netip.MustParseAddr(a)) == want })
	}
}

// attach gives a host an interface in a segment of its own.
func attach(t *testing.T, l *lab.Lab, h *lab.Host, ifname, addr string) {
	t.Helper()
	s, err := l.Segment(ifname)
	if err == nil {
		err = h.Attach(ifname, s, netip.MustParsePrefix(addr))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// changes returns the addresses that come to a host and go from now on, in order: with "+"
// and "-" before them.
func changes(t *testing.T, h *lab.Host) func() []string {
	t.Helper()
	updates, done := make(chan netlink.AddrUpdate, 1024), make(chan struct{})
	if err := h.Do(func() error { return netlink.AddrSubscribe(updates, done) }); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var all []string
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for u := range updates {
			sign := map[bool]string{true: "+", false: "-"}[u.NewAddr]
			mu.Lock()
			all = append(all, sign+u.LinkAddress.IP.String())
			mu.Unlock()
		}
	}()
	t.Cleanup(func() { close(done); <-ended })
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
}

// removals counts how often an address is taken off a host from now on.
func removals(t *testing.T, h *lab.Host, addr string) func() int {
	t.Helper()
	all := changes(t, h)
	return func() (n int) {
		for _, c := range all() {
			if c == "-"+addr {
				n++
			}
		}
		return n
	}
}

// TestReloadInPlace: a router that is Active stays so, and keeps its addresses,
// whatever changes of it but for what takes another router. Its will follows.
func TestReloadInPlace(t *testing.T) {
	t.Parallel()
	h := lab.New(t).MustHost("lb01", "192.168.31.240/24")
	// A machine that is late is not to lose the address.
	file := func(settings string) string {
		if !strings.Contains(settings, "lease") {
			settings += ", lease: 20s"
		}
		return "vrrp: [{name: VI_1, interface: eth0, vrid: 51, interval: 1s, " + settings + "}]"
	}
	n := startNode(t, h, file("addresses: [192.168.31.250/24]"))
	n.awaits("VI_1", vrrp.Active)
	n.holds(true, "192.168.31.250")
	first, since := n.router("VI_1"), n.router("VI_1").node.Router().Status().Since
	gone := removals(t, h, "192.168.31.250")
	will := func() string { return fmt.Sprintf("%q", first.node.Manager().Removals().Requests) }
	for _, settings := range []string{
		"addresses: [192.168.31.250/24, 192.168.31.251/24]",
		"addresses: [192.168.31.251/24, 192.168.31.250/24], excluded: [10.1.1.1/24], routes: [{to: 10.9.0.0/16, via: 10.1.1.254}]",
		"addresses: [192.168.31.250/24], excluded: [10.1.1.2/24], routes: [{to: 10.9.0.0/16, via: 10.1.1.254}]",
		"addresses: [192.168.31.250/24], peers: [192.168.31.241]",
		"addresses: [192.168.31.250/24], peers: [192.168.31.241, 192.168.31.242], announce: {burst: 1, refresh: 5s}",
		"addresses: [192.168.31.250/24], lease: 30s, probe: 50ms",
		"addresses: [192.168.31.250/24], preempt: false, start_delay: 5s, priority: 90, notify: [/bin/true]",
	} {
		before := will()
		n.must(file(settings))
		if r := n.router("VI_1"); r != first || r.node.Router().Status().Since != since || gone() != 0 {
			t.Fatalf("%s: the same router: %v, Active since %v (before: %v), address removed %d times",
				settings, r == first, r.node.Router().Status().Since, since, gone())
		}
		for _, a := range []string{"192.168.31.250", "192.168.31.251", "10.1.1.1", "10.1.1.2"} {
			if want := strings.Contains(settings, a+"/"); h.Holds(netip.MustParseAddr(a)) != want {
				t.Errorf("%s: %s is held: %v", settings, a, !want)
			}
		}
		if strings.Contains(settings, "251/") != strings.Contains(before, "\\xfb") && will() == before {
			t.Errorf("%s: the will is that of before", settings)
		}
	}
	says := func(want string) {
		t.Helper()
		lab.Until(t, bound, "the log says "+want, func() bool { return len(n.log.Lines(want)) > 0 })
	}
	says(`msg="router changes in place" router=VI_1 keys="peers, announce"`)
	// What takes another router is said, with the key.
	n.must(strings.Replace(file("addresses: [192.168.31.250/24]"), "vrid: 51", "vrid: 52", 1))
	says(`router=VI_1 keys=vrid`)
	says(`cause=reconfigured reason=vrid`)
	n.awaits("VI_1", vrrp.Active)
}

// TestReloadFailsWhole: an address that another host has is refused, and all goes
// on as before, also with the next file.
func TestReloadFailsWhole(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	h := l.MustHost("lb01", "192.168.31.240/24")
	l.MustHost("other", "192.168.31.249/24")
	file := func(excluded string) string {
		return "vrrp: [{name: VI_1, interface: eth0, vrid: 51, interval: 1s, lease: 20s, probe: 2s, addresses: [192.168.31.250/24], excluded: [" + excluded + "]}]"
	}
	n := startNode(t, h, file("192.168.31.248/24"))
	n.holds(true, "192.168.31.250", "192.168.31.248")
	gone := removals(t, h, "192.168.31.248")
	if err := n.reload(file("192.168.31.249/24")); err == nil || !strings.Contains(err.Error(), "goes on with the addresses and routes of before") {
		t.Errorf("Reload: %v", err)
	}
	n.must(file("192.168.31.248/24"))
	if gone() != 0 || !h.Holds(netip.MustParseAddr("192.168.31.248")) || h.Holds(netip.MustParseAddr("192.168.31.249")) {
		t.Errorf("the address was removed %d times", gone())
	}
}

// TestReloadMovesBetweenRouters: an address goes from one router to another,
// whose interface is another one, though both go on: the one lets go first.
func TestReloadMovesBetweenRouters(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	h := l.MustHost("lb01", "192.168.31.240/24")
	attach(t, l, h, "eth1", "10.0.0.1/24")
	file := func(one, two string) string {
		return fmt.Sprintf(`vrrp:
- {name: VI_1, interface: eth0, vrid: 51, interval: 100ms, addresses: [192.168.31.250/24], excluded: [%s]}
- {name: VI_2, interface: eth1, vrid: 52, interval: 100ms, addresses: [10.0.0.250/24], excluded: [%s]}
`, one, two)
	}
	n := startNode(t, h, file("192.168.31.1/32", "192.168.31.2/32, 192.168.31.3/32"))
	n.holds(true, "192.168.31.1", "192.168.31.2", "192.168.31.3")
	one, two := n.router("VI_1"), n.router("VI_2")
	n.must(file("192.168.31.2/32", "192.168.31.1/32, 192.168.31.3/32"))
	n.holds(true, "192.168.31.1", "192.168.31.2", "192.168.31.3")
	if n.router("VI_1") != one || n.router("VI_2") != two {
		t.Error("a router was replaced")
	}
}

// TestReloadFollowsReplacedCheck: a router that stays hears of the check that has
// taken the place of another.
func TestReloadFollowsReplacedCheck(t *testing.T) {
	t.Parallel()
	h := lab.New(t).MustHost("lb01", "192.168.31.240/24")
	there := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(there, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	file := func(interval string) string {
		return "checks: {c: {type: file, file: " + there + ", rise: 1, fall: 1, interval: " + interval + "}}\n" +
			"vrrp: [{name: VI_1, interface: eth0, vrid: 51, interval: 1s, addresses: [192.168.31.250/24], track: [{check: c}]}]"
	}
	n := startNode(t, h, file("100ms"))
	n.awaits("VI_1", vrrp.Active)
	r := n.router("VI_1")
	n.must(file("50ms"))
	if n.router("VI_1") != r || r.node.Router().Status().State != vrrp.Active {
		t.Error("the router did not go on")
	}
	if err := os.Remove(there); err != nil {
		t.Fatal(err)
	}
	n.awaits("VI_1", vrrp.Initialize)
}

// TestReloadClosesSockets: those that no router uses any more.
func TestReloadClosesSockets(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	h := l.MustHost("lb01", "192.168.31.240/24")
	attach(t, l, h, "eth1", "10.0.0.1/24")
	sockets := func() (n int) {
		if err := h.Do(func() error {
			b, err := os.ReadFile("/proc/thread-self/net/raw")
			n = bytes.Count(b, []byte(":0070 ")) // protocol 112
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	const one, two = "{name: VI_1, interface: eth0, vrid: 51, addresses: [192.168.31.250/24]}", "{name: VI_2, interface: eth1, vrid: 51, addresses: [10.0.0.250/24]}"
	n := startNode(t, h, "vrrp: ["+one+"]")
	before := sockets()
	for range 2 {
		n.must("vrrp: [" + one + ", " + two + "]")
		lab.Until(t, bound, "there are sockets for two routers", func() bool { return sockets() == 2*before })
		n.must("vrrp: [" + one + "]")
		lab.Until(t, bound, "there are those of one router again", func() bool { return sockets() == before })
	}
}

// twoRouters are two routers beside each other, with further keys of each.
func twoRouters(one, two string) string {
	return fmt.Sprintf(`vrrp:
- {name: VI_1, interface: eth0, vrid: 51, interval: 1s, lease: 20s, addresses: [192.168.31.251/24]%s}
- {name: VI_2, interface: eth0, vrid: 52, interval: 1s, lease: 20s, addresses: [192.168.31.252/24]%s}
`, one, two)
}

// TestReloadSideBySide: a router whose new address takes its time delays no other
// router, whatever the order in the file.
func TestReloadSideBySide(t *testing.T) {
	t.Parallel()
	h := lab.New(t).MustHost("lb01", "192.168.31.240/24")
	n := startNode(t, h, twoRouters("", ""))
	n.holds(true, "192.168.31.251", "192.168.31.252")
	come := changes(t, h)
	n.must(twoRouters(", probe: 5s, excluded: [192.168.31.1/32]", ", excluded: [192.168.31.2/32]"))
	n.holds(true, "192.168.31.1", "192.168.31.2")
	var order []string
	lab.Until(t, bound, "the kernel has told of both", func() bool {
		order = slices.DeleteFunc(come(), func(c string) bool { return c != "+192.168.31.1" && c != "+192.168.31.2" })
		return slices.Contains(order, "+192.168.31.1") && slices.Contains(order, "+192.168.31.2")
	})
	if order[0] != "+192.168.31.2" {
		t.Errorf("the addresses came in the order %q", order)
	}
}

// TestReloadRouteByNewAddress: a new route may need a new address of a router before
// it in the file, however long that takes.
func TestReloadRouteByNewAddress(t *testing.T) {
	t.Parallel()
	h := lab.New(t).MustHost("lb01", "192.168.31.240/24")
	n := startNode(t, h, twoRouters("", ""))
	n.holds(true, "192.168.31.251", "192.168.31.252")
	n.must(twoRouters(", probe: 1s, excluded: [10.9.0.250/24]", ", routes: [{to: 198.51.100.0/24, via: 10.9.0.1}]"))
}

// TestViewDuringReload: a reader never waits for a reload that takes its time, and
// sees the configuration of before until the next one is in force.
func TestViewDuringReload(t *testing.T) {
	t.Parallel()
	h := lab.New(t).MustHost("lb01", "192.168.31.240/24")
	file := func(rest string) string {
		return "vrrp: [{name: VI_1, interface: eth0, vrid: 51, interval: 1s, lease: 20s, addresses: [192.168.31.250/24]" + rest + "}]\n" +
			"groups: [{name: G, routers: [VI_1]}]"
	}
	n := startNode(t, h, file(""))
	n.awaits("VI_1", vrrp.Active)
	before := n.View()
	next := parse(t, file(", probe: 5s, excluded: [192.168.31.1/32]"))
	ended := make(chan error, 1)
	go func() { ended <- h.Do(func() error { return n.Reconfigure(next) }) }()
	lab.Until(t, bound, "the reload is under way", func() bool { return len(n.log.Lines("msg=reloading")) > 0 })
	// A report that waited for the reload would come back to the next View.
	if err := n.SetPriority("VI_1", 77); err != nil {
		t.Error(err)
	}
	warning, err := n.SetMaintenance(true, "")
	_, end := n.SetMaintenance(false, "")
	if n.View() != before || err != nil || end != nil || warning == "" {
		t.Errorf("commands that came back before the reload ended: %v; %q, %v, %v", n.View() == before, warning, err, end)
	}
	reports := 0
	for len(ended) == 0 && n.View() == before {
		if askParts(before); n.View() == before {
			reports++
		}
		time.Sleep(10 * time.Millisecond)
	}
	if reports < 2 || before.Routers[0].Config.Probe != 0 {
		t.Errorf("%d reports came back before the reload ended, of %+v", reports, before)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	n.awaits("VI_1", vrrp.Active)
	lab.Until(t, bound, "the group is Active", func() bool { return n.View().Groups[0].State() == "MASTER" })
	if v := n.View(); v.Config != next || !v.Routers[0].Config.Equal(next.VRRP[0]) || v.Routers[0].Status().Priority != 77 {
		t.Errorf("after the reload: %+v, priority %d", v, v.Routers[0].Status().Priority)
	}
}
