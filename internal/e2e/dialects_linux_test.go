package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
)

// dialect is a kind of router that only some configurations have.
type dialect struct {
	router virtualRouter
	// What takes the place of what in the router's part of a configuration file. DIR is
	// the node's directory, with the program that noteProgram writes.
	havip, keepalived []string
}

// speaking makes a peer configure each router in its dialect. Who has what a router
// without addresses stands for is noted in a folder.
func speaking(p peer, notes, file, head string, dialects []dialect, words func(dialect) []string) peer {
	configure := p.configure
	state := func(n *node, label string) string {
		return filepath.Join(notes, strings.ReplaceAll(n.dir, "/", "_")+"."+label)
	}
	p.configure = func(n *node, routers []virtualRouter, dir string) ([]string, error) {
		if err := noteProgram(dir, state(n, "")); err != nil {
			return nil, err
		}
		var argv []string
		text := head
		for i, r := range routers {
			var err error
			if argv, err = configure(n, []virtualRouter{r}, dir); err != nil {
				return nil, err
			}
			b, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				return nil, err
			}
			part := strings.NewReplacer(words(dialects[i])...).Replace(strings.TrimPrefix(string(b), head))
			text += strings.ReplaceAll(part, "DIR", dir)
		}
		return argv, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600)
	}
	p.holds = func(n *node, r *virtualRouter) bool {
		if len(r.addresses) > 0 {
			return !slices.ContainsFunc(r.addresses, func(a netip.Prefix) bool { return !n.host.Holds(a.Addr()) })
		}
		b, _ := os.ReadFile(state(n, r.label()))
		return string(b) == "MASTER\n"
	}
	return p
}

// noteProgram writes a program that is to be told of a router without addresses:
// it notes who has what the router stands for, in files whose names begin so.
func noteProgram(dir, state string) error {
	return os.WriteFile(filepath.Join(dir, "note"), fmt.Appendf(nil, "#!/bin/sh\necho $3 > \"%s$2\"\n", state), 0o700)
}

// watchPrograms notes how long programs take that are run as those are that are to be
// told: they may have to be read from a disk which is busy.
func (p *pair) watchPrograms() {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for p.t.Context().Err() == nil {
			for _, n := range p.nodes {
				began := time.Now()
				// An error: the node was not started yet.
				_ = exec.Command(filepath.Join(n.dir, "note"), "INSTANCE", "watched", "MASTER").Run()
				p.overdue(time.Since(began))
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	p.t.Cleanup(func() { <-stopped })
}

// memoryDir is t.TempDir in memory, if there is such a thing: how long a change of
// state takes is measured by what is written there, and a disk may be busy for seconds.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "havip-e2e-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
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

// TestDialects: havip and Keepalived get on with one another, and havip with
// itself, where routers have no addresses and a program is to be told of them
// (Keepalived 2.2.7 in version 2 only), where all addresses are left out of the
// advertisements, and with old_unicast_checksum, with which Keepalived hears no other
// form and havip any. The guard of a killed havip says goodbye for all of them.
func TestDialects(t *testing.T) {
	t.Parallel()
	lab.Need(t, "keepalived")
	vrid := uint8(50)
	router := func(name string, version uint8, auth string, ipv6, unicast bool) virtualRouter {
		vrid++
		return newRouter(name, vrid, version, auth, ipv6, unicast, [2]uint8{120, 110})
	}
	none := func(d dialect) dialect {
		d.router.addresses = nil
		d.havip = append(d.havip, "    addresses:\n", "    notify: [DIR/note]\n")
		d.keepalived = append(d.keepalived, "\tvirtual_ipaddress {\n\t}\n", "\tnotify DIR/note\n")
		return d
	}
	const source, iface = "    source: ", "\tinterface eth0\n"
	both := []dialect{
		none(dialect{router: router("no addresses, unicast", 2, "pass", false, true)}),
		none(dialect{router: router("no addresses, multicast", 2, "", false, false)}),
		{router("excluded addresses only", 2, "", false, false),
			[]string{"    addresses:\n", "    excluded:\n"}, []string{"\tvirtual_ipaddress {", "\tvirtual_ipaddress_excluded {"}},
		{router("old unicast checksum", 3, "", false, true),
			[]string{source, "    checksum: old-unicast\n" + source}, []string{iface, iface + "\told_unicast_checksum\n"}},
	}
	// It need not be said to a havip that only hears.
	heard := slices.Clone(both)
	heard[3].havip = nil
	ours := []dialect{
		none(dialect{router: router("no addresses, v3 HMAC", 3, "hmac", false, false)}),
		none(dialect{router: router("no addresses, v3 IPv6", 3, "", true, false), havip: []string{"    interface:", "    family: ipv6\n    interface:"}}),
		none(dialect{router: router("no addresses, v3 IPv6 unicast", 3, "", true, true)}),
	}
	notes := memoryDir(t)
	h := func(list []dialect) peer {
		return speaking(havipPeer(t), notes, "havip.yaml", "vrrp:\n", list, func(d dialect) []string { return d.havip })
	}
	k := speaking(keepalivedPeer, notes, "keepalived.conf", "global_defs {\n\tscript_user root\n}\n", both, func(d dialect) []string { return d.keepalived })
	for _, tc := range []struct {
		name     string
		peers    [2]peer
		dialects []dialect
		leaves   step
	}{
		{"havip before keepalived", [2]peer{h(both), k}, both, dies},
		{"keepalived before havip", [2]peer{k, h(heard)}, heard, life[4]},
		{"havip before havip", [2]peer{h(ours), h(ours)}, ours, dies},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var routers []virtualRouter
			for _, d := range tc.dialects {
				routers = append(routers, d.router)
			}
			p := newPair(t, tc.peers, routers)
			p.watchPrograms()
			p.live(append(life[:2:2], tc.leaves))
			for _, n := range p.nodes {
				for line := range strings.Lines(n.cmd.Output()) {
					killed := strings.Contains(line, `msg="guard: the guarded process has died`)
					if strings.Contains(line, "does nothing") || strings.Contains(line, "level=ERROR") && !killed {
						t.Errorf("LB-%02d says %s", n.side+1, line)
					}
				}
			}
		})
	}
}
