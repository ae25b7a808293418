package daemon

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/quietlog"
	"github.com/havip/havip/lb"
)

// check is a check that routers may track, or the check of a backend.
type check struct {
	checkPlan
	unfollow func() // ends what the backend's pool hears
	origin   string // the backend as it is configured, whose name may have several addresses
	task     *task
	counts   *entry[checkCounts] // nil: of a backend's check, for which there are no totals
}

// checkPlan says what is checked.
type checkPlan struct {
	name    string // of the monitor
	cfg     config.Check
	backend string               // the name of the backend that is probed; empty: cfg has the target
	monitor *healthcheck.Monitor // of a check that begins: does not run yet
}

// newCheck starts what was prepared, and lets the pool of a backend hear of it.
func newCheck(p *checkPlan, pool *lb.Pool, failed func(error)) *check {
	unfollow := func() {}
	if pool != nil {
		unfollow = tellPool(p.monitor, pool, p.backend)
	}
	return &check{checkPlan: *p, unfollow: unfollow, task: startTask(p.monitor.Run, failed)}
}

// tell goes on for a backend of which nobody has heard for a moment.
func (c *check) tell(backend string, pool *lb.Pool) {
	c.backend, c.unfollow = backend, tellPool(c.monitor, pool, backend)
}

// stop ends the check: nobody hears of it any more.
func (c *check) stop() {
	c.unfollow()
	c.task.stop()
	if c.counts != nil {
		c.counts.close()
	}
}

// state is what the check has found so far. A nil check has found nothing.
func (c *check) state() healthcheck.State {
	if c == nil {
		return healthcheck.Unknown
	}
	return c.monitor.Status().State
}

// followMonitor subscribes fn to a monitor. cancel waits for a call of fn that is under
// way, so that no call comes after cancel; fn must not call it.
func followMonitor(m *healthcheck.Monitor, fn func(healthcheck.Status)) (cancel func()) {
	var mu sync.Mutex
	cancelled := false
	unsubscribe := m.Subscribe(func(s healthcheck.Status) {
		mu.Lock()
		defer mu.Unlock()
		if !cancelled {
			fn(s)
		}
	})
	return func() {
		unsubscribe()
		mu.Lock()
		defer mu.Unlock()
		cancelled = true
	}
}

// newMonitor makes the monitor of one check. backend is the address to probe
// if the check is a service's, and empty if the check names its own target. at is where
// that address leads, if a name is in it; empty: wherever it leads at each probe.
// known is the state that an earlier monitor has found, with which the new monitor
// begins; Unknown: none has.
func newMonitor(c config.Check, name, backend, at string, known healthcheck.State, log *slog.Logger) (*healthcheck.Monitor, error) {
	checker, err := newRenewing(c, backend, log)
	if err != nil {
		return nil, err
	}
	if at != "" {
		checker = healthcheck.At{Checker: checker, Address: at}
	}
	mc := c.Config
	mc.Name, mc.Checker, mc.Logger, mc.Initial = name, checker, log, cmp.Or(known, mc.Initial)
	return healthcheck.NewMonitor(mc)
}

// checkFiles reports which files of a check cannot be read.
func checkFiles(c *config.Check) error {
	_, err := clientTLS(c.TLS)
	return err
}

// renewing is a checker that is made anew when one of the files of its TLS was
// changed, so that files can be renewed in place. While a file cannot be read, as in
// the middle of being written, the checker of before goes on. A check fails until its
// files could be read once.
type renewing struct {
	healthcheck.Checker // nil: it could not be made yet
	cfg                 config.Check
	backend             string
	log                 *slog.Logger
	files               []os.FileInfo // as they were just before they were read
}

// newRenewing returns a checker of c, a renewing one where that makes sense.
func newRenewing(c config.Check, backend string, log *slog.Logger) (healthcheck.Checker, error) {
	if c.TLS == nil || c.TLS.CA == "" && c.TLS.Certificate == "" {
		encryption, err := clientTLS(c.TLS)
		return c.New(backend, encryption), err
	}
	r := &renewing{cfg: c, backend: backend, log: quietlog.New(log)}
	_ = r.renew() // the first check says what is wrong
	return r, nil
}

// Check is not called twice at the same time.
func (r *renewing) Check(ctx context.Context) error {
	err := r.renew()
	if r.Checker == nil {
		return err
	}
	if err != nil {
		r.log.Warn("the authorities of a check cannot be read again", "check", r.cfg.Name, "err", err)
	}
	return r.Checker.Check(ctx)
}

// String says what is checked.
func (r *renewing) String() string {
	if s, ok := r.Checker.(fmt.Stringer); ok {
		return s.String()
	}
	return r.cfg.Type
}

// Validate reports what is wrong with the checker.
func (r *renewing) Validate() error {
	if v, ok := r.Checker.(interface{ Validate() error }); ok {
		return v.Validate()
	}
	return nil
}

// renew makes the checker anew if the files have changed since it was made. An error
// is returned once for each change.
func (r *renewing) renew() error {
	var files []os.FileInfo
	for _, name := range []string{r.cfg.TLS.CA, r.cfg.TLS.Certificate, r.cfg.TLS.Key} {
		file, _ := os.Stat(name)
		files = append(files, file)
	}
	if r.Checker != nil && slices.EqualFunc(files, r.files, sameFile) {
		return nil
	}
	r.files = files
	encryption, err := clientTLS(r.cfg.TLS)
	if err == nil {
		r.Checker = r.cfg.New(r.backend, encryption)
	}
	return err
}

// sameFile reports whether a file, nil if there is none, is as it was.
func sameFile(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == b
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
