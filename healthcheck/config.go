package healthcheck

import (
	"cmp"
	"errors"
	"log/slog"
	"reflect"
	"time"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/internal/words"
)

// FieldError says which field of a [Config] or of a checker is wrong, and what is
// wanted: errors.As finds it in the error of a Validate method.
type FieldError = field.Error

const (
	minInterval       = 10 * time.Millisecond
	maxDefaultTimeout = 5 * time.Second
)

// Config describes a [Monitor]. Only Checker is required.
type Config struct {
	// Name is used in log lines, errors and Status. Default "check".
	Name string
	// Checker makes the probes. Required.
	Checker Checker
	// Interval is the time from the start of one probe to the start of the
	// next, 10 ms to 1 h. A probe that takes longer is followed by the next
	// one at once. Default 1 s.
	Interval time.Duration
	// FastInterval replaces Interval while a change is under way: the latest
	// results contradict the state, but are not yet Rise or Fall in number.
	// 10 ms to Interval. Default: Interval.
	FastInterval time.Duration
	// DownInterval replaces Interval while the state is Down and no change is
	// under way, 10 ms to 1 h. Default: Interval.
	DownInterval time.Duration
	// Timeout is how long one probe may take, 1 ms to 1 h. It may exceed Interval
	// only if LongTimeout is set. Default: Interval, or 5 s if that is less.
	Timeout     time.Duration
	LongTimeout bool
	// Jitter is the greatest random delay of each probe. It does not add up:
	// probe n starts between n*Interval and n*Interval+Jitter. At most the
	// shortest of the intervals. Default 0: none.
	Jitter time.Duration
	// StartSpread is the greatest random delay of the first probe, so that
	// many Monitors started together do not probe together, up to 1 h.
	// Default 0: none.
	StartSpread time.Duration
	// Rise is how many successes in a row it takes to go from Down to Up, and Fall how many
	// failures from Up to Down. An event of a [Watcher] brings the first of these results
	// at once, and the next one an interval later (see FastInterval): only with 1 does the
	// state change at once. 1 to 100. Default 2 each.
	Rise, Fall int
	// HoldDown is the least time that the state stays Down: a target that
	// flaps changes state no faster than this. Up to 24 h. Default 0: none.
	HoldDown time.Duration
	// Initial is the state before the first result. With Up or Down it takes
	// Fall or Rise results to change it, with Unknown the first result
	// decides alone. Default Unknown.
	Initial State
	// FailStatic is about probes that could not be made at all: their error matches
	// ErrCannotRun. False is fail-safe: such a probe is a failure like any other.
	// True is fail-static: such a probe is shown in Status and the log, and neither the state
	// nor the counts in a row change. An Unknown state then stays Unknown while no probe
	// can be made. Default false.
	FailStatic bool
	// Logger receives changes of state (Warn for Down, Info for Up) and the other
	// probes (Debug), from a goroutine that nothing waits for. Default: silent.
	Logger *slog.Logger
}

// WithDefaults returns c with the defaults of its fields. The Checker's are its
// own.
func (c Config) WithDefaults() Config {
	c.Name = cmp.Or(c.Name, "check")
	c.Interval = cmp.Or(c.Interval, time.Second)
	c.FastInterval = cmp.Or(c.FastInterval, c.Interval)
	c.DownInterval = cmp.Or(c.DownInterval, c.Interval)
	c.Timeout = cmp.Or(c.Timeout, min(c.Interval, maxDefaultTimeout))
	c.Rise = cmp.Or(c.Rise, 2)
	c.Fall = cmp.Or(c.Fall, 2)
	return c
}

// Validate returns all faults of c, each a [FieldError], and those that the Checker's own
// Validate returns, joined.
func (c Config) Validate() error {
	c = c.WithDefaults()
	longer := func(name string, d time.Duration, than string, most time.Duration, unless string) error {
		return field.If(d > most && most > 0, name, "%s: longer than the %s: want at most %s%s", field.Span(d), than, field.Span(most), unless)
	}
	var tooLong error
	if !c.LongTimeout {
		tooLong = longer("Timeout", c.Timeout, "interval", c.Interval, ", or LongTimeout")
	}
	return errors.Join(
		field.Between("Interval", c.Interval, minInterval, time.Hour),
		field.Between("FastInterval", c.FastInterval, minInterval, time.Hour),
		field.Between("DownInterval", c.DownInterval, minInterval, time.Hour),
		field.Between("Timeout", c.Timeout, time.Millisecond, time.Hour),
		field.Between("Jitter", c.Jitter, 0, time.Hour),
		field.Between("StartSpread", c.StartSpread, 0, time.Hour),
		field.Between("Rise", c.Rise, 1, 100),
		field.Between("Fall", c.Fall, 1, 100),
		field.Between("HoldDown", c.HoldDown, 0, 24*time.Hour),
		field.In("Checker", validateChecker(c.Checker)),
		tooLong,
		longer("FastInterval", c.FastInterval, "interval", c.Interval, ""),
		longer("Jitter", c.Jitter, "shortest interval", min(c.Interval, c.FastInterval, c.DownInterval), ""),
		field.If(!words.Has(stateNames, c.Initial), "Initial", "%v: want %s", c.Initial, words.Choice(stateNames)),
	)
}

// validateChecker returns the error of the Checker's own Validate. A nil pointer or a nil
// function is no Checker.
func validateChecker(c Checker) error {
	if v := reflect.ValueOf(c); !v.IsValid() || (v.Kind() == reflect.Pointer || v.Kind() == reflect.Func) && v.IsNil() {
		return errors.New("missing: want something to check")
	}
	if v, ok := c.(interface{ Validate() error }); ok {
		return v.Validate()
	}
	return nil
}
