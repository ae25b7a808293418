package lb

import (
	"errors"
	"math"
	"time"

	"github.com/havip/havip/internal/field"
)

// defaultMinRateGrace is what a phone in a tunnel may need.
const defaultMinRateGrace = 30 * time.Second

// errBodySlow: ClientTimeout would let a client hold a request for days, by a byte now and then.
var errBodySlow error = &stalled{"body came more slowly than the least rate"}

// stalled is an error of something that took too long.
type stalled struct{ what string }

func (s *stalled) Error() string { return s.what }

// Timeout says that it is one.
func (*stalled) Timeout() bool { return true }

func validateMinRate(r *Rules) error {
	return errors.Join(
		field.Between("MinRate", max(r.MinRate, 0), 0, math.MaxInt32),
		field.Between("MinRateGrace", r.MinRateGrace, time.Millisecond, day))
}

// pace is how a client keeps to Rules.MinRate with the body of a request. The zero value is that
// of one that has not begun.
type pace struct {
	begun bool
	left  time.Duration // for which the client may still be awaited
}

// leastWait is how long a client is awaited at least: what has come already takes no time.
const leastWait = 10 * time.Millisecond

// patience returns how long the client may be awaited now.
func (c *HandlerConfig) patience(p *pace) time.Duration {
	if c.MinRate <= 0 {
		return c.ClientTimeout
	}
	if !p.begun {
		*p = pace{begun: true, left: c.MinRateGrace}
	}
	return min(c.ClientTimeout, max(p.left, leastWait))
}

// notePace notes that n bytes have come after a wait. Each brings the client some time, but none
// beyond MinRateGrace: who was fast once may not rest on that for long.
func (c *HandlerConfig) notePace(p *pace, waited time.Duration, n int) {
	if c.MinRate > 0 && p.begun {
		brought := time.Duration(float64(n) / float64(c.MinRate) * float64(time.Second))
		p.left = min(c.MinRateGrace, p.left-waited+brought)
	}
}

// isSlow reports whether the client has been awaited for longer than MinRate allows.
func (c *HandlerConfig) isSlow(p *pace, waited time.Duration) bool {
	return c.MinRate > 0 && p.begun && p.left <= waited
}
