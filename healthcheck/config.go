package healthcheck

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/havip/havip/internal/quietlog"
)

// Defaults of [Config].
const (
	defaultInterval = time.Second
	defaultRise     = 2
	defaultFall     = 2
	maxTimeout      = 5 * time.Second
)

// Config describes a [Monitor]. Only Checker is required.
type Config struct {
	// Name is used in log lines, errors and Status. Default "check".
	Name string
	// Checker makes the probes. Required.
	Checker Checker
	// Interval is the time from the start of one probe to the start of the
	// next, at least 1 ms. A probe that takes longer is followed by the next
	// one at once. Default 1 s.
	Interval time.Duration
	// FastInterval replaces Interval while a change is under way: the latest
	// results contradict the state, but are not yet Rise or Fall in number. At
	// most Interval. Default: Interval.
	FastInterval time.Duration
	// DownInterval replaces Interval while the state is Down and no change is
	// under way. Default: Interval.
	DownInterval time.Duration
	// Timeout is how long one probe may take. It may exceed Interval only if
	// LongTimeout is set. Default: Interval, or 5 s if that is less.
	Timeout     time.Duration
	LongTimeout bool
	// Jitter is the greatest random delay of each probe. It does not add up:
	// probe n starts between n*Interval and n*Interval+Jitter. At most the
	// shortest of the intervals. Default 0.
	Jitter time.Duration
	// StartSpread is the greatest random delay of the first probe, so that
	// many Monitors started together do not probe together. Default 0.
	StartSpread time.Duration
	// Rise is how many successes in a row it takes to go from Down to Up, and
	// Fall how many failures from Up to Down. The first of them may come at once
	// where the Checker is a Watcher; the next one comes an interval later (see
	// FastInterval), so that only with 1 the change itself comes at once.
	// Default 2 each.
	Rise, Fall int
	// HoldDown is the least time that the state stays Down: a target that
	// flaps changes state no faster than this. Default 0.
	HoldDown time.Duration
	// Initial is the state before the first result. With Up or Down it takes
	// Fall or Rise results to change it, with Unknown the first result
	// decides alone. Default Unknown.
	Initial State
	// FailStatic chooses what a probe counts as that could not be made at all
	// (its error matches ErrCannotRun). False is fail-safe: it is a failure
	// like any other. True is fail-static: it is shown in Status and the log,
	// and neither the state nor the counts in a row change. An Initial state
	// that is Unknown then stays so for as long as no probe can be made.
	// Default false.
	FailStatic bool
	// Logger receives changes of state (Warn for Down, Info for Up) and the other
	// probes (Debug), from a goroutine that nothing waits for. Default: silent.
	Logger *slog.Logger
}

// complete checks c and fills in its defaults.
func (c *Config) complete() error {
	setDefault(&c.Name, "check")
	setDefault(&c.Interval, defaultInterval)
	setDefault(&c.FastInterval, c.Interval)
	setDefault(&c.DownInterval, c.Interval)
	setDefault(&c.Timeout, min(c.Interval, maxTimeout))
	setDefault(&c.Rise, defaultRise)
	setDefault(&c.Fall, defaultFall)
	c.Logger = quietlog.New(c.Logger)

	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("healthcheck: monitor %s: "+format, append([]any{c.Name}, args...)...))
	}
	for _, d := range []struct {
		name       string
		value, min time.Duration
	}{
		{"Interval", c.Interval, time.Millisecond}, {"FastInterval", c.FastInterval, time.Millisecond},
		{"DownInterval", c.DownInterval, time.Millisecond}, {"Timeout", c.Timeout, time.Millisecond},
		{"Jitter", c.Jitter, 0}, {"StartSpread", c.StartSpread, 0}, {"HoldDown", c.HoldDown, 0},
	} {
		if d.value < d.min {
			bad("%s %v: must be at least %v", d.name, d.value, d.min)
		}
	}
	if c.Timeout > c.Interval && !c.LongTimeout {
		bad("Timeout %v exceeds Interval %v: set LongTimeout if that is meant", c.Timeout, c.Interval)
	}
	if c.FastInterval > c.Interval {
		bad("FastInterval %v exceeds Interval %v", c.FastInterval, c.Interval)
	}
	if shortest := min(c.FastInterval, c.DownInterval); c.Jitter > shortest {
		bad("Jitter %v exceeds the shortest interval, %v", c.Jitter, shortest)
	}
	if c.Rise < 1 || c.Fall < 1 {
		bad("Rise %d, Fall %d: must be at least 1", c.Rise, c.Fall)
	}
	if c.Initial > Down {
		bad("Initial %v: want Unknown, Up or Down", c.Initial)
	}
	if c.Checker == nil {
		bad("no Checker")
	} else if v, ok := c.Checker.(interface{ Validate() error }); ok {
		if err := v.Validate(); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
