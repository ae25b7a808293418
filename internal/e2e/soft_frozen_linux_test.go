package e2e

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"github.com/havip/havip/internal/lab"
)

// TestSoftHandOverDisturbed: a daemon that is frozen or killed in the middle of a hand-over
// does not keep the address for as long as its lease would last otherwise. When it is woken,
// it says and adds nothing.
func TestSoftHandOverDisturbed(t *testing.T) {
	lab.Need(t, "keepalived")
	t.Parallel()
	lab.New(t) // or say why there cannot be labs
	h := havipPeer(t)
	for _, heir := range []peer{h, keepalivedPeer} {
		for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
			t.Run(fmt.Sprintf("%s, %v", heir.name, sig), func(t *testing.T) {
				t.Parallel()
				tr := &trial{interval: 2 * time.Second, peers: [2]peer{h, heir}, cause: &cause{}, fine: true}
				s := &stage{trial: tr, ns: netns.None()}
				defer func() {
					if t.Failed() {
						t.Log(s.outputs())
					}
					if err := s.close(); err != nil {
						t.Error(err)
					}
				}()
				if err := s.disturb(t, sig); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// disturb stops LB-01, and sends a signal as soon as its hand-over has begun.
func (s *stage) disturb(t *testing.T, sig syscall.Signal) error {
	if err := s.open(t.TempDir()); err != nil {
		return err
	}
	if err := s.settle(); err != nil {
		return err
	}
	s.from = time.Now()
	if err := s.nodes[0].cmd.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	err := s.until("LB-01 hands over", func() bool { return strings.Contains(s.nodes[0].cmd.Output(), "hands over") })
	if err != nil {
		return err
	}
	time.Sleep(50 * time.Millisecond) // the lease is renewed
	if err := s.nodes[0].cmd.Signal(sig); err != nil {
		return err
	}
	if err := s.await("LB-02 has the address", lb02); err != nil {
		return err
	}
	woken := time.Now()
	if sig == syscall.SIGSTOP {
		time.Sleep(3 * time.Second) // the usual lease is 6 s
		woken = time.Now()
		if err := s.nodes[0].cmd.Signal(syscall.SIGCONT); err != nil {
			return err
		}
	}
	if err := s.until("LB-01 ends", func() bool { return ended(s.nodes[0].cmd.Done()) }); err != nil {
		return err
	}
	time.Sleep(watched)
	late := s.witness.stalled(s.from, time.Now())
	both, after := s.witness.spent(s.from, both), s.witness.spent(woken, both)
	t.Logf("both had the address for %v, late by %v", both, late)
	said := slices.ContainsFunc(s.witness.heard(woken), func(a advert) bool { return a.side == 0 })
	if both > time.Second+late || after > late || said {
		return fmt.Errorf("both had the address for %v, and for %v after LB-01 was woken, which advertised: %v; late by %v", both, after, said, late)
	}
	return nil
}
