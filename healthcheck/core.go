package healthcheck

import (
	"errors"
	"time"
)

// minTriggerGap keeps a source of events that has gone wild, such as a link
// that flaps, from turning into a storm of probes.
const minTriggerGap = 100 * time.Millisecond

// core is what a Monitor decides with: the rise/fall counter and the time of
// the next probe, as a value. It reads no clock and draws no random number;
// delay arguments are the jitter to add.
type core struct {
	cfg *Config
	Status
	// slot is where the next probe belongs on the grid of probe times, and
	// due when it starts: at slot, or later by its jitter. Intervals count
	// from slot to slot, so that neither jitter nor lateness adds up.
	slot, due time.Time
	// last is the slot of the probe that started last.
	last time.Time
	// running says that this probe has no result yet, and again that a
	// trigger came after it started, too late for it to see the reason.
	running, again bool
}

func newCore(cfg *Config, now time.Time) core {
	return core{cfg: cfg, Status: Status{Name: cfg.Name, State: cfg.Initial, Since: now}}
}

// start puts the first probe delay after now.
func (c *core) start(now time.Time, delay time.Duration) {
	c.slot = now.Add(delay)
	c.due = c.slot
	c.last = time.Time{}
	c.running, c.again = false, false
}

// begin notes that the probe that was due starts.
func (c *core) begin() {
	c.last = c.slot
	c.running, c.again = true, false
}

// trigger asks for a probe at once, or as soon as the present one has ended,
// and moves the grid there.
func (c *core) trigger(now time.Time) {
	if c.running {
		c.again = true
		return
	}
	at := now
	if earliest := c.last.Add(minTriggerGap); earliest.After(at) {
		at = earliest
	}
	if at.Before(c.due) {
		c.slot, c.due = at, at
	}
}

// pause and resume report whether they changed anything. Results from before a
// pause are too old to count towards a change after it.
func (c *core) pause() bool {
	changed := !c.Paused
	c.Paused = true
	c.running = false
	return changed
}

func (c *core) resume(now time.Time) bool {
	if !c.Paused {
		return false
	}
	c.Paused = false
	c.Successes, c.Failures = 0, 0
	c.slot, c.due = now, now
	return true
}

// record takes the result of the probe that began last, and schedules the next
// one. It reports whether the state changed.
func (c *core) record(now time.Time, latency time.Duration, err error, delay time.Duration) bool {
	c.Checked, c.Latency, c.Err = now, latency, err
	c.Probes++
	if err != nil {
		c.Failed++
	}
	changed := false
	if !c.cfg.FailStatic || !errors.Is(err, ErrCannotRun) {
		changed = c.count(now, err == nil)
	}
	c.running = false
	c.schedule(now, delay)
	if c.again {
		c.again = false
		c.trigger(now)
	}
	return changed
}

// count is the rise/fall counter.
func (c *core) count(now time.Time, success bool) bool {
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

// schedule puts the next probe one interval after the slot of the last. If
// that time has passed already, because the probe took long, the next probe is
// due at once and takes the latest slot that has passed: it is never early,
// missed slots are never made up for, and the grid stays.
func (c *core) schedule(now time.Time, delay time.Duration) {
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
