package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/havip/havip/internal/lab"
)

// virtualMAC makes a peer use the virtual routers' hardware addresses: what
// its configuration, in file, says of an interface is replaced.
func virtualMAC(p peer, name, file string, replace ...string) peer {
	p = edited(p, file, replace...)
	p.name, p.mac = name, frrMAC
	return p
}

// TestVirtualMAC: the addresses move together with the virtual routers'
// hardware addresses, from which all advertisements come. A client that has
// learned one never sees another.
func TestVirtualMAC(t *testing.T) {
	t.Parallel()
	lab.Need(t, "keepalived")
	better, equal := [2]uint8{120, 110}, [2]uint8{100, 100}
	routers := []virtualRouter{
		newRouter("v2 PASS", 81, 2, "pass", false, false, better),
		newRouter("v2 AH", 82, 2, "ah", false, false, better),
		newRouter("v3 IPv4", 83, 3, "", false, false, better),
		newRouter("v3 IPv4, equal priorities", 84, 3, "", false, false, equal),
		newRouter("v3 IPv6", 83, 3, "", true, false, better),
		newRouter("v3 IPv6, equal priorities", 84, 3, "", true, false, equal),
	}
	h := virtualMAC(havipPeer(t), "havip", "havip.yaml", "    interface: eth0\n", "    interface: eth0\n    virtual_mac: true\n")
	k := virtualMAC(keepalivedPeer, "keepalived", "keepalived.conf", "\tinterface eth0\n", "\tinterface eth0\n\tuse_vmac\n", " dev eth0\n", "\n")
	const mac = "    virtual_mac: true\n"
	hb := virtualMAC(h, "havip xmit_base", "havip.yaml", mac, mac+"    xmit_base: true\n")
	kb := virtualMAC(k, "keepalived vmac_xmit_base", "keepalived.conf", "\tuse_vmac\n", "\tuse_vmac\n\tvmac_xmit_base\n")
	hb.mac, kb.mac = nil, nil
	for _, peers := range [][2]peer{{h, h}, {h, k}, {k, h}, {hb, kb}, {kb, hb}} {
		t.Run(fmt.Sprintf("LB-01 %s/LB-02 %s", peers[0].name, peers[1].name), func(t *testing.T) {
			t.Parallel()
			p := newPair(t, peers, routers)
			for _, n := range p.nodes {
				if strings.HasPrefix(n.peer.name, h.name) {
					continue
				}
				// What Keepalived leaves to its administrator: each interface
				// would answer for the addresses of all, and eth0 would ask in
				// the name of addresses that are not its own.
				if err := errors.Join(
					n.host.Sysctl("net.ipv4.conf.all.arp_ignore", "1"), n.host.Sysctl("net.ipv4.conf.all.arp_announce", "2"),
				); err != nil {
					t.Fatal(err)
				}
			}
			client := p.lab.MustHost("client", "192.168.31.9/24", "2001:db8:31::9/64")
			for _, s := range life {
				p.live([]step{s})
				p.known(client)
			}
			p.fromVirtualMAC()
		})
	}
}

// TestXmitBaseOnOneSide: a Keepalived with vmac_xmit_base does not hear a virtual
// hardware address that it has itself, whoever advertises from it. havip, which
// does hear such a peer, says what is wrong with the pair; and with xmit_base
// itself it gets on with a Keepalived that is without.
func TestXmitBaseOnOneSide(t *testing.T) {
	t.Parallel()
	lab.Need(t, "keepalived")
	better := [2]uint8{120, 110}
	routers := []virtualRouter{
		newRouter("v2 PASS", 81, 2, "pass", false, false, better),
		newRouter("v3 IPv4", 82, 3, "", false, false, better),
		newRouter("v3 IPv6", 83, 3, "", true, false, better),
	}
	h := virtualMAC(havipPeer(t), "havip", "havip.yaml", "    interface: eth0\n", "    interface: eth0\n    virtual_mac: true\n")
	k := virtualMAC(keepalivedPeer, "keepalived", "keepalived.conf", "\tinterface eth0\n", "\tinterface eth0\n\tuse_vmac\n", " dev eth0\n", "\n")
	hb := edited(h, "havip.yaml", "    virtual_mac: true\n", "    virtual_mac: true\n    xmit_base: true\n")
	kb := edited(k, "keepalived.conf", "\tuse_vmac\n", "\tuse_vmac\n\tvmac_xmit_base\n")
	hb.mac, kb.mac = nil, nil
	const deaf = `msg="the other Active router does not hear this one" router=`
	t.Run("not heard", func(t *testing.T) {
		t.Parallel()
		p := newPair(t, [2]peer{h, kb}, routers)
		p.live(life[:1])
		if err := p.nodes[1].powerOn(); err != nil {
			t.Fatal(err)
		}
		for _, r := range routers {
			lab.Until(t, 30*time.Second, r.name+": LB-01 says why both have the addresses", func() bool {
				for line := range strings.Lines(p.nodes[0].cmd.Output()) {
					if _, told, ok := strings.Cut(line, deaf+r.label()+" "); ok && strings.Contains(told, "xmit_base") {
						return true
					}
				}
				return false
			})
		}
		p.await("both have the addresses", func(*virtualRouter) holders { return both })
	})
	t.Run("heard", func(t *testing.T) {
		t.Parallel()
		p := newPair(t, [2]peer{k, hb}, routers)
		p.live(life[:2])
		if out := p.nodes[1].cmd.Output(); strings.Contains(out, deaf) {
			t.Error(out)
		}
	})
}

