package scenario

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Params are the values that both load balancers agree on.
type Params struct {
	// Interval is the VRRP advertisement interval.
	Interval time.Duration
	// Version is the VRRP version. Version 2 uses the password, unicast or not.
	Version uint8
	// Multicast sends to the group instead of to the peer.
	Multicast bool
}

const (
	vrid     = 51
	password = "d0cker"
	// checkFall is how many failed checks in a row make the balancer count as
	// down.
	checkFall = 2
)

// checkTimeout is the timeout of the local check. Its interval is that of VRRP, so that a
// faster demo is faster in everything.
func (p Params) checkTimeout() time.Duration { return p.Interval / 2 }

// skew is RFC 9568 §6.1 Skew_Time; RFC 3768 §6.1 has it with an interval of
// one second.
func (p Params) skew(priority uint8) time.Duration {
	interval := p.Interval
	if p.Version == 2 {
		interval = time.Second
	}
	return time.Duration(256-int(priority)) * interval / 256
}

// Down is for how long a Backup of the given priority waits for an
// advertisement.
func (p Params) Down(priority uint8) time.Duration { return 3*p.Interval + p.skew(priority) }

// checkDown is the longest time from a balancer's end to the verdict: a balancer that has
// just answered is asked checkFall times more.
func (p Params) checkDown() time.Duration { return checkFall*p.Interval + p.checkTimeout() }

// Havip is the VRRP half of the reference scenario. executable is the path of
// the havip binary.
func Havip(executable string) Program {
	return func(n *Node, dir string) ([]string, error) {
		var b bytes.Buffer
		fmt.Fprintf(&b, `checks:
  balancer: {type: tcp, address: "127.0.0.1:%s", interval: %v, timeout: %v, rise: 1, fall: %d}
vrrp:
  - name: VI_1
    interface: eth0
    vrid: %d
    priority: %d
    version: %d
    interval: %v
    preempt: false
`, servicePort, n.Params.Interval, n.Params.checkTimeout(), checkFall, vrid, n.Priority, n.Params.Version, n.Params.Interval)
		if !n.Params.Multicast {
			fmt.Fprintf(&b, "    peers: [%v]\n", n.Peer)
		}
		if n.Params.Version == 2 {
			fmt.Fprintf(&b, "    auth: {type: pass, secret: %s}\n", password)
		}
		fmt.Fprintf(&b, `    addresses: [%v]
    track:
      - {check: balancer}
`, VIP)
		return havipRun(executable, dir, b.Bytes())
	}
}

// HavipBalancer is the balancing half of the reference scenario.
func HavipBalancer(executable string) Program {
	return func(n *Node, dir string) ([]string, error) {
		var b bytes.Buffer
		fmt.Fprintf(&b, `services:
  - name: web
    listen: ":%s"
    mode: http
    balance: round-robin
    backends:
`, servicePort)
		for _, port := range appPorts {
			fmt.Fprintf(&b, "      - %v:%d\n", appAddr, port)
		}
		b.WriteString("    check: {type: http, path: /, interval: 2s}\n")
		return havipRun(executable, dir, b.Bytes())
	}
}

// havipRun writes the file of a havip that leaves the machine's socket, and what a havip
// there has noted down, alone: all hosts share its files.
func havipRun(executable, dir string, config []byte) ([]string, error) {
	file := filepath.Join(dir, "havip.yaml")
	config = append(config, "admin: {socket: off, state: off}\n"...)
	return []string{executable, "run", "-c", file}, os.WriteFile(file, config, 0o600)
}
