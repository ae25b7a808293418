package lb

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/lb/internal/h1"
)

// defaultRetryBudget is a tenth, about what others allow: Envoy a fifth, gRPC a tenth.
const defaultRetryBudget = 10

func validateRetries(r *Rules) error {
	errs := []error{field.If(r.RetryBudget > 100, "RetryBudget", "%d: want 1 to 100 percent, or a negative number for no bound", r.RetryBudget)}
	for i, status := range r.RetryStatuses {
		at := fmt.Sprintf("RetryStatuses[%d]", i)
		errs = append(errs,
			field.If(status < 400 || status > 599, at, "%d: want the status of an error, 400 to 599", status),
			// Another backend would ask for the same, and the connection may be bound to the client.
			field.If(status == http.StatusUnauthorized || status == http.StatusProxyAuthRequired, at, "%d: asks for a password: want another status", status))
	}
	return errors.Join(errs...)
}

// errBudget: too many requests have had another attempt of late.
var errBudget = errors.New("no further attempt: retry budget is spent")

// retryElsewhere is called when x.pick has answered. again: the response is thrown away for its
// status, x.pick has been given back, and next gets the request. Otherwise the client gets the
// response. login: the connection is authenticated as the client, which no other is. A client that has
// had hints (103) of what comes gets the response that they were about.
func (x *exchange) retryElsewhere(res *h1.Response, login bool, a attempt, now time.Time) (next Pick, again bool) {
	if len(x.cfg.RetryStatuses) == 0 || !slices.Contains(x.cfg.RetryStatuses, res.Status) {
		return Pick{}, false
	}
	x.poor = isFailure(res.Status)
	if login || x.hinted || x.tries >= x.cfg.Tries || !x.repeatable(a) {
		return Pick{}, false
	}
	// The other backend is there before the response is given up: the client gets an answer of
	// a backend rather than one from here.
	next, err := x.cfg.Pool.pickInTurn(&x.flow)
	if err != nil {
		return Pick{}, false
	}
	if !x.mayRetry(now) {
		next.Done(Neutral)
		return Pick{}, false
	}
	x.record.Retries++
	result := Neutral
	if x.poor {
		result = Failure
	}
	x.last = fmt.Errorf("backend %s: status %d", x.pick.Backend(), res.Status)
	x.cfg.log.Info("backend failed", "backend", x.pick.Backend(), "err", fmt.Errorf("status %d", res.Status))
	x.pick.Done(result)
	x.pick, x.poor = Pick{}, false
	return next, true
}

// isFailure reports whether a status for which another backend is asked is a failure of the
// backend, as in nginx: 403 and 404, for instance, say more about the request.
func isFailure(status int) bool { return status == http.StatusTooManyRequests || status >= 500 }

// mayRetry counts another attempt of a request that a backend has seen, unless there have been
// too many.
func (x *exchange) mayRetry(now time.Time) bool {
	return x.cfg.RetryBudget < 0 || x.cfg.budget.spend(now, x.count.accepted.Load(), x.cfg.RetryBudget)
}

const (
	// retryWindow is the time for which attempts and requests are counted, in seconds.
	retryWindow = 10
	// retryReserve is how many further attempts are allowed within it however few requests
	// there are: a percentage of few is none.
	retryReserve = 100
)

// retryBudget counts further attempts: where all backends are overloaded, each would make that
// worse. Its zero value has counted nothing.
type retryBudget struct {
	second atomic.Int64 // of the latest slot

	mu    sync.Mutex // guards slots
	slots [retryWindow]retrySlot
}

// retrySlot is one second.
type retrySlot struct {
	second   int64  // of Unix time
	accepted uint64 // requests before it
	retries  int
}

// note is called for each request, which accepted does not count yet. But for the first one of
// a second that is one look at the clock.
func (b *retryBudget) note(now time.Time, accepted *atomic.Uint64) {
	if s := now.Unix(); s != b.second.Load() {
		b.mu.Lock()
		b.slot(s, accepted.Load())
		b.mu.Unlock()
	}
}

// slot returns the slot of a second, which it may have to begin. b.mu is held.
func (b *retryBudget) slot(second int64, accepted uint64) *retrySlot {
	s := &b.slots[second%retryWindow]
	if s.second != second {
		*s = retrySlot{second: second, accepted: accepted}
		b.second.Store(second)
	}
	return s
}

// spend counts a further attempt, and reports whether that is within percent of the requests.
func (b *retryBudget) spend(now time.Time, accepted uint64, percent int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	second := now.Unix()
	s := b.slot(second, accepted)
	from, retries := accepted, 0
	for i := range b.slots {
		// Where the clock has been set back, slots of the future do not count.
		if age := second - b.slots[i].second; age >= 0 && age < retryWindow {
			from, retries = min(from, b.slots[i].accepted), retries+b.slots[i].retries
		}
	}
	if uint64(retries) >= max(retryReserve, (accepted-from)*uint64(percent)/100) {
		return false
	}
	s.retries++
	return true
}