// known checks that the client reaches each router's last address, and at the
// virtual hardware address.
func (p *pair) known(client *lab.Host) {
	p.t.Helper()
	for i, r := range p.routers {
		addr := r.addresses[len(r.addresses)-1].Addr()
		want := frrMAC(&r).String()
		lab.Eventually(p.t, 20*time.Second, r.name+": the client reaches the address", func() error {
			conn, err := client.DialContext(p.t.Context(), "tcp", net.JoinHostPort(addr.String(), "9"))
			if err == nil {
				return conn.Close()
			}
			if p.now()[i] == both || errors.Is(err, syscall.ECONNREFUSED) {
				return nil // answered; while both have it the answer may be lost
			}
			return err
		})
		list, err := client.Netlink().NeighList(0, syscall.AF_UNSPEC)
		if err != nil {
			p.t.Fatal(err)
		}
		for _, n := range list {
			if n.IP.String() == addr.String() && n.HardwareAddr != nil && n.HardwareAddr.String() != want {
				p.t.Errorf("%s: %v is at %v for the client, want %s", r.name, addr, n.HardwareAddr, want)
			}
		}
	}
}

// fromVirtualMAC checks all advertisements that were sent so far.
func (p *pair) fromVirtualMAC() {
	p.t.Helper()
	wrong := make(map[string]int)
	for _, a := range p.advertisements(time.Time{}) {
		if p.nodes[a.node].peer.mac == nil {
			continue // advertisements() finds only those from eth0
		}
		if want := frrMAC(&p.routers[a.router]).String(); a.mac.String() != want {
			wrong[fmt.Sprintf("%s: LB-%02d advertises from %v, want %s", p.routers[a.router].name, a.node+1, a.mac, want)]++
		}
	}
	for what, n := range wrong {
		p.t.Errorf("%s (%d times)", what, n)
	}
}

// TestMacvlanTaken: a router that cannot have its macvlan, because somebody else
// has an interface of that name, stays out of the election, says why, and takes
// part as soon as it can.
func TestMacvlanTaken(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	h := l.MustHost("lb01", "192.168.31.240/24")
	lan, err := l.Segment("lan")
	if err != nil {
		t.Fatal(err)
	}
	wire, err := lan.Capture(lab.Protocol(112))
	if err != nil {
		t.Fatal(err)
	}
	foreign := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "vrrp.51"}}
	if err := h.Netlink().LinkAdd(foreign); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "havip.yaml")
	text := fmt.Sprintf("vrrp:\n  - {name: VI_1, interface: eth0, vrid: 51, interval: 100ms, virtual_mac: true, addresses: [%v/24]}\n", vip)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := h.Command(havip(t), "run", "-c", file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 30*time.Second, "the router says why it stays out", func() bool {
		return strings.Contains(cmd.Output(), `reason="addresses: vip: interface vrrp.51 exists`)
	})
	if n := len(wire.Packets()); n > 0 {
		t.Errorf("%d advertisements from a router that cannot have its addresses", n)
	}
	if err := h.Netlink().LinkDel(foreign); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 30*time.Second, "the router has its address", func() bool { return h.Holds(vip) })
	if err := cmd.Stop(10 * time.Second); err != nil {
		t.Error(err)
	}
}

// TestKilledLeavesNothing: what a router has changed on its interface is put back
// when the daemon is killed, be it Active or Backup; and a filter that outlives it
// goes with the next start, though the router accepts then.
func TestKilledLeavesNothing(t *testing.T) {
	t.Parallel()
	exe := havip(t)
	for _, state := range []string{"Active", "Backup"} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			h, client := l.MustHost("lb01", "192.168.31.240/24"), l.MustHost("client", "192.168.31.9/24")
			settings := func() (out string) {
				for _, name := range []string{"arp_ignore", "arp_announce", "promote_secondaries"} {
					if err := h.Do(func() error {
						b, err := os.ReadFile("/proc/sys/net/ipv4/conf/eth0/" + name)
						out += name + "=" + string(b)
						return err
					}); err != nil {
						t.Fatal(err)
					}
				}
				return out
			}
			before := settings()
			run := func(accept bool) *lab.Cmd {
				delay := "0s"
				if state == "Backup" {
					delay = "1000s"
				}
				file := filepath.Join(t.TempDir(), "havip.yaml")
				text := fmt.Sprintf(`vrrp:
  - {name: VI_1, interface: eth0, vrid: 51, interval: 100ms, virtual_mac: true, accept: %v, start_delay: %s, addresses: [%v/24],
     excluded: [{address: 192.168.31.251/24, interface: eth0}]}
`, accept, delay, vip)
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				cmd := h.Command(exe, "run", "-c", file)
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				lab.Until(t, 30*time.Second, "the router is "+state, func() bool {
					return strings.Contains(cmd.Output(), "to="+state) && settings() != before && h.Holds(vip) == (state == "Active")
				})
				return cmd
			}
			first := run(false)
			if err := first.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			lab.Eventually(t, 30*time.Second, "nothing is left", func() error {
				if got := settings(); got != before || h.Holds(vip) {
					return fmt.Errorf("settings\n%swere\n%s", got, before)
				}
				return nil
			})
			second := run(true)
			if state == "Active" {
				lab.Eventually(t, 30*time.Second, "the address is reached", func() error {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					conn, err := client.DialContext(ctx, "tcp", net.JoinHostPort(vip.String(), "9"))
					if err == nil {
						return conn.Close()
					}
					if errors.Is(err, syscall.ECONNREFUSED) {
						return nil // it was answered
					}
					return err
				})
			}
			if err := second.Stop(10 * time.Second); err != nil {
				t.Error(err)
			}
			if got := settings(); got != before {
				t.Errorf("settings in the end\n%swere\n%s", got, before)
			}
		})
	}
}
