package daemon

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/report"
	"github.com/havip/havip/vrrp"
)

// steering is what commands have said of routers and checks, and the parts to which that
// applies now. A command acts at once, and never waits for a reload: a part that a reload
// begins, ends or changes passes by here, so that a command finds either the part of
// before or the next part, and what was said is lost on neither. What is said of backends
// is in their pools, which outlive reloads: see lb.Override.
type steering struct {
	// saving admits one change of the maintenance at a time, which writes to a disk. It
	// guards folder.
	saving sync.Mutex
	folder string // of what outlives a restart; empty: nothing does
	// noteStays: the note of the maintenance could not be removed when it ended.
	noteStays atomic.Bool

	// mu guards what follows, and is held while a router or a check is told. It comes
	// after Daemon.mu and steering.saving, and before tracker.mu.
	mu          sync.Mutex
	maintenance *report.Maintenance // nil: there is none
	routers     map[string]*steeredRouter
	checks      map[string]*steeredCheck
}

// steerable is what steering needs of a *vrrp.Router.
type steerable interface {
	StandDown(reason string) (release func())
	Resign() error
	Status() vrrp.Status
}

// steeredRouter is what was said of a router, by the router's name.
type steeredRouter struct {
	cfg      config.Router
	priority uint8     // in the place of the file's; 0: none is
	since    time.Time // when that was said

	router  steerable // nil: a reload has ended it, and the next begins soon, or it could not be made
	tracker *tracker
	release func() // ends the hold of the maintenance; nil: it is not held
}

// steeredCheck is what was said of a check that routers may track.
type steeredCheck struct {
	monitor *healthcheck.Monitor
	paused  time.Time // since when; zero: it is not
}

func newSteering() *steering {
	return &steering{routers: map[string]*steeredRouter{}, checks: map[string]*steeredCheck{}}
}

// maintenanceFault is what keeps routers out of the election during a maintenance.
const maintenanceFault = "maintenance"

// beginRouter takes in a router that does not run yet: it never takes an address during a
// maintenance, and begins with the priority that was said.
func (s *steering) beginRouter(cfg config.Router, r steerable, t *tracker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.routers[cfg.Name]
	if e == nil {
		e = &steeredRouter{}
		s.routers[cfg.Name] = e
	}
	e.follow(cfg)
	e.router, e.tracker, e.release = r, t, nil
	if e.priority != 0 {
		t.setBase(e.priority)
	}
	if s.maintenance != nil {
		e.hold()
	}
}

// endRouter forgets the objects of a router that is about to end, and, if it does not
// begin again, what was said of it.
func (s *steering) endRouter(name string, again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.routers[name]; e != nil && again {
		e.router, e.tracker, e.release = nil, nil, nil
	} else {
		delete(s.routers, name)
	}
}

// retain forgets what was said of routers that a configuration does not have, such as one
// that could not be made: there is nothing of it that could end.
func (s *steering) retain(cfg *config.Config) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.routers, func(name string, _ *steeredRouter) bool {
		return !slices.ContainsFunc(cfg.VRRP, func(r config.Router) bool { return r.Name == name })
	})
}

// reconfigureTracker is tracker.reconfigure. A priority that was said ends if the file's
// has changed.
func (s *steering) reconfigureTracker(t *tracker, cfg config.Router, checks map[string]*check) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.routers[cfg.Name]; e != nil {
		e.follow(cfg)
	}
	t.reconfigure(cfg, checks)
}

// follow takes in what the file says.
func (e *steeredRouter) follow(cfg config.Router) {
	if e.cfg.Priority != cfg.Priority {
		e.priority = 0
	}
	e.cfg = cfg
}

// hold keeps the router out of the election, as planned work: a peer takes the addresses
// over first.
func (e *steeredRouter) hold() {
	if e.router != nil && e.release == nil {
		e.release = e.router.StandDown(maintenanceFault)
	}
}

// letGo ends hold.
func (e *steeredRouter) letGo() {
	if e.release != nil {
		e.release()
		e.release = nil
	}
}

// beginCheck takes in a check that begins. It is not the check of before, which another
// check of the name may have been, so nothing was said of it.
func (s *steering) beginCheck(name string, m *healthcheck.Monitor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checks[name] = &steeredCheck{monitor: m}
}

// endCheck forgets a check, unless another one has its name by now.
func (s *steering) endCheck(name string, m *healthcheck.Monitor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.checks[name]; c != nil && c.monitor == m {
		delete(s.checks, name)
	}
}

// changes are the values that are in the place of the file's, by kind and name.
func (s *steering) changes() (all []report.RuntimeChange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, e := range s.routers {
		if e.priority != 0 {
			all = append(all, runtimeChange("priority", name, int(e.priority), int(e.cfg.Priority), e.since))
		}
	}
	for name, c := range s.checks {
		if !c.paused.IsZero() {
			all = append(all, report.RuntimeChange{Kind: "check", Name: name, Value: "paused", Since: c.paused})
		}
	}
	slices.SortFunc(all, compareChanges)
	return all
}

// inMaintenance returns the maintenance; nil: there is none.
func (s *steering) inMaintenance() *report.Maintenance {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.maintenance == nil {
		return nil
	}
	return new(*s.maintenance)
}
