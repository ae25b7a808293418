package e2e

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/havip/havip/internal/lab"
)

// interval is the advertisement interval of a pair unless it says otherwise: long
// enough that a busy machine does not make a healthy node look dead.
const interval = time.Second

// virtualRouter is what the two nodes of a pair agree on.
type virtualRouter struct {
	name          string
	vrid          uint8
	version       uint8
	auth          string // none: "", otherwise pass, ah or hmac
	ipv6, unicast bool
	priority      [2]uint8 // of LB-01 and LB-02
	interval      time.Duration
	addresses     []netip.Prefix
}

func (r *virtualRouter) equal() bool { return r.priority[0] == r.priority[1] }

// newRouter makes a router with addresses of its own.
func newRouter(name string, vrid, version uint8, auth string, ipv6, unicast bool, priority [2]uint8) virtualRouter {
	r := virtualRouter{name: name, vrid: vrid, version: version, auth: auth, ipv6: ipv6, unicast: unicast, priority: priority, interval: interval}
	addrs := []string{fmt.Sprintf("192.168.31.%d/24", vrid)}
	if ipv6 {
		addrs = []string{fmt.Sprintf("fe80::5:%d/64", vrid), fmt.Sprintf("2001:db8:31::%d/64", vrid)}
	}
	for _, a := range addrs {
		r.addresses = append(r.addresses, netip.MustParsePrefix(a))
	}
	return r
}

// casts are the two ways that advertisements travel.
var casts = []struct {
	name    string
	unicast bool
}{{"unicast", true}, {"multicast", false}}

// peer is a program that plays a node of a pair.
type peer struct {
	name string
	// configure writes the configuration into dir and returns the command line.
	configure func(n *node, routers []virtualRouter, dir string) ([]string, error)
	// holds tells whether the node has the router's addresses. Default: they
	// are on an interface.
	holds func(n *node, r *virtualRouter) bool
	// mac is the hardware address that the router's advertisements come from.
	// Default: the interface's.
	mac func(r *virtualRouter) net.HardwareAddr
	// state is in each log line about a change of the state.
	state string
}

func havipPeer(t testing.TB) peer {
	exe := havip(t)
	return peer{name: "havip", state: "msg=state", configure: func(n *node, routers []virtualRouter, dir string) ([]string, error) {
		var b bytes.Buffer
		b.WriteString("vrrp:\n")
		for _, r := range routers {
			fmt.Fprintf(&b, "  - name: %q\n    interface: eth0\n    vrid: %d\n    priority: %d\n    version: %d\n    interval: %v\n",
				r.label(), r.vrid, r.priority[n.side], r.version, r.interval)
			if r.unicast {
				fmt.Fprintf(&b, "    source: %q\n    peers: [%q]\n", n.addr(r.ipv6), n.other.addr(r.ipv6))
			}
			switch r.auth {
			case "":
			case "hmac":
				fmt.Fprintf(&b, "    auth: {type: hmac, keys: [{id: 1, secret: %s}]}\n", strings.Repeat("d0cker", 6))
			default:
				fmt.Fprintf(&b, "    auth: {type: %s, secret: d0cker}\n", r.auth)
			}
			b.WriteString("    addresses:\n")
			for _, a := range r.addresses {
				fmt.Fprintf(&b, "      - %q\n", a)
			}
		}
		file := filepath.Join(dir, "havip.yaml")
		return []string{exe, "run", "-c", file}, os.WriteFile(file, b.Bytes(), 0o600)
	}}
}

// label is the name without what not every program takes.
func (r *virtualRouter) label() string {
	return strings.Map(func(c rune) rune {
		if c == ' ' || c == ',' {
			return '-'
		}
		return c
	}, r.name)
}

