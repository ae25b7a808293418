package e2e

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"github.com/havip/havip/internal/lab"
)

// A daemon that was stopped for so long that its lease is over wakes up just
// before its peer takes over, or just after that: it does not talk the peer out of
// an address that it does not have itself.
func TestWokenNode(t *testing.T) {
	lab.Need(t, "keepalived")
	t.Parallel()
	lab.New(t) // or say why there cannot be labs
	h := havipPeer(t)
	for _, heir := range []peer{h, keepalivedPeer} {
		for _, frozen := range []time.Duration{3350 * time.Millisecond, 3950 * time.Millisecond} {
			t.Run(fmt.Sprintf("heir %s, frozen for %v", heir.name, frozen), func(t *testing.T) {
				t.Parallel()
				tr := &trial{interval: time.Second, peers: [2]peer{h, heir}, cause: havipCauses[0]}
				s := &stage{trial: tr, ns: netns.None()}
				defer func() {
					if t.Failed() {
						t.Log(s.outputs())
					}
					if err := s.close(); err != nil {
						t.Error(err)
					}
				}()
				if err := s.wakeUp(t.TempDir(), frozen); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

// watched is for how long a test looks at what a woken daemon does: less than LB-01
// listens before it preempts.
const watched = time.Second

// wakeUp stops LB-01 right after an advertisement for a while, and watches what
// it does then.
func (s *stage) wakeUp(dir string, frozen time.Duration) error {
	if err := s.open(dir); err != nil {
		return err
	}
	if err := s.settle(); err != nil {
		return err
	}
	fresh := time.Now()
	err := s.until("LB-01 advertises", func() bool { return len(s.witness.heard(fresh)) > 0 })
	if err != nil {
		return err
	}
	if err := s.nodes[0].cmd.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	time.Sleep(frozen / 2) // what it has sent until then was heard, and LB-02 waits
	list := s.witness.heard(fresh)
	time.Sleep(time.Until(list[len(list)-1].at.Add(frozen)))
	woken := time.Now()
	if err := s.nodes[0].cmd.Signal(syscall.SIGCONT); err != nil {
		return err
	}
	err = s.until("LB-02 has the address", func() bool { by, _ := s.witness.now(); return by&lb02 != 0 })
	if err != nil {
		return err
	}
	time.Sleep(watched)
	for _, a := range s.witness.heard(woken) {
		if a.side == 0 && a.at.Before(woken.Add(watched)) {
			return fmt.Errorf("LB-01 advertised priority %d %v after it was woken", a.priority, a.at.Sub(woken))
		}
	}
	return s.witness.neverNobody()
}

// neverNobody finds a time after LB-02 took the address at which neither node had
// it.
func (w *witness) neverNobody() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var taken time.Time
	for _, l := range w.looks {
		switch {
		case l.by&lb02 != 0 && taken.IsZero():
			taken = l.at
		case l.by == nobody && !taken.IsZero():
			return fmt.Errorf("neither node had the address %v after LB-02 took it", l.at.Sub(taken))
		}
	}
	return nil
}
