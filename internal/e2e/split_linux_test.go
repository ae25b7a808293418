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
// the address. When that is over, a client soon has answers from the better one, be
// it that LB-01 hears its rival, or only that LB-02 falls silent; and LB-01 has said
// who the rival was. Two keepaliveds are there for comparison.
func TestSplitHeals(t *testing.T) {
	t.Parallel()
	lab.Need(t, "keepalived", "nft")
	h := havipPeer(t)
	for _, test := range []struct {
		name  string
		peers [2]peer
		// quiet: LB-02 hears LB-01 while that one is still deaf.
		quiet bool
	}{
		{"havip, heard", [2]peer{h, h}, false},
		{"havip, quiet", [2]peer{h, h}, true},
		{"havip and keepalived, heard", [2]peer{h, keepalivedPeer}, false},
		{"havip and keepalived, quiet", [2]peer{h, keepalivedPeer}, true},
		{"keepalived, heard", [2]peer{keepalivedPeer, keepalivedPeer}, false},
		{"keepalived, quiet", [2]peer{keepalivedPeer, keepalivedPeer}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRouter("VI_1", 51, 3, "", false, false, [2]uint8{120, 110})
			r.interval = 100 * time.Millisecond
			p := newPair(t, test.peers, []virtualRouter{r})
			client := p.lab.MustHost("client", "192.168.31.9/24")
			var inside [2]func(func() error) error
			for i, n := range p.nodes {
				inside[i] = n.host.Do
			}
			w, err := newWitness(client, inside, r.addresses[0].Addr(), func(src netip.Addr) int {
				if src == p.nodes[1].addr(false) {
					return 1
				}
				return 0
			})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := w.close(); err != nil {
					t.Error(err)
				}
			}()
			for _, n := range p.nodes {
				if err := n.powerOn(); err != nil {
					t.Fatal(err)
				}
			}
			p.await("LB-01 has the address", func(*virtualRouter) holders { return lb01 })
			time.Sleep(5200 * time.Millisecond) // LB-01 has announced it for the last time
			hear := [2]func(){p.nodes[0].deaf(t), p.nodes[1].deaf(t)}
			p.await("both have the address", func(*virtualRouter) holders { return both })
			time.Sleep(3 * time.Second) // the client has heard LB-02's second round
			from := time.Now()
			if !test.quiet {
				hear[0]()
				time.Sleep(3 * r.interval) // it hears LB-02, which is still deaf
			}
			hear[1]()
			p.await("LB-02 has let go", func(*virtualRouter) holders { return lb01 })
			lab.Eventually(t, 30*time.Second, "LB-01 answers", func() error {
				if _, answered := w.now(); !answered {
					return fmt.Errorf("nobody does, %v after the split", time.Since(from))
				}
				return nil
			})
			time.Sleep(time.Second)
			if test.quiet {
				hear[0]()
			}
			t.Logf("%s: without an answer after the split for %v, before for %v; this machine was late by %v",
				test.name, w.silence(from).Round(time.Millisecond), w.silence(time.Time{}).Round(time.Millisecond), w.stalled(from, time.Now()).Round(time.Millisecond))
			if test.peers[0].name != h.name {
				return
			}
			if d := w.silence(from) - w.stalled(from, time.Now()); d > 4*time.Second {
				t.Errorf("nobody answered for %v", d)
			}
			if test.quiet {
				return
			}
			lab.Eventually(t, 30*time.Second, "LB-01 tells of the split", func() error {
				out := p.nodes[0].cmd.Output()
				for _, want := range []string{"split: another router is Active as well", "from=" + p.nodes[1].addr(false).String(), "mac=" + macOf(t, p.nodes[1]), "priority=110", "split: over"} {
					if !strings.Contains(out, want) {
						return fmt.Errorf("no %q in the log", want)
					}
				}
				return nil
			})
		})
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
