package daemon

import (
	"errors"
	"fmt"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/lb"
)

// openAccess opens the file of a service's access log; nil: there is none. old, which may be
// nil, is the service that goes on as c: its file stays where both say the same.
func (c planeConfig) openAccess(old *service) (*lb.AccessLog, error) {
	a := c.service.AccessLog
	if a.File == "" {
		return nil, nil
	}
	if old != nil {
		b := old.cfg.AccessLog
		if file := old.tally.file.Load(); file != nil && a.File == b.File && a.Format == b.Format && a.Sample == b.Sample {
			return file, nil
		}
	}
	file, err := lb.NewAccessLog(lb.AccessLogConfig{Path: a.File, Format: a.Format, Sample: a.Sample, Logger: c.log})
	if err != nil {
		return nil, fmt.Errorf("access_log: %w", err)
	}
	return file, nil
}

// setFile has records go to another file, and closes the one of before.
func (t *tally) setFile(next *lb.AccessLog) {
	if old := t.file.Swap(next); old != nil && old != next {
		_ = old.Close() // what it could not take is counted
	}
}

// ReopenLogs opens the files of all access logs anew, after they were moved away. A file that
// cannot be opened leaves its service with the one of before.
func (d *Daemon) ReopenLogs() error {
	var errs []error
	for _, s := range d.View().Services {
		if file := s.service.tally.file.Load(); file != nil {
			if err := file.Reopen(); err != nil {
				errs = append(errs, fmt.Errorf("service %s: %w", s.Config.Name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// prepareAccess opens the file of a service's access log before anything is touched.
func (p *servicePlan) prepareAccess(c *change, s step[*service, *servicePlan]) (err error) {
	var goesOn *service
	if s.fate == update {
		goesOn = s.old
	}
	if p.parts.access, err = p.parts.openAccess(goesOn); err != nil || p.parts.access == nil {
		return err
	}
	if fresh := p.parts.access; goesOn == nil || fresh != goesOn.tally.file.Load() {
		c.undo = append(c.undo, func() { _ = fresh.Close() })
	}
	return nil
}

// logsTo reports whether what has ended is logged somewhere.
func logsTo(a config.AccessLog) bool { return a.Log || a.File != "" }
