package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"github.com/havip/havip/internal/lab"
)

// TestLastWill: whatever kind of router it is, authenticated or not, the guard
// of a daemon that was killed says goodbye for it in a way that the peer
// believes, and leaves no address behind.
func TestLastWill(t *testing.T) {
	t.Parallel()
	lab.Need(t, "keepalived")
	h := havipPeer(t)
	killed := step{
		what: "LB-01 is killed", better: lb02, equal: lb02, quiet: aWhile,
		do: func(p *pair) error {
			return p.handOver(func() error { return p.nodes[0].cmd.Signal(syscall.SIGKILL) })
		},
	}
	for _, tc := range []struct {
		heir    peer
		routers []virtualRouter
	}{
		{keepalivedPeer, kinds(false)},
		{h, kinds(true)},
	} {
		t.Run(fmt.Sprintf("peer %s", tc.heir.name), func(t *testing.T) {
			t.Parallel()
			newPair(t, [2]peer{h, tc.heir}, tc.routers).live([]step{life[0], life[1], killed})
		})
	}
}

// TestWokenUp: a daemon that was frozen finds out that the address may be
// another's before it does anything for it: when it wakes up after its lease and
// before LB-02 takes over, just after that, and much later. Then it takes part in
// the election anew, and wins it.
func TestWokenUp(t *testing.T) {
	t.Parallel()
	lab.New(t) // or say why there cannot be labs
	h := havipPeer(t)
	for _, frozen := range []time.Duration{3300 * time.Millisecond, 4200 * time.Millisecond, 8 * time.Second} {
		t.Run(frozen.String(), func(t *testing.T) {
			t.Parallel()
			tr := &trial{interval: time.Second, peers: [2]peer{h, h}, cause: &cause{name: "woken up"}}
			s := &stage{trial: tr, ns: netns.None()}
			defer func() {
				if t.Failed() {
					t.Log(s.outputs())
				}
				if err := s.close(); err != nil {
					t.Error(err)
				}
			}()
			check := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			check(s.open(t.TempDir()))
			check(s.settle())
			s.from = time.Now()
			check(signal(syscall.SIGSTOP)(s))
			time.Sleep(frozen)
			woken := time.Now()
			check(signal(syscall.SIGCONT)(s))
			check(s.until("LB-01 finds out", func() bool {
				out := s.nodes[0].cmd.Output()
				return strings.Contains(out, "lease lapsed") || strings.Contains(out, "did not run for too long")
			}))
			check(s.until("LB-01 has the address back", func() bool {
				by, _ := s.witness.now()
				return by == lb01 && s.nodes[0].transitions() >= 4 // Active, Backup and Active again after the start
			}))
			if both, limit := s.witness.both(woken), time.Second+s.witness.stalled(woken, time.Now()); both > limit {
				t.Errorf("both had the address for %v", both)
			}
		})
	}
}
