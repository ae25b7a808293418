package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/havip/havip/internal/lab"
)

// TestOldUnicastChecksum: a Keepalived with old_unicast_checksum, which hears
// no other form, and havip with checksum: old-unicast share addresses; and its
// advertisements are heard by a havip that sends the usual form, too.
func TestOldUnicastChecksum(t *testing.T) {
	t.Parallel()
	lab.Need(t, "keepalived")
	const unicast, iface = "    source: ", "\tinterface eth0\n"
	plain := havipPeer(t)
	h := edited(plain, "havip.yaml", unicast, "    checksum: old-unicast\n"+unicast)
	k := edited(keepalivedPeer, "keepalived.conf", iface, iface+"\told_unicast_checksum\n")
	for name, peers := range map[string][2]peer{"havip first": {h, k}, "keepalived first": {k, h}, "havip hears only": {k, plain}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, peers, []virtualRouter{newRouter("v3 IPv4", 51, 3, "", false, true, [2]uint8{120, 110})})
			p.live(life[:2])
			p.live(life[4:5])
		})
	}
}

// dies is LB-01's death by SIGKILL, of which its guard tells LB-02.
var dies = step{
	what: "LB-01 is killed", better: lb02, equal: lb02, quiet: aWhile,
	do: func(p *pair) error {
		return p.handOver(func() error {
			p.nodes[0].off.Store(true) // nobody tells its notify program
			return p.nodes[0].cmd.Signal(syscall.SIGKILL)
		})
	},
}

// told makes a peer serve routers that have no addresses: who is to have what
// they stand for is told to a program that notes it.
func told(p peer, file, head string, replace ...string) peer {
	p = edited(p, file, replace...)
	configure := p.configure
	p.configure = func(n *node, routers []virtualRouter, dir string) ([]string, error) {
		argv, err := configure(n, routers, dir)
		if err != nil {
			return nil, err
		}
		conf, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return nil, err
		}
		text := head + strings.ReplaceAll(string(conf), "DIR", dir)
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			return nil, err
		}
		return argv, os.WriteFile(filepath.Join(dir, "note"), []byte("#!/bin/sh\necho $3 > \"${0%/*}/state.$2\"\n"), 0o700)
	}
	p.holds = func(n *node, r *virtualRouter) bool {
		b, _ := os.ReadFile(filepath.Join(n.dir, "state."+r.label()))
		return string(b) == "MASTER\n"
	}
	return p
}

// TestWithoutAddresses: routers that have no addresses agree about which of them
// is to be told to move something else. Keepalived 2.2.7 does it in version 2
// only; the guard of a killed havip says goodbye as for any router.
func TestWithoutAddresses(t *testing.T) {
	t.Parallel()
	lab.Need(t, "keepalived")
	h := told(havipPeer(t), "havip.yaml", "", "    addresses:\n", "    notify: [DIR/note]\n")
	// In IPv6 that is all that says so; the peers of unicast do, too.
	h6 := edited(h, "havip.yaml", "    version: 3\n    interval: 1s\n    notify", "    version: 3\n    interval: 1s\n    family: ipv6\n    notify")
	k := told(keepalivedPeer, "keepalived.conf", "global_defs {\n\tscript_user root\n}\n", "\tvirtual_ipaddress {\n\t}\n", "\tnotify DIR/note\n")
	kinds := func(version uint8, auth string, ipv6 bool) (list []virtualRouter) {
		for _, cast := range casts {
			r := newRouter(cast.name, uint8(51+len(list)), version, auth, ipv6, cast.unicast, [2]uint8{120, 110})
			r.addresses = nil
			list = append(list, r)
		}
		return list
	}
	for _, tc := range []struct {
		name    string
		peers   [2]peer
		routers []virtualRouter
		leaves  step
	}{
		{"havip before keepalived", [2]peer{h, k}, kinds(2, "", false), dies},
		{"keepalived before havip", [2]peer{k, h}, kinds(2, "pass", false), life[4]},
		{"v3", [2]peer{h, h}, kinds(3, "hmac", false), dies},
		{"v3 IPv6", [2]peer{h6, h6}, kinds(3, "", true), life[4]},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, tc.peers, tc.routers)
			p.live(append(life[:2:2], tc.leaves))
			for _, n := range p.nodes {
				if out := n.cmd.Output(); strings.Contains(out, "does nothing") || strings.Contains(out, "level=ERROR") {
					t.Errorf("LB-%02d says\n%s", n.side+1, out)
				}
			}
		})
	}
}

// TestExcludedOnly: addresses that move and are in nobody's advertisements, not
// even beside others that are.
func TestExcludedOnly(t *testing.T) {
	t.Parallel()
	lab.Need(t, "keepalived")
	h := edited(havipPeer(t), "havip.yaml", "    addresses:\n", "    excluded:\n")
	k := edited(keepalivedPeer, "keepalived.conf", "\tvirtual_ipaddress {", "\tvirtual_ipaddress_excluded {")
	for _, peers := range [][2]peer{{h, k}, {k, h}} {
		t.Run(fmt.Sprintf("LB-01 %s/LB-02 %s", peers[0].name, peers[1].name), func(t *testing.T) {
			t.Parallel()
			p := newPair(t, peers, []virtualRouter{newRouter("v2", 51, 2, "", false, false, [2]uint8{120, 110})})
			p.live(append(life[:2:2], life[4]))
		})
	}
}
