package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

// night is a pair of nodes that an operator asks, and what they work with.
type night struct {
	hosts   [2]*lab.Host
	cmds    [2]*lab.Cmd
	sockets [2]string
	files   [2]string
	local   [2]net.Listener // that the check on the node connects to
	backend [2]net.Listener
}

// trouble is something that happens at night, and what has to be found in the first two
// lines of 'havip explain', the answer and its cause.
type trouble struct {
	name string
	// change is done to LB-02's configuration, and both to that of either.
	change, both *strings.Replacer

	act  func(t *testing.T, n *night)
	lb01 []string // nothing: it is not asked
	lb02 []string
}

const (
	ip1 = "192.168.31.240"
	ip2 = "192.168.31.241"
)

var troubles = []trouble{
	{name: "kill", act: func(t *testing.T, n *night) { n.signal(t, 0, syscall.SIGKILL) },
		lb02: []string{"has 192.168.31.250", ip1 + " left and said so", "killed and its guard said so"}},
	{name: "freeze", act: func(t *testing.T, n *night) { n.signal(t, 0, syscall.SIGSTOP) },
		lb02: []string{"has 192.168.31.250", ip1 + " was not heard in time", "frozen"}},
	{name: "freeze that ended", act: func(t *testing.T, n *night) {
		n.signal(t, 0, syscall.SIGSTOP)
		n.explains(t, 1, "has 192.168.31.250", ip1+" was not heard in time")
		n.signal(t, 0, syscall.SIGCONT)
	}, lb01: []string{"did not run for too long", "stopped, suspended"}},
	{name: "cut", act: func(t *testing.T, n *night) {
		if err := n.hosts[0].Cut(); err != nil {
			t.Fatal(err)
		}
	}, lb01: []string{"does not have 192.168.31.250", "Interface eth0 is down", "cable"},
		lb02: []string{"has 192.168.31.250", ip1 + " was not heard in time", "cut off"}},
	{name: "check failing", act: func(t *testing.T, n *night) { n.local[0].Close() },
		lb01: []string{"does not have 192.168.31.250", "check balancer is down", "connection refused"},
		lb02: []string{"has 192.168.31.250", ip1 + " left", "check that fails"}},
	{name: "all backends dead", act: func(t *testing.T, n *night) {
		for _, b := range n.backend {
			b.Close()
		}
	}, lb01: []string{"has 192.168.31.250", "service web has no working backend: 2 down", "connection refused"},
		lb02: []string{"does not have 192.168.31.250", ip1 + " has it", "priority 110 is lower than 120"}},
	{name: "wrong password", change: strings.NewReplacer("secret: d0cker", "secret: docker"),
		lb01: []string{"split brain", ip2, "wrong password"}, lb02: []string{"split brain", ip1, "wrong password"}},
	{name: "wrong version", change: strings.NewReplacer("version: 2", "version: 3", "    auth: {type: pass, secret: d0cker}\n", ""),
		lb01: []string{"split brain", ip2, "different versions", "version 3, want 2"}, lb02: []string{"split brain", ip1, "version 2, want 3"}},
	{name: "wrong peers", change: strings.NewReplacer("peers: [192.168.31.240]", "peers: [192.168.31.249]"),
		lb01: []string{"split brain", ip2, "its list of peers does not have " + ip1}, lb02: []string{"split brain", ip1, "the list of peers of VI_1 does not have it"}},
	{name: "other VRID", change: strings.NewReplacer("vrid: 51", "vrid: 52"),
		lb01: []string{"split brain", ip2 + " advertises with VRID 52", "VRID is 51"}, lb02: []string{"split brain", ip1 + " advertises with VRID 51", "VRID is 52"}},
	{name: "VRID clash", change: strings.NewReplacer("addresses: [192.168.31.250/24]", "addresses: [192.168.31.251/24]"),
		lb01: []string{"has 192.168.31.250", "Two pairs of routers", "VRID 51", "192.168.31.251"}},
	{name: "one-way firewall", act: func(t *testing.T, n *night) {
		n.drop(t, 1, "ip protocol 112")
	}, lb01: []string{"split brain", ip2, "it does not hear this host (one-way firewall for IP protocol 112"},
		lb02: []string{"split brain", ip1, "nothing of what it advertises arrives here", "a one-way firewall drops IP protocol 112"}},
	{name: "multicast filtered", both: strings.NewReplacer("    peers: [192.168.31.240]\n", "", "    peers: [192.168.31.241]\n", ""), act: func(t *testing.T, n *night) {
		n.drop(t, 1, "ip daddr 224.0.0.18")
	}, lb01: []string{"split brain", ip2, "it does not hear this host (one-way firewall for IP protocol 112"}, lb02: []string{"split brain", ip1, "a switch filters multicast (IGMP snooping"}},
	{name: "second daemon", act: func(t *testing.T, n *night) {
		// A copy of the file of LB-01, with a socket and ports of its own.
		text, err := os.ReadFile(n.files[0])
		if err != nil {
			t.Fatal(err)
		}
		socket := n.sockets[0] + "2"
		n.start(t, 0, strings.NewReplacer(n.sockets[0], socket, `":8080"`, `":8082"`).Replace(string(text)))
		n.sockets[0] = socket
	}, lb01: []string{"does not run", "VRID 51 on eth0 is in use by process", "second daemon"}},
}

