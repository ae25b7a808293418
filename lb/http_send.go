package lb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// send gets a response from some backend, x.pick; if there is none, x.pick is zero.
func (x *exchange) send() (*http.Response, error) {
	flow := Flow{Client: x.client, Key: x.key()}
	var last error
	for range x.cfg.Tries {
		pick, err := x.cfg.Pool.Acquire(x.in.Context(), &flow)
		if err != nil {
			if last != nil {
				err = last // More to the point than that nobody else is left.
			}
			return nil, err
		}
		x.pick = pick
		res, err := x.try()
		if err == nil {
			return res, nil
		}
		last = fmt.Errorf("backend %s: %w", pick.Backend(), err)
		repeatable := x.repeatable()
		result := x.blame(err)
		if x.inVain(err) {
			x.record.Retries++
		}
		x.drop()
		x.pick = Pick{}
		if result == Failure {
			x.cfg.log.Info("backend failed", "backend", pick.Backend(), "err", err)
		}
		pick.Done(result)
		if !repeatable || starved(err) {
			return nil, last
		}
	}
	return nil, last
}

// key is what KeyHash ties to a backend.
func (x *exchange) key() string {
	if x.cfg.Key != nil {
		return x.cfg.Key(x.in)
	}
	return x.in.URL.Path
}

// inVain reports whether an attempt failed although the client, and this host, did
// their part.
func (x *exchange) inVain(err error) bool {
	return x.in.Context().Err() == nil && x.body.failed() == nil && x.session.interrupted() != errCut && !starved(err)
}

// blame is what an attempt that failed says about the backend.
func (x *exchange) blame(err error) Result {
	switch {
	case x.in.Context().Err() != nil, x.body.failed() != nil, x.session.interrupted() != nil,
		errors.Is(err, errStale), errors.Is(err, errBodyOver):
		return Neutral
	}
	return blame(err)
}

// repeatable tells whether there may be another attempt after one that has failed.
func (x *exchange) repeatable() bool {
	return x.in.Context().Err() == nil && x.session.interrupted() != errCut &&
		x.body.replayable() && (x.idempotent() || x.up == nil || x.up.written.Load() == 0)
}

// idempotent as nginx has it (proxy_next_upstream).
func (x *exchange) idempotent() bool {
	switch x.in.Method {
	case http.MethodPost, http.MethodPatch, "LOCK":
		return false
	}
	return true
}

// errStale: a kept connection was closed instead of an answer.
var errStale = errors.New("kept connection was closed")

// try sends the request to x.pick and waits for the header of the response.
func (x *exchange) try() (*http.Response, error) {
	// For longer than try: until drop or keep.
	ctx, cancel := context.WithCancel(x.in.Context())
	x.cancel = cancel
	x.session.dialing(x.pick.member.server, cancel)
	limit := freshFor
	if x.idempotent() {
		limit = idleFor
	}
	if u := x.cfg.idle.take(x.cfg.destination(x.pick), limit); u != nil {
		res, err := x.attempt(ctx, u)
		if err == nil || u.heard || isTimeout(err) || x.blame(err) == Neutral {
			return res, err
		}
		// A backend may close an idle connection whenever it likes.
		if !x.repeatable() {
			return nil, fmt.Errorf("%w: %w", errStale, err)
		}
		u.Close()
		x.up = nil
	}
	u, err := x.cfg.dial(ctx, x.pick)
	if err != nil {
		if interrupted := x.session.interrupted(); interrupted != nil {
			err = interrupted
		}
		return nil, err
	}
	return x.attempt(ctx, u)
}

// attempt sends the request on u.
func (x *exchange) attempt(ctx context.Context, u *upstream) (*http.Response, error) {
	u.begin(x.cfg.Timeout)
	x.up = u
	x.unwatch = context.AfterFunc(ctx, func() { u.Close() })
	x.record.Connect = time.Since(x.record.Start)
	x.upload = x.startUpload(u)
	res, err := x.readHeader(u)
	if err == nil {
		return res, nil
	}
	if interrupted := x.session.interrupted(); interrupted != nil {
		return nil, interrupted
	}
	select {
	case <-x.upload.done:
		if x.upload.broken != nil {
			panic(x.upload.broken)
		}
		if x.upload.err != nil {
			err = x.upload.err // the cause
		}
	default:
	}
	return nil, err
}

// readHeader reads the header of the response, and passes on informational ones that
// come before it.
func (x *exchange) readHeader(u *upstream) (*http.Response, error) {
	for {
		res, err := http.ReadResponse(u.r, x.in)
		switch {
		case err != nil && u.err != nil && u.err != io.EOF:
			return nil, u.err // A line that was cut short may only look malformed.
		case err != nil:
			return nil, err
		case res.ProtoMajor != 1 || res.StatusCode < 100:
			return nil, fmt.Errorf("response %s %s", res.Proto, res.Status)
		case res.StatusCode == http.StatusContinue:
			x.upload.proceed()
			continue
		case res.StatusCode < 200 && res.StatusCode != http.StatusSwitchingProtocols:
			x.informational(res.StatusCode, res.Header)
			continue
		}
		for name, values := range res.Header {
			for _, value := range values {
				if !validHeader(name, value) {
					return nil, fmt.Errorf("response header %q: %q: not valid", name, value)
				}
			}
		}
		u.headerLeft = -1
		close(x.upload.answered)
		return res, nil
	}
}
