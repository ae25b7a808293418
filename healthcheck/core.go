package healthcheck

import (
	"cmp"
	"errors"
	"time"

	"github.com/havip/havip/internal/words"
)

// State is the state of a target, as its [Monitor] sees it.
type State uint8

const (
	// Unknown is the state before the first result.
	Unknown State = iota
	// Up means that the target works.
	Up
	// Down means that it does not.
	Down
)

var stateNames = []string{Unknown: "unknown", Up: "up", Down: "down"}

// String returns "unknown", "up" or "down".
func (s State) String() string { return words.Of(stateNames, s) }

// MarshalText returns the same word as String.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText accepts "unknown", "up" and "down".
func (s *State) UnmarshalText(text []byte) error { return words.Parse(stateNames, text, s) }

// Status is what a [Monitor] knows at one moment.
type Status struct {
	// Name is the Monitor's name.
	Name string
	// State is the target's state, and Since the time of its last change, or
	// of the Monitor's making.
	State State
	Since time.Time
	// Paused says that no probes are made.
	Paused bool
	// Checked is when the latest probe ended, zero before the first one, and
	// Latency how long it took.
	Checked time.Time
	Latency time.Duration
	// Err is what the latest probe returned: nil if it succeeded.
	Err error
	// Successes and Failures count the latest equal results in a row; one of
	// the two is always 0.
	Successes, Failures int
	// Probes, Failed and Changes count since the Monitor was made: probes
	// that ended, those of them that failed, and changes of State.
	Probes, Failed, Changes uint64
}

// errNotYet is the reason for Down before the first probe, and after a success that is
// not yet enough for Up.
var errNotYet = errors.New("its check has not succeeded yet")

// WhyDown returns nil unless the State is Down, and otherwise the reason, as a pool of
// backends needs it. A target whose State is Unknown is not down. A target that is Up stays
// Up although Err says that the latest probe has failed.
func (s Status) WhyDown() error {
	if s.State != Down {
		return nil
	}
	return cmp.Or(s.Err, errNotYet)
}

// minTriggerGap bounds the rate of probes that triggers cause: a flapping link may
// report hundreds of events a second.
const minTriggerGap = 100 * time.Millisecond

// core holds a Monitor's decisions as a value: the rise/fall counter and the time of
// the next probe. It reads no clock and draws no random number; delay arguments are
// the jitter to add.
type core struct {
	cfg *Config
	Status
	// slot is where the next probe belongs on the grid of probe times, and
	// due when it starts: at slot, or later by its jitter. Intervals count
	// from slot to slot, so that neither jitter nor lateness adds up.
	slot, due time.Time
	// last is the slot of the probe that started last.
	last time.Time
	// again says that a trigger came after that probe had started: another probe
	// follows its result at once.
	again bool
}

func newCore(cfg *Config, now time.Time) core {
	return core{cfg: cfg, Status: Status{Name: cfg.Name, State: cfg.Initial, Since: now}}
}

// startProbes puts the first probe delay after now.
func (c *core) startProbes(now time.Time, delay time.Duration) {
	c.slot = now.Add(delay)
	c.due = c.slot
	c.last = time.Time{}
	c.again = false
}

// beginProbe notes that the probe that was due starts.
func (c *core) beginProbe() {
	c.last = c.slot
	c.again = false
}

// triggerProbe asks for a probe at once, or as soon as the present probe has ended.
// The following probes are scheduled from there.
func (c *core) triggerProbe(now time.Time) {
	c.again = true
	at := now
	if earliest := c.last.Add(minTriggerGap); earliest.After(at) {
		at = earliest
	}
	if at.Before(c.due) {
		c.slot, c.due = at, at
	}
}

// setPaused reports whether it changed anything. Results from before a pause are too old
// to count towards a change after it.
func (c *core) setPaused(paused bool, now time.Time) bool {
	if paused == c.Paused {
		return false
	}
	c.Paused = paused
	if !paused {
		c.Successes, c.Failures = 0, 0
		c.slot, c.due = now, now
	}
	return true
}

// recordResult takes the result of the probe that began last, and schedules the next
// one. It reports whether the state changed.
func (c *core) recordResult(now time.Time, latency time.Duration, err error, delay time.Duration) bool {
	c.Checked, c.Latency, c.Err = now, latency, err
	c.Probes++
	if err != nil {
		c.Failed++
	}
	changed := false
	if !c.cfg.FailStatic || !errors.Is(err, ErrCannotRun) {
		changed = c.countResult(now, err == nil)
	}
	c.scheduleProbe(now, delay)
	if c.again {
		c.triggerProbe(now)
	}
	return changed
}

// countResult is the rise/fall counter. It reports whether the state changed.
func (c *core) countResult(now time.Time, success bool) bool {
	to := Down
	if success {
		to = Up
		c.Successes, c.Failures = c.Successes+1, 0
	} else {
		c.Successes, c.Failures = 0, c.Failures+1
	}
	switch {
	case c.State == to,
		c.State == Up && c.Failures < c.cfg.Fall,
		c.State == Down && c.Successes < c.cfg.Rise,
		c.State == Down && now.Before(c.Since.Add(c.cfg.HoldDown)):
		return false
	}
	c.State, c.Since = to, now
	c.Changes++
	return true
}

// scheduleProbe puts the next probe one interval after the slot of the last. If
// that time has passed already, because the probe took long, the next probe is
// due at once and takes the latest slot that has passed: it is never early,
// missed slots are never made up for, and the grid stays.
func (c *core) scheduleProbe(now time.Time, delay time.Duration) {
	interval := c.interval()
	c.slot = c.last.Add(interval)
	if late := now.Sub(c.slot); late > 0 {
		c.slot = c.slot.Add(late.Truncate(interval))
	}
	c.due = c.slot.Add(delay)
}

func (c *core) interval() time.Duration {
	switch {
	case c.State == Up && c.Failures > 0, c.State == Down && c.Successes > 0:
		return c.cfg.FastInterval
	case c.State == Down:
		return c.cfg.DownInterval
	}
	return c.cfg.Interval
}
