package daemon

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/vrrp"
)

// TestBootWithoutInterface: routers whose interface is not there yet keep no other
// one from running, at the start and after a reload that brings them. The log says
// which do not run, and why. They take part as soon as the interface comes.
func TestBootWithoutInterface(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	h := l.MustHost("lb01", "192.168.31.240/24")
	router := func(name, interfaceName, vrid, settings string) string {
		return "{name: " + name + ", interface: " + interfaceName + ", vrid: " + vrid + ", interval: 100ms, lease: 20s, " + settings + "}"
	}
	file := func(routers ...string) string { return "vrrp: [" + strings.Join(routers, ", ") + "]" }
	// A machine that is late is not to lose the address of the good router.
	good := strings.Replace(router("VI_1", "eth0", "51", "addresses: [192.168.31.250/24]"), "100ms", "1s", 1)
	late := map[string]string{
		"VI_2": router("VI_2", "eth1", "52", "addresses: [10.0.0.250/24]"),
		"VI_3": router("VI_3", "eth1", "53", `addresses: ["fe80::250/64"], excluded: ["2001:db8::250/64"]`),
		"VI_4": router("VI_4", "eth1", "54", "virtual_mac: true, addresses: [10.0.0.251/24]"),
		"VI_5": router("VI_5", "eth0", "55", "addresses: [192.168.31.251/24], excluded: [{address: 10.0.0.252/24, interface: eth1}]"),
	}
	n := startNode(t, h, file(good, late["VI_2"], late["VI_3"]))
	n.awaits("VI_1", vrrp.Active)
	first := n.router("VI_1")
	gone := removals(t, h, "192.168.31.250")
	all := file(good, late["VI_2"], late["VI_3"], late["VI_4"], late["VI_5"])
	n.must(all)
	// And once more, with something else about them.
	for _, lease := range []string{"20s", "30s", "40s"} {
		n.must(strings.ReplaceAll(all, "20s", lease))
	}
	for name := range late {
		lab.Eventually(t, bound, name+" has a fault", func() error {
			if s := n.router(name).node.Router().Status(); strings.Join(s.Faults, ", ") != "link eth1 missing" {
				return fmt.Errorf("%v, fault %q", s.State, strings.Join(s.Faults, ", "))
			}
			return nil
		})
		lab.Until(t, bound, "the log says what "+name+" lacks", func() bool {
			return len(n.log.Lines("level=WARN", "router="+name, "link eth1 missing")) > 0
		})
	}
	attach(t, l, h, "eth1", "10.0.0.1/24")
	for name := range late {
		n.awaits(name, vrrp.Active)
		lab.Until(t, bound, "the log says that "+name+" runs", func() bool { return len(n.log.Lines("level=INFO", "router="+name, "fault cleared")) > 0 })
	}
	n.holds(true, "10.0.0.250", "fe80::250", "2001:db8::250", "10.0.0.251", "192.168.31.251", "10.0.0.252")
	if n.router("VI_1") != first || gone() != 0 {
		t.Errorf("the good router was touched: the address was removed %d times", gone())
	}
	// What serves is not given up for what is not there.
	for name, text := range map[string]string{
		"interface":         strings.Replace(all, "eth0", "eth7", 1),
		"another interface": strings.Replace(all, "addresses: [192.168.31.250/24]", "addresses: [192.168.31.250/24], excluded: [{address: 10.7.0.1/24, interface: eth7}]", 1),
		"source":            strings.Replace(all, "vrid: 51", "vrid: 51, source: 192.168.31.7", 1),
	} {
		if err := n.reload(text); err == nil || !strings.Contains(err.Error(), "nothing changed: f.yaml:1:") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n.router("VI_1") != first || gone() != 0 || !h.Holds(netip.MustParseAddr("192.168.31.250")) {
		t.Error("a change that was refused has touched the good router")
	}
}

// TestStrictNamesAll: a strict start fails for what would otherwise be tried again,
// names all of it, and leaves nothing open.
func TestStrictNamesAll(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	h := l.MustHost("lb01", "192.168.31.240/24")
	text := `vrrp:
- {name: VI_1, interface: eth0, vrid: 51, addresses: [192.168.31.250/24]}
- {name: VI_2, interface: eth7, vrid: 52, addresses: [10.0.0.250/24]}
- {name: VI_3, interface: eth0, vrid: 53, source: 192.168.31.7, addresses: [192.168.31.253/24]}
- {name: VI_4, interface: eth0, vrid: 54, addresses: [192.168.31.254/24], excluded: [{address: 10.8.0.1/24, interface: eth8}], notify: [/nowhere/notify.sh]}
`
	err := h.Do(func() error {
		_, err := New(parse(t, text), slog.New(slog.DiscardHandler), nil, true)
		return err
	})
	want := `f.yaml:3:3: VI_2: vrrp: VI_2: link eth7 missing
f.yaml:4:3: VI_3: vrrp: VI_3: no source 192.168.31.7 on eth0
f.yaml:5:3: VI_4: vip: interface "eth8": no such interface
vrrp[3].notify[0]: router VI_4: `
	if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Count(err.Error(), "\n") != 3 || !strings.Contains(err.Error(), "/nowhere/notify.sh") {
		t.Errorf("error:\n%v\nwant:\n%s", err, want)
	}
	if err := h.Do(func() error {
		d, err := New(parse(t, strings.SplitAfter(text, "}\n")[0]), slog.New(slog.DiscardHandler), nil, true)
		if err == nil {
			d.pending.abandon()
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

// TestStrictWithoutSource: an address of a router is no source of any, whoever has put
// the address there, and a strict start says so.
func TestStrictWithoutSource(t *testing.T) {
	t.Parallel()
	h := lab.New(t).MustHost("lb01", "10.8.0.1/24", "10.8.0.251/24")
	text := "vrrp:\n" +
		"- {name: VI_1, interface: eth0, vrid: 51, addresses: [10.8.0.250/24], excluded: [10.8.0.1/24]}\n" +
		"- {name: VI_2, interface: eth0, vrid: 52, addresses: [10.8.0.251/24]}"
	err := h.Do(func() error {
		d, err := New(parse(t, text), slog.New(slog.DiscardHandler), nil, true)
		if err == nil {
			d.pending.abandon()
		}
		return err
	})
	if err == nil || strings.Count(err.Error(), "but virtual ones") != 2 {
		t.Errorf("error: %v", err)
	}
}