var keepalivedPeer = peer{name: "keepalived", state: "Entering ", configure: func(n *node, routers []virtualRouter, dir string) ([]string, error) {
	var b bytes.Buffer
	for _, r := range routers {
		fmt.Fprintf(&b, "vrrp_instance %s {\n\tinterface eth0\n\tstate BACKUP\n\tvirtual_router_id %d\n\tpriority %d\n\tversion %d\n\tadvert_int %g\n",
			r.label(), r.vrid, r.priority[n.side], r.version, r.interval.Seconds())
		if r.unicast {
			fmt.Fprintf(&b, "\tunicast_src_ip %v\n\tunicast_peer {\n\t\t%v\n\t}\n", n.addr(r.ipv6), n.other.addr(r.ipv6))
		}
		if r.auth != "" {
			fmt.Fprintf(&b, "\tauthentication {\n\t\tauth_type %s\n\t\tauth_pass d0cker\n\t}\n", strings.ToUpper(r.auth))
		}
		b.WriteString("\tvirtual_ipaddress {\n")
		for _, a := range r.addresses {
			fmt.Fprintf(&b, "\t\t%v dev eth0\n", a)
		}
		b.WriteString("\t}\n}\n")
	}
	file := filepath.Join(dir, "keepalived.conf")
	return keepalivedCommand(dir, file), os.WriteFile(file, b.Bytes(), 0o600)
}}

// edited is a peer with something else in its configuration file.
func edited(p peer, file string, replace ...string) peer {
	configure, r := p.configure, strings.NewReplacer(replace...)
	p.configure = func(n *node, routers []virtualRouter, dir string) ([]string, error) {
		argv, err := configure(n, routers, dir)
		if err != nil {
			return nil, err
		}
		path := filepath.Join(dir, file)
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		return argv, os.WriteFile(path, []byte(r.Replace(string(b))), 0o600)
	}
	return p
}

// node is one of the two hosts of a pair.
type node struct {
	side    int
	peer    peer
	host    *lab.Host
	other   *node
	own     []netip.Prefix // addresses that are not virtual
	macs    []string       // hardware addresses that it sends from
	dir     string
	routers []virtualRouter
	log     *os.File // in the place of cmd.Output
	cmd     *lab.Cmd
	off     atomic.Bool
}

func (n *node) addr(ipv6 bool) netip.Addr {
	for _, p := range n.own {
		if a := p.Addr(); a.Is6() == ipv6 && !a.IsLinkLocalUnicast() {
			return a
		}
	}
	return netip.Addr{}
}

// owns reports whether an address is one of the node's that are not virtual.
func (n *node) owns(a netip.Addr) bool {
	return slices.ContainsFunc(n.own, func(p netip.Prefix) bool { return p.Addr() == a })
}

// powerOn connects the host and starts its program.
func (n *node) powerOn() error {
	if err := n.host.Restore(); err != nil {
		return err
	}
	// Keepalived takes the id of a killed predecessor for a running one while
	// something has it.
	for _, name := range []string{"keepalived.pid", "vrrp.pid"} {
		os.Remove(filepath.Join(n.dir, name))
	}
	argv, err := n.peer.configure(n, n.routers, n.dir)
	if err != nil {
		return err
	}
	n.cmd = n.host.Command(argv[0], argv[1:]...)
	n.cmd.Dir, n.cmd.Private = n.dir, true
	if n.log != nil {
		n.cmd.Stdout = n.log
	}
	n.off.Store(false)
	return n.cmd.Start()
}

// powerOff pulls the plug: nobody says goodbye, and the host forgets what was
// put on its interface.
func (n *node) powerOff() error {
	n.off.Store(true)
	if err := n.host.Cut(); err != nil {
		return err
	}
	if err := n.host.Kill(); err != nil {
		return err
	}
	nl := n.host.Netlink()
	links, err := nl.LinkList()
	if err != nil {
		return err
	}
	for _, link := range links {
		if link.Type() == "macvlan" { // FRR's
			if err := nl.LinkDel(link); err != nil {
				return err
			}
		}
	}
	list, err := nl.AddrList(nil, syscall.AF_UNSPEC)
	if err != nil {
		return err
	}
	for _, a := range list {
		ip, _ := netip.AddrFromSlice(a.IP)
		if ip.IsLoopback() || slices.ContainsFunc(n.own, func(p netip.Prefix) bool { return p.Addr() == ip.Unmap() }) {
			continue
		}
		link := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: a.LinkIndex}}
		if err := nl.AddrDel(link, &a); err != nil {
			return err
		}
	}
	return nil
}

// stop ends the program as its administrator does.
func (n *node) stop() error { return n.cmd.Stop(10 * time.Second) }

// transitions is how often the program has said that a state changed.
func (n *node) transitions() int { return strings.Count(n.cmd.Output(), n.peer.state) }
