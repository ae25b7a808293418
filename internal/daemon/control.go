package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/report"
	"github.com/havip/havip/vrrp"
)

// What people do to a running daemon. A command acts on what runs now, and takes no lock
// that a reload holds for long. What it has said stays until the file itself says another
// value for the very same key, or the part ends. Who asked logs what was done, and for whom.

// Resign has a router hand over, as [vrrp.Router.Resign] does. If nobody takes over, the
// router takes its addresses back.
func (d *Daemon) Resign(router string) error {
	r, err := d.steering.running(router)
	if err != nil {
		return err
	}
	if err = r.Resign(); errors.Is(err, vrrp.ErrNotActive) {
		st := r.Status()
		is := st.State.String()
		if len(st.Faults) > 0 {
			is += " (" + strings.Join(st.Faults, ", ") + ")"
		}
		return fmt.Errorf("router %s: %w: it is %s, and only an Active router can hand over", router, report.ErrState, is)
	}
	return err
}

// SetPriority puts another priority, 1 to 254, in the place of the file's, to which the
// weights of checks are added as ever; 0: the file's counts again.
func (d *Daemon) SetPriority(router string, priority int) error {
	return d.steering.setPriority(router, priority)
}

func (s *steering) setPriority(router string, priority int) error {
	if priority < 0 || priority > 254 {
		return fmt.Errorf("priority %d is %w: want 1 to 254, or 0 for that of the file", priority, report.ErrInvalid)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.routers[router]
	if e == nil {
		return unknown("router", router, slices.Collect(maps.Keys(s.routers)))
	}
	if e.cfg.Priority == config.OwnerPriority {
		return fmt.Errorf("a priority for router %s is %w: its priority in the file is 255, since this host owns the addresses; that changes in the file only", router, report.ErrInvalid)
	}
	if e.priority, e.since = uint8(priority), time.Now(); e.priority == e.cfg.Priority {
		e.priority = 0
	}
	if e.tracker != nil {
		e.tracker.setBase(e.priority)
	}
	return nil
}

// running returns a router.
func (s *steering) running(name string) (steerable, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch e := s.routers[name]; {
	case e == nil:
		return nil, unknown("router", name, slices.Collect(maps.Keys(s.routers)))
	case e.router == nil:
		return nil, fmt.Errorf("router %s: %w: it does not run, or a reload is about to begin it anew", name, report.ErrState)
	default:
		return e.router, nil
	}
}

// What can be done to a check.
const (
	PauseCheck  = "pause"
	ResumeCheck = "resume"
	ProbeNow    = "now"
)

// SteerCheck pauses a check, which keeps what it has found, or resumes it, or has it probe
// now. The check is one under checks, by its name, or that of a backend, by the name of
// the service and that of the backend with a slash between them; the name of a check that
// services use stands for all backends that it probes.
func (d *Daemon) SteerCheck(name, do string) error {
	if do != PauseCheck && do != ResumeCheck && do != ProbeNow {
		return fmt.Errorf("%q is %w: want pause, resume or now", do, report.ErrInvalid)
	}
	found, err := d.steering.steerCheck(name, do)
	if !found && err == nil {
		found, err = d.steerProbes(name, do)
	}
	if !found && err == nil {
		err = unknown("check", name, d.checkNames())
	}
	return err
}

// steerCheck is SteerCheck for a check that routers may track. found: there is one.
func (s *steering) steerCheck(name, do string) (found bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.checks[name]
	if c == nil {
		return false, nil
	}
	switch do {
	case PauseCheck:
		if c.paused.IsZero() {
			c.paused = time.Now()
		}
		c.monitor.Pause()
	case ResumeCheck:
		c.paused = time.Time{}
		c.monitor.Resume()
	case ProbeNow:
		if !c.paused.IsZero() {
			return true, errPaused(name)
		}
		c.monitor.Trigger()
	}
	return true, nil
}

func errPaused(check string) error {
	return fmt.Errorf("check %s: %w: it is paused: resume it first", check, report.ErrState)
}

// steerProbes is SteerCheck for checks of backends.
func (d *Daemon) steerProbes(name, do string) (found bool, err error) {
	var errs []error
	for _, s := range d.View().Services {
		for _, p := range s.Pools {
			check := s.Check(p.Route)
			if check == nil {
				continue
			}
			var backends []string
			if check.Name == name {
				for _, b := range p.backends {
					backends = append(backends, b.Name)
				}
			} else if backend, ok := strings.CutPrefix(name, s.Config.Name+"/"); ok {
				backends = p.named(backend)
				if within, ok := strings.CutPrefix(backend, p.Route+"/"); ok && len(backends) == 0 {
					backends = p.named(within)
				}
			}
			for _, b := range backends {
				found = true
				errs = append(errs, p.upstream.probes.steer(b, do))
			}
		}
	}
	return found, errors.Join(errs...)
}

// Check is what probes the backends of a route, or the service's own; nil: nothing.
func (s ServiceView) Check(route string) *config.Check {
	for _, r := range s.Config.Routes {
		if r.Name == route {
			return r.Check
		}
	}
	return s.Config.Check
}

// checkNames are those that can be steered.
func (d *Daemon) checkNames() (names []string) {
	v := d.View()
	for _, c := range v.Checks {
		names = append(names, c.Config.Name)
	}
	for _, s := range v.Services {
		for _, p := range s.Pools {
			if s.Check(p.Route) != nil {
				for _, b := range p.backends {
					names = append(names, s.Config.Name+"/"+b.Name)
				}
			}
		}
	}
	return names
}

// Changes are the values that commands have put in the place of the file's.
func (d *Daemon) Changes() []report.RuntimeChange {
	all := d.steering.changes()
	for _, s := range d.View().Services {
		all = append(all, s.service.said.changes(s.Config.Name)...)
		for _, p := range s.Pools {
			all = append(all, p.changes()...)
		}
	}
	return all
}

// runtimeChange is a value in the place of the file's.
func runtimeChange[T any](kind, name string, value, file T, since time.Time) report.RuntimeChange {
	return report.RuntimeChange{Kind: kind, Name: name, Value: fmt.Sprint(value), File: fmt.Sprint(file), Since: since}
}

// compareChanges orders changes by kind and name.
func compareChanges(a, b report.RuntimeChange) int {
	return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name))
}

// unknown is the error of a name that no part has, with the names that there are.
func unknown(kind, name string, names []string) error {
	slices.Sort(names)
	return report.Unknown(kind, name, slices.Compact(names))
}
