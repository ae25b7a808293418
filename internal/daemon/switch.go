package daemon

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/report"
)

// serviceSwitch is what commands have said of a service itself. The service that takes the
// place of another has the same one, so that a command finds the plane of before, or the
// next plane gets what was said.
type serviceSwitch struct {
	// mu is held while a plane is made, or told. It comes after Daemon.mu, and before
	// service.mu.
	mu      sync.Mutex
	service *service    // the latest one
	parts   planeConfig // of its plane, as the file says
	mode    string
	file    bool      // http.maintenance of the file
	said    *bool     // in its place; nil: nothing is
	since   time.Time // when that was said
}

// maintained reports whether requests get 503 instead of all backends.
func (w *serviceSwitch) maintained() bool {
	if w.said != nil {
		return *w.said
	}
	return w.file
}

// maintenance is maintained, for whoever reports.
func (w *serviceSwitch) maintenance() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mode == "http" && w.maintained()
}

// begin takes in the service that a reload begins, and what the file says of it.
func (w *serviceSwitch) begin(cfg config.Service, s *service) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.service = s
	w.follow(cfg)
}

// follow takes in what the file says. What was said ends if that is another value now. mu
// is held.
func (w *serviceSwitch) follow(cfg config.Service) {
	if file := cfg.HTTP.Maintenance; w.file != file || cfg.Mode != "http" {
		w.file, w.said = file, nil
	}
	w.mode = cfg.Mode
}

// apply returns c with what was said of the service. mu is held.
func (w *serviceSwitch) apply(c planeConfig) planeConfig {
	if c.service.Mode == "http" {
		c.service.HTTP.Maintenance = w.maintained()
	}
	return c
}

// SetServiceMaintenance has a service of mode http answer all requests with 503, or pass
// them on, whatever its http.maintenance says in the file; nil: as the file says. Its routes
// follow, but those with a maintenance of their own. Connections stay. What is said lasts
// until the file says another value, or has the service no more.
func (d *Daemon) SetServiceMaintenance(name string, on *bool) error {
	var names []string
	for _, s := range d.View().Services {
		if s.Config.Name == name {
			return d.maintainService(name, s.service.said, on)
		}
		names = append(names, s.Config.Name)
	}
	return unknown("service", name, names)
}

func (d *Daemon) maintainService(name string, w *serviceSwitch, on *bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mode != "http" {
		return fmt.Errorf("maintenance of service %s is %w: its mode is %s, and only mode http has requests to answer: disable its backends instead", name, report.ErrInvalid, w.mode)
	}
	was, said, since := w.maintained(), w.said, w.since
	if w.said = nil; on != nil && *on != w.file {
		w.said = new(*on)
	}
	if w.maintained() == was {
		return nil
	}
	w.since = time.Now()
	if p, _ := w.service.opened(); p != nil { // or it gets that when there is one
		if err := p.reconfigure(w.apply(w.parts)); err != nil {
			w.said, w.since = said, since
			return fmt.Errorf("service %s: %w: %w", name, report.ErrState, err)
		}
	}
	if w.maintained() {
		d.log.Warn("maintenance of a service begins: all requests get 503", "service", name)
	} else {
		d.log.Info("maintenance of a service ends: requests go to backends again", "service", name)
	}
	return nil
}

// changes are the values that are in the place of the file's.
func (w *serviceSwitch) changes(name string) []report.RuntimeChange {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.said == nil {
		return nil
	}
	words := map[bool]string{true: "on", false: "off"}
	return []report.RuntimeChange{runtimeChange("maintenance", name, words[*w.said], words[w.file], w.since)}
}

// equip makes the plane, as the file and commands say.
func (s *service) equip(c planeConfig) error {
	s.said.mu.Lock()
	defer s.said.mu.Unlock()
	p, err := newPlane(s.said.apply(c))
	if err != nil {
		return err
	}
	s.lines.use(c.access)
	if s.said.service == s { // and not another one by now
		s.said.parts = c
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tls, s.plane = c.tls, p
	return nil
}

// follow has the plane go on with other parts, as the file and commands say.
func (s *service) follow(c planeConfig, before error) error {
	s.said.mu.Lock()
	defer s.said.mu.Unlock()
	s.said.follow(c.service)
	s.said.parts = c
	return errors.Join(before, s.plane.reconfigure(s.said.apply(c)))
}
