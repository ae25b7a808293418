package lb

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/havip/havip/lb/internal/h1"
	"github.com/havip/havip/lb/internal/h2"
)

// attempt is what has become of an attempt to get a response from a backend, or to pass it on.
type attempt struct {
	sent       bool  // a byte of the request has gone out, or is not known not to have
	heard      bool  // a byte has come back
	replayable bool  // another attempt would get the whole body of the request
	left       bool  // the client has left
	broken     error // why the client's body does not come to its end; nil: it may
	cut        error // errCut: the request was cut; errDown: the backend was, while connecting
}

// errStale: the backend closed a kept connection instead of answering.
var errStale = errors.New("kept connection was closed")

// begin begins an attempt with a picked backend.
func (x *exchange) begin(pick Pick) {
	x.pick, x.result = pick, Neutral
	x.told.Upstream, x.told.UpstreamStatus, x.told.HeaderTime = pick.Address(), 0, 0
	x.tries++
}

// acquireFailed returns why the request is not served if no backend is picked for it.
func (x *exchange) acquireFailed(err error) error {
	if x.last != nil && err != errLeft {
		return x.last // says more than that no other backend is left
	}
	return err
}

// keptFor returns how long a connection may have been idle that is used for the request; 0:
// there must be a new one.
func (x *exchange) keptFor() time.Duration {
	switch {
	case x.cfg.Reuse == ReuseNever:
		return 0
	case x.cfg.Reuse == ReuseAlways || idempotent(x.req.Method):
		return idleFor
	}
	// A request that is sent once only risks no connection that may be closing.
	return freshFor
}

// keptFailed is called when an attempt on a kept connection has failed. again: the same
// backend gets the request on a new connection, for backends may close an idle connection at
// any time. Otherwise the attempt has failed, with the error returned.
func (x *exchange) keptFailed(err error, a attempt) (again bool, _ error) {
	if a.heard || isTimeout(err) || a.blame(err) == Neutral {
		return false, err
	}
	if !x.repeatable(a) {
		return false, fmt.Errorf("%w: %w", errStale, err)
	}
	return true, nil
}

// attemptFailed gives the picked backend back, which has not answered. again: another one may
// be tried. Otherwise x.last is why the request is not served.
func (x *exchange) attemptFailed(err error, a attempt, now time.Time) (again bool) {
	pick := x.pick
	x.pick = Pick{}
	x.last = fmt.Errorf("backend %s: %w", pick.Backend(), err)
	if !a.left && a.broken == nil && a.cut != errCut && !starved(err) {
		x.record.Retries++ // it was in vain although client and host did their part
	}
	result := a.blame(err)
	// The log names the cause before Done may eject the backend and log that.
	if result == Failure {
		x.cfg.log.Info("backend failed", "backend", pick.Backend(), "err", err)
	}
	pick.Done(result)
	// Another backend needs what this host is out of just the same.
	if !x.repeatable(a) || starved(err) || x.tries >= x.cfg.Tries {
		return false
	}
	if a.sent && !x.mayRetry(now) {
		x.last = fmt.Errorf("%w; %w", x.last, errBudget)
		return false
	}
	return true
}

// blame returns what the error of an attempt says about the backend.
func (a attempt) blame(err error) Result {
	if a.left || a.broken != nil || a.cut != nil || errors.Is(err, errStale) || errors.Is(err, errBodyOver) || errors.Is(err, h2.ErrHeaderTooLarge) {
		return Neutral
	}
	return blame(err)
}

// repeatable reports whether there may be another attempt after a failed one.
func (x *exchange) repeatable(a attempt) bool {
	return !a.left && a.cut != errCut && a.replayable && (!a.sent || x.cfg.RetryNonIdempotent || idempotent(x.req.Method))
}

// idempotent reports whether a request may be sent twice (RFC 9110 §9.2.2). Of a method
// that is not known here, it is not known either what it does.
func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// refused accounts for a request that no backend should see: a rule, a limit or what the client
// has sent keeps it from them.
func (x *exchange) refused(err error) {
	x.record.Reason = err.Error()
	x.count.refused.Add(1)
}

// unserved accounts for a request that no backend has answered although one should have.
func (x *exchange) unserved(err error) {
	x.record.Reason = err.Error()
	x.count.failed.Add(1)
}

// failure accounts for a request that no backend has answered although the client waits. It
// returns the status for the client, and why that is so. broken is why the client's body does
// not come to its end; nil: it may. Where the next request begins is not known then.
func (x *exchange) failure(err, broken error) (status int, cause error) {
	status = failureStatus(err, broken)
	account := x.unserved
	if broken != nil {
		err, account = fmt.Errorf("request body: %w", broken), x.refused
	}
	x.cfg.log.Warn("request not served", "client", x.client, "method", strings.Clone(x.req.Method),
		"host", strings.Clone(x.authority), "status", status, "err", err)
	account(err)
	return status, err
}

// failureStatus is the status of failure. The client's fault goes before the backend's: it
// may be the cause.
func failureStatus(err, broken error) int {
	var tooLarge *http.MaxBytesError
	var malformed *h1.Error
	switch {
	case errors.As(broken, &tooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.As(broken, &malformed):
		return malformed.Status
	case errors.Is(broken, errFieldsTooLarge):
		return http.StatusRequestHeaderFieldsTooLarge
	case isTimeout(broken):
		return http.StatusRequestTimeout
	case broken != nil:
		return http.StatusBadRequest
	case errors.Is(err, h2.ErrHeaderTooLarge):
		return http.StatusRequestHeaderFieldsTooLarge
	case errors.Is(err, ErrNoBackend), errors.Is(err, ErrBusy), errors.Is(err, errCut), starved(err):
		return http.StatusServiceUnavailable
	case isTimeout(err):
		return http.StatusGatewayTimeout
	}
	return http.StatusBadGateway
}

// errorPage returns the answer for a status where no ErrorHandler is configured.
func errorPage(status int) (kind string, content []byte) {
	return "text/plain; charset=utf-8", fmt.Appendf(nil, "%d %s\n", status, http.StatusText(status))
}

// succeeded tells that the response has come whole. The backend is free from here on, however
// long the client takes.
func (x *exchange) succeeded(now time.Time) {
	if x.result = Success; x.poor {
		x.result = Neutral // responded has reported what it is
	}
	x.release(now)
}

// errClient: the client does not take the response.
type errClient struct{ error }

// brokenOff accounts for a response that does not come to its end.
func (x *exchange) brokenOff(err error, a attempt) {
	x.record.Reason = err.Error()
	var client errClient
	var ours errEncoder
	switch {
	case errors.As(err, &client), errors.As(err, &ours), a.left, a.broken != nil:
	case a.cut != nil:
		x.record.Reason = errCut.Error()
	case isTimeout(err):
		// No failure, for the backend has answered: a stream of events may be silent for long.
		x.cfg.log.Info("response timed out", "backend", x.pick.Backend(), "err", err)
	default:
		x.result = Failure
		x.cfg.log.Warn("response broken off", "backend", x.pick.Backend(), "err", err)
	}
}
