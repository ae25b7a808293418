package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
)

// deaf makes a node deaf to advertisements, and only to these, until hear is called.
func (n *node) deaf(t *testing.T) (hear func()) {
	t.Helper()
	nft := func(rules string) {
		t.Helper()
		cmd := n.host.Command("nft", strings.Fields(rules)...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatalf("nft %s: %v\n%s", rules, err, cmd.Output())
		}
	}
	nft("add table ip deaf")
	nft("add chain ip deaf in { type filter hook input priority 0 ; }")
	nft("add rule ip deaf in ip protocol 112 drop")
	return func() { nft("delete table ip deaf") }
}

// TestSplitHeals: the nodes do not hear each other's advertisements, and both have
// the address, whichever had it first. When that is over, a client soon has answers
// from the better one, be it that LB-01 hears its rival, or only that LB-02 falls
// silent; and LB-01 has said who the rival was. Two keepaliveds are there for
// comparison.
func TestSplitHeals(t *testing.T) {
	t.Parallel()
	lab.Need(t, "keepalived", "nft")
	h := havipPeer(t)
	for _, peers := range [][2]peer{{h, h}, {h, keepalivedPeer}, {keepalivedPeer, h}, {keepalivedPeer, keepalivedPeer}} {
		for _, newcomer := range []int{1, 0} {
			for _, quiet := range []bool{false, true} {
				name := fmt.Sprintf("%s and %s, LB-%02d later, quiet=%v", peers[0].name, peers[1].name, newcomer+1, quiet)
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					s := splitHeals{newPair(t, peers, []virtualRouter{newRouter("VI_1", 51, 3, "", false, false, [2]uint8{120, 110})}), newcomer, quiet}
					s.run(t, peers[0].name == h.name, peers[1].name == h.name)
				})
			}
		}
	}
}

// splitHeals is a pair that is split, and whole again.
type splitHeals struct {
	*pair
	newcomer int // the node that takes the address when the other one has it
	// quiet: LB-02 hears LB-01 while that one is still deaf.
	quiet bool
}

func (s splitHeals) run(t *testing.T, havip1, havip2 bool) {
	w := s.witness(t)
	first, second := s.nodes[1-s.newcomer], s.nodes[s.newcomer]
	held := [2]holders{lb01, lb02}[1-s.newcomer]
	hear := [2]func(){s.nodes[0].deaf(t), s.nodes[1].deaf(t)}
	if err := first.powerOn(); err != nil {
		t.Fatal(err)
	}
	s.await("the first has the address", func(*virtualRouter) holders { return held })
	time.Sleep(5200 * time.Millisecond) // it has announced it for the last time
	if err := second.powerOn(); err != nil {
		t.Fatal(err)
	}
	s.await("both have the address", func(*virtualRouter) holders { return both })
	time.Sleep(5500 * time.Millisecond) // so has the second one
	from := time.Now()
	if !s.quiet {
		hear[0]()
		time.Sleep(2 * s.routers[0].interval) // it hears LB-02, which is still deaf
		if havip1 {
			s.tells(t, "another router is Active as well")
		}
	}
	hear[1]()
	s.await("LB-02 has let go", func(*virtualRouter) holders { return lb01 })
	if !havip1 && !havip2 {
		time.Sleep(time.Second)
		if _, answered := w.now(); !answered {
			t.Logf("%s: still without an answer %v after the split", t.Name(), time.Since(from))
			return // it would be half a minute
		}
	}
	lab.Eventually(t, time.Minute, "LB-01 answers", func() error {
		if _, answered := w.now(); !answered {
			return fmt.Errorf("nobody does, %v after the split", time.Since(from))
		}
		return nil
	})
	time.Sleep(time.Second)
	if s.quiet {
		hear[0]()
	}
	t.Logf("%s: without an answer after the split for %v, before for %v; this machine was late by %v", t.Name(),
		w.silence(from).Round(time.Millisecond), w.silence(time.Time{}).Round(time.Millisecond), w.stalled(from, time.Now()).Round(time.Millisecond))
	if d := w.silence(from) - w.stalled(from, time.Now()); d > 4*time.Second && (havip1 || havip2) {
		t.Errorf("nobody answered for %v", d)
	}
	if havip1 && !s.quiet {
		s.told(t, w.stalled(from, time.Now()))
	}
}

// witness returns a client that asks for the address.
func (s splitHeals) witness(t *testing.T) *witness {
	t.Helper()
	var inside [2]func(func() error) error
	for i, n := range s.nodes {
		inside[i] = n.host.Do
	}
	client := s.lab.MustHost("client", "192.168.31.9/24")
	w, err := newWitness(20*time.Millisecond, client, inside, s.routers[0].addresses[0].Addr(), func(src netip.Addr) int {
		if src == s.nodes[1].addr(false) {
			return 1
		}
		return 0
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// tells waits until LB-01 has told something of the split, and returns that line.
func (s splitHeals) tells(t *testing.T, what string) (line string) {
	t.Helper()
	lab.Until(t, 30*time.Second, "LB-01 tells: split: "+what, func() bool {
		_, after, told := strings.Cut(s.nodes[0].cmd.Output(), "split: "+what)
		line, _, _ = strings.Cut(after, "\n")
		return told
	})
	return line
}

// told waits until LB-01 has told who the rival was, in one line, and that all is over.
// On a machine that was late it need not have found out the hardware address.
func (s splitHeals) told(t *testing.T, late time.Duration) {
	t.Helper()
	s.tells(t, "over")
	line := s.tells(t, "another router is Active as well")
	mac := macOf(t, s.nodes[1])
	if late > time.Second && strings.Contains(line, "mac=unknown") {
		mac = "unknown"
	}
	for _, want := range []string{"from=" + s.nodes[1].addr(false).String(), "mac=" + mac, "priority=110"} {
		if !strings.Contains(line, want) {
			t.Errorf("no %q in the line about the split: %q", want, line)
		}
	}
}

// macOf returns the hardware address of a node's interface.
func macOf(t *testing.T, n *node) string {
	t.Helper()
	link, err := n.host.Netlink().LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	return link.Attrs().HardwareAddr.String()
}
