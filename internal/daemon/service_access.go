package daemon

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/lb"
)

// lines are those of a service's access log in its file. Its zero value has none.
type lines struct {
	// file is nil if there is none, or if it is still to be made. Requests under way have their
	// lines in the one that is here when they end.
	file atomic.Pointer[lb.AccessLog]

	mu     sync.Mutex // guards what follows, so that no line counts twice, or not at all
	before uint64     // lines that the files of before have lost
}

// record writes a line.
func (l *lines) record(r lb.Record) {
	if file := l.file.Load(); file != nil {
		file.Record(r)
	}
}

// use has records go to another file, and closes the one of before.
func (l *lines) use(next *lb.AccessLog) {
	l.mu.Lock()
	old := l.file.Swap(next)
	if old == next {
		old = nil
	}
	if old != nil {
		l.before += old.Lost()
	}
	l.mu.Unlock()
	if old != nil {
		_ = old.Close() // the log has said what it could not take
	}
}

// lost is how many lines were lost.
func (l *lines) lost() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	sum := l.before
	if file := l.file.Load(); file != nil {
		sum += file.Lost()
	}
	return sum
}

// trouble is why lines are lost now; nil: none are.
func (l *lines) trouble() error {
	if file := l.file.Load(); file != nil {
		return file.Err()
	}
	return nil
}

// openAccess opens the file of a service's access log; nil: there is none. old, which may be
// nil, is the service that goes on as c: its file stays where both say the same. late: a file
// that cannot be opened is no error, but has its lines as soon as it can be.
func (c planeConfig) openAccess(old *service, late bool) (*lb.AccessLog, error) {
	a := c.service.AccessLog
	if a.File == "" {
		return nil, nil
	}
	if old != nil {
		b := old.cfg.AccessLog
		if file := old.lines.file.Load(); file != nil && a.File == b.File && a.Format == b.Format && a.Sample == b.Sample {
			return file, nil
		}
	}
	file, err := lb.NewAccessLog(lb.AccessLogConfig{Path: a.File, Late: late, Format: a.Format, Sample: a.Sample, Logger: c.log})
	if err != nil {
		return nil, fmt.Errorf("access_log: %w", err)
	}
	return file, nil
}

// ReopenLogs opens the files of all access logs anew, after they were moved away. A file that
// cannot be opened leaves its service with the one of before, and is tried again.
func (d *Daemon) ReopenLogs() error {
	var errs []error
	for _, s := range d.View().Services {
		if file := s.service.lines.file.Load(); file != nil {
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
	if p.parts.access, err = p.parts.openAccess(goesOn, c.first); err != nil || p.parts.access == nil {
		return err
	}
	if fresh := p.parts.access; goesOn == nil || fresh != goesOn.lines.file.Load() {
		c.undo = append(c.undo, func() { _ = fresh.Close() })
	}
	return nil
}

// logsTo reports whether what has ended is logged somewhere.
func logsTo(a config.AccessLog) bool { return a.Log || a.File != "" }
