package lb

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/internal/quietlog"
)

// FieldError is what is wrong with one field of a configuration. Validate joins
// one error for each fault.
type FieldError = field.Error

// ErrClosed: the plane has been shut down.
var ErrClosed = errors.New("closed")

// ErrServing: the plane serves already.
var ErrServing = errors.New("it serves already")

// Bounds beyond which a number or a duration is a mistake.
const (
	maxCount = 1 << 30
	day      = 24 * time.Hour
)

// validatePrefixes checks the prefixes of peers: the zero Prefix would fit none.
func validatePrefixes(name string, prefixes []netip.Prefix) error {
	if i := slices.IndexFunc(prefixes, func(p netip.Prefix) bool { return !p.IsValid() }); i >= 0 {
		return field.Errorf(fmt.Sprintf("%s[%d]", name, i), "%v: want addresses, such as 192.0.2.0/24", prefixes[i])
	}
	return nil
}

// configured returns what is new with its first configuration.
func configured[C any, T interface{ Reconfigure(C) error }](made T, cfg C) (T, error) {
	if err := made.Reconfigure(cfg); err != nil {
		var none T
		return none, err
	}
	return made, nil
}

// logLimit is for messages about single connections and requests: anybody can cause
// them.
var logLimit = quietlog.Limit{Every: 100 * time.Millisecond, Burst: 20}

// limitedLog returns log, nil for silence, with messages limited in number. Nobody
// waits for it: what is logged in an event loop would hold up all its connections.
func limitedLog(log *slog.Logger) *slog.Logger { return quietlog.Limited(log, &logLimit) }

// Errors of Pick.
var (
	// ErrNoBackend: no backend is up, or all that are have been tried.
	ErrNoBackend = errors.New("lb: no backend available")
	// ErrBusy: every backend that is up has reached its MaxConns.
	ErrBusy = errors.New("lb: all backends are at their connection limit")
)