// TestNight: whatever wakes an operator, the first two lines of 'havip explain' have the
// answer and the cause, on whichever of the two nodes it is asked.
func TestNight(t *testing.T) {
	lab.Need(t, "nft")
	for _, tr := range troubles {
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			n := newNight(t, tr.both, tr.change)
			if tr.act != nil {
				tr.act(t, n)
			}
			for i, want := range [][]string{tr.lb01, tr.lb02} {
				if len(want) > 0 {
					n.explains(t, i, want...)
				}
			}
		})
	}
}

// newNight starts both nodes, which hear each other unless change is in the way of that.
func newNight(t *testing.T, both, change *strings.Replacer) *night {
	t.Helper()
	n, l := &night{}, lab.New(t)
	for i := range n.backend {
		n.backend[i] = mustListen(t, l.MustHost(fmt.Sprintf("app%d", i+1), fmt.Sprintf("192.168.31.%d/24", 242+i)), ":8080")
		labtest.Serve(t, n.backend[i], labtest.EchoLines("app"))
	}
	for i := range n.hosts {
		n.hosts[i] = l.MustHost(fmt.Sprintf("lb%02d", i+1), fmt.Sprintf("192.168.31.%d/24", 240+i))
		n.local[i] = mustListen(t, n.hosts[i], "127.0.0.1:8081")
		labtest.Serve(t, n.local[i], labtest.EchoLines("local"))
		n.sockets[i] = filepath.Join(t.TempDir(), "s")
		config := fmt.Sprintf("admin: {socket: %s}\n"+storyConfig, n.sockets[i], "text", 120-10*i, 241-i)
		if both != nil {
			config = both.Replace(config)
		}
		if i == 1 && change != nil {
			config = change.Replace(config)
		}
		n.start(t, i, config)
		switch {
		case i == 0:
			n.explains(t, 0, "has 192.168.31.250", "no other router was heard")
		case change == nil:
			n.explains(t, 1, ip1+" has it")
		}
	}
	return n
}

// start runs a havip on a host, until the test ends.
func (n *night) start(t *testing.T, i int, config string) {
	t.Helper()
	n.files[i] = filepath.Join(t.TempDir(), "havip.yaml")
	if err := os.WriteFile(n.files[i], []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := n.hosts[i].Command(havip(t), "run", "-c", n.files[i])
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n.cmds[i] = cmd
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log on LB-%02d:\n%s", i+1, cmd.Output())
		}
	})
}

// drop makes a host discard what it gets of a kind.
func (n *night) drop(t *testing.T, i int, kind string) {
	t.Helper()
	for _, rule := range []string{"add table ip test", "add chain ip test in { type filter hook input priority 0 ; }", "add rule ip test in " + kind + " drop"} {
		if err := n.hosts[i].Command("nft", strings.Fields(rule)...).Run(); err != nil {
			t.Fatal(err)
		}
	}
}

func (n *night) signal(t *testing.T, i int, sig syscall.Signal) {
	t.Helper()
	if err := n.cmds[i].Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// explains waits until 'havip explain' on a node has all of these in its first two lines.
func (n *night) explains(t *testing.T, i int, want ...string) {
	t.Helper()
	lab.Eventually(t, 60*time.Second, fmt.Sprintf("LB-%02d explains", i+1), func() error {
		out, err := exec.Command(havip(t), "explain", "--socket", n.sockets[i], "192.168.31.250").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		lines := strings.SplitN(string(out), "\n", 3)
		first := strings.Join(lines[:min(2, len(lines))], "\n")
		for _, w := range want {
			if !strings.Contains(first, w) {
				return fmt.Errorf("%q is not in the first two lines of\n%s", w, out)
			}
		}
		t.Logf("LB-%02d says:\n%s", i+1, out)
		return nil
	})
}
