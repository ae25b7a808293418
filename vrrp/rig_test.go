package vrrp

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// epoch is when virtual time begins.
var epoch = time.Date(2024, 2, 29, 23, 59, 0, 0, time.UTC)

// rig is one machine in virtual time.
type rig struct {
	*testing.T
	m   *Machine
	now time.Time
}

// newRig makes a machine at 192.0.2.10, not started. Fields of cfg that every
// router needs are filled in.
func newRig(t *testing.T, cfg Config) *rig {
	t.Helper()
	if cfg.VRID == 0 {
		cfg.VRID = 51
	}
	if cfg.Addresses == nil {
		cfg.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	}
	if !cfg.Source.IsValid() {
		cfg.Source = netip.MustParseAddr("192.0.2.10")
	}
	m, err := NewMachine(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &rig{T: t, m: m, now: epoch}
}

// script renders actions as one line.
func script(actions []Action) string {
	var words []string
	for _, a := range actions {
		switch a.Kind {
		case Send:
			words = append(words, fmt.Sprintf("Send %d", a.Priority))
		case Changed:
			t := a.Transition
			word := fmt.Sprintf("%v>%v (%v)", t.From, t.To, t.Cause)
			if t.Reason != "" {
				word += ": " + t.Reason
			}
			words = append(words, word)
		default:
			words = append(words, a.Kind.String())
		}
	}
	return strings.Join(words, ", ")
}

// at moves the time forward to d after the epoch, ticking whenever the machine
// wants to, and fails if that makes it do anything but advertise.
func (r *rig) at(d time.Duration) time.Time {
	r.Helper()
	for {
		deadline, ok := r.m.Deadline()
		if !ok || !deadline.Before(epoch.Add(d)) {
			break
		}
		if deadline.Before(r.now) {
			r.Fatalf("at %v: deadline %v ago", r.now.Sub(epoch), r.now.Sub(deadline))
		}
		r.now = deadline
		got := script(r.m.Tick(r.now))
		if got != "" && got != fmt.Sprintf("Send %d", r.m.Priority()) {
			r.Fatalf("at %v, on the way to %v: %s", r.now.Sub(epoch), d, got)
		}
	}
	r.now = epoch.Add(d)
	return r.now
}

// want checks what the last step asked for.
func (r *rig) want(got []Action, want string) {
	r.Helper()
	if s := script(got); s != want {
		r.Fatalf("at %v:\n got %s\nwant %s", r.now.Sub(epoch), s, want)
	}
}

// wantDeadline checks when the machine wants to be ticked.
func (r *rig) wantDeadline(want time.Duration) {
	r.Helper()
	got, ok := r.m.Deadline()
	if !ok || got.Sub(epoch) != want {
		r.Fatalf("at %v: deadline %v (%v), want %v", r.now.Sub(epoch), got.Sub(epoch), ok, want)
	}
}

// tick goes to d, where the deadline must be, and ticks.
func (r *rig) tick(d time.Duration, want string) {
	r.Helper()
	r.at(d)
	r.wantDeadline(d)
	r.want(r.m.Tick(r.now), want)
}

// hear receives at d an advertisement from 192.0.2.N with the interval of the
// machine.
func (r *rig) hear(d time.Duration, from byte, priority uint8, want string) {
	r.Helper()
	r.hearInterval(d, from, priority, r.m.cfg.Interval, want)
}

func (r *rig) hearInterval(d time.Duration, from byte, priority uint8, interval time.Duration, want string) {
	r.Helper()
	r.want(r.m.Receive(r.at(d), &Advertisement{
		Source:    netip.AddrFrom4([4]byte{192, 0, 2, from}),
		Version:   r.m.cfg.Version,
		VRID:      r.m.cfg.VRID,
		Priority:  priority,
		Interval:  interval,
		Addresses: r.m.cfg.Addresses,
	}), want)
}

// Lines that many tests expect.
const (
	started   = "Initialize>Backup (start)"
	timedOut  = "Send %d, Acquire, Announce, Backup>Active (no advertisement in time)"
	steppedBy = "Send %d, Release, Active>Backup (another router has the better claim)"
)

// backup starts a machine that becomes Backup.
func backup(t *testing.T, cfg Config) *rig {
	t.Helper()
	r := newRig(t, cfg)
	r.want(r.m.Start(r.now), started)
	return r
}

// active starts a machine and lets it become Active. The time is a little
// after that.
func active(t *testing.T, cfg Config) *rig {
	t.Helper()
	r := newRig(t, cfg)
	r.m.Start(r.now)
	for r.m.State() != Active {
		r.now, _ = r.m.Deadline()
		r.m.Tick(r.now)
	}
	r.at(r.since(time.Millisecond))
	return r
}

// since returns the time of the rig after the epoch plus d.
func (r *rig) since(d time.Duration) time.Duration { return r.now.Sub(epoch) + d }

// snapshot renders all of a machine that decides what it does next.
func snapshot(m *Machine) string {
	return fmt.Sprintf("%v timer %v (%v) interval %v priority %d preempt at %v heard %d at %v rival %d split %v claimed %v resigned %v challenges %v %d fault %q",
		m.state, m.timer, m.cause, m.interval, m.priority, m.preemptAt, m.peer.Priority, m.peer.LastHeard, m.rival, m.split, m.claimed, m.resigned, m.challenged, m.challenges, m.fault())
}
