package e2e

import (
	"fmt"
	"syscall"
	"testing"

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
