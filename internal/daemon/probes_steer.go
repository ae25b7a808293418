package daemon

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/havip/havip/internal/report"
)

// pause is what a command has said of the probes of a backend.
type pause struct {
	paused bool // false: of an address whose name is paused
	since  time.Time
}

// steer pauses or resumes the probes of a backend, or has it probed now. A backend that is a
// name stands for all of its addresses, now and later.
func (p *probes) steer(backend, do string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if do != ProbeNow {
		p.say(backend, do == PauseCheck)
	}
	var errs []error
	for _, c := range p.all() {
		switch {
		case c.backend != backend && c.origin != backend:
		case do != ProbeNow:
			p.steerMonitor(c)
		case c.monitor.Status().Paused:
			errs = append(errs, errPaused(c.name))
		default:
			c.monitor.Trigger()
		}
	}
	return errors.Join(errs...)
}

// say keeps what holds for a backend from now on; what was said of single addresses of its
// name is over. p.mu is held.
func (p *probes) say(backend string, paused bool) {
	before, again := p.said[backend]
	maps.DeleteFunc(p.said, func(name string, _ pause) bool { return name == backend || p.originOf(name) == backend })
	switch origin := p.originOf(backend); {
	case again && before.paused == paused:
		p.said[backend] = before
	case paused, origin != backend && p.said[origin].paused:
		p.said[backend] = pause{paused, time.Now()}
	}
}

// originOf is the backend that has an address of its name called so, or else name itself.
// p.mu is held.
func (p *probes) originOf(name string) string {
	for _, c := range p.all() {
		if c.backend == name {
			return c.origin
		}
	}
	return name
}

// all are the monitors that there are, those included that wait for the next configuration
// to go on. p.mu is held.
func (p *probes) all() []*check {
	return slices.AppendSeq(slices.Collect(maps.Values(p.monitors)), maps.Values(p.parked))
}

// isPaused reports whether a backend is not to be probed. origin is the backend as it is
// configured.
func (p *probes) isPaused(backend, origin string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.saidOf(backend, origin)
}

// saidOf is isPaused with p.mu held.
func (p *probes) saidOf(backend, origin string) bool {
	if s, ok := p.said[backend]; ok {
		return s.paused
	}
	return p.said[origin].paused
}

// steerMonitor has a monitor do what was said. p.mu is held.
func (p *probes) steerMonitor(c *check) {
	if p.saidOf(c.backend, c.origin) {
		c.monitor.Pause()
	} else if c.monitor.Status().Paused {
		c.monitor.Resume()
	}
}

// forget drops what was said of what the next configuration does not have: of a check whose
// keys differ, and of backends that are gone.
func (p *probes) forget(next upstreamConfig) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.check.Equal(next.check) {
		clear(p.said)
	}
	stays := map[string]bool{}
	for _, b := range next.pool.WithDefaults().Backends {
		stays[b.Name] = true
	}
	maps.DeleteFunc(p.said, func(name string, _ pause) bool { return !stays[p.originOf(name)] })
}

// changes are the backends that are paused, called after the pool.
func (p *probes) changes(pool string) (all []report.RuntimeChange) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, s := range p.said {
		if s.paused {
			all = append(all, report.RuntimeChange{Kind: "check", Name: pool + name, Value: "paused", Since: s.since})
		}
	}
	slices.SortFunc(all, compareChanges)
	return all
}
