package lb

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"time"
)

// sendRequest gets a response from some backend, which is x.pick then. After an error
// x.pick is zero.
func (x *handling) sendRequest() (*http.Response, error) {
	flow := Flow{Client: x.client, Key: x.hashKey(), prefer: x.conn.boundTo(x.cfg.idle).server}
	var last error
	for range x.cfg.Tries {
		pick, err := x.acquireBackend(&flow)
		if err != nil {
			if last != nil && err != errLeft {
				err = last // says more than that no other backend is left
			}
			return nil, err
		}
		x.pick = pick
		res, err := x.tryBackend()
		if err == nil {
			return res, nil
		}
		last = fmt.Errorf("backend %s: %w", pick.Backend(), err)
		// What the attempt has left behind decides, so these come before dropUpstream.
		repeatable := x.repeatable()
		result := x.attemptResult(err)
		if x.triedInVain(err) {
			x.record.Retries++
		}
		x.dropUpstream()
		x.pick = Pick{}
		// The log names the cause before Done may eject the backend and log that.
		if result == Failure {
			x.cfg.log.Info("backend failed", "backend", pick.Backend(), "err", err)
		}
		pick.Done(result)
		// Another backend needs what this host is out of just the same.
		if !repeatable || starved(err) {
			return nil, last
		}
	}
	return nil, last
}

// acquireBackend chooses a backend. The client may leave while it waits, and the time of
// Shutdown may be over.
func (x *handling) acquireBackend(flow *Flow) (Pick, error) {
	pick, err := x.cfg.Pool.acquire(x.ctx, flow, x)
	if err == errLeft && x.session.interrupted() == errCut {
		err = errCut
	}
	return pick, err
}

// hashKey returns what KeyHash ties to a backend.
func (x *handling) hashKey() string {
	if x.cfg.Key != nil {
		return x.cfg.Key(x.in)
	}
	return x.in.URL.Path
}

// triedInVain reports whether an attempt failed although the client and this host did
// their part.
func (x *handling) triedInVain(err error) bool {
	return x.ctx.Err() == nil && x.body.readError() == nil && x.session.interrupted() != errCut && !starved(err)
}

// attemptResult returns what the error of an attempt says about the backend.
func (x *handling) attemptResult(err error) Result {
	switch {
	case x.ctx.Err() != nil, x.body.readError() != nil, x.session.interrupted() != nil,
		errors.Is(err, errStale), errors.Is(err, errBodyOver):
		return Neutral
	}
	return blame(err)
}

// repeatable reports whether there may be another attempt after a failed one.
func (x *handling) repeatable() bool {
	return x.ctx.Err() == nil && x.session.interrupted() != errCut &&
		x.body.replayable() && (idempotent(x.in.Method) || x.up == nil || x.up.written.Load() == 0)
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

// tryBackend sends the request to x.pick and waits for the header of the response.
func (x *handling) tryBackend() (*http.Response, error) {
	// The context lasts until dropUpstream or keepUpstream.
	ctx, cancel := context.WithCancel(x.ctx)
	x.cancel = cancel
	x.session.dialing(x.pick, cancel)
	if u := x.takeKept(); u != nil {
		res, err := x.sendOn(ctx, u)
		if err == nil || u.heard || isTimeout(err) || x.attemptResult(err) == Neutral {
			return res, err
		}
		// A backend may close an idle connection at any time: a new one may do better.
		if !x.repeatable() {
			return nil, fmt.Errorf("%w: %w", errStale, err)
		}
		u.Close()
		x.up = nil
	}
	u, err := x.cfg.dialUpstream(valued{ctx, x.in.Context()}, x.pick)
	if err != nil {
		if interrupted := x.session.interrupted(); interrupted != nil {
			err = interrupted
		}
		return nil, err
	}
	return x.sendOn(ctx, u)
}

// takeKept returns a kept connection to x.pick for the request; nil: a new one is needed.
func (x *handling) takeKept() *upstream {
	to := x.cfg.destinationOf(x.pick)
	if x.conn != nil {
		own := to
		own.owner = x.conn
		if own == x.conn.boundTo(x.cfg.idle) {
			// Another connection would not be authenticated, so there is no choice.
			if u := x.takeConn(own, math.MaxInt64); u != nil {
				return u
			}
		}
	}
	limit := keptFor(x.cfg.Reuse, x.in.Method)
	if limit == 0 {
		return nil
	}
	return x.takeConn(to, limit)
}

// takeConn returns a kept connection. The end of one may have come a moment ago, so that
// watchConn has not seen it: that would be the end of a request that is sent once only.
func (x *handling) takeConn(to destination, limit time.Duration) *upstream {
	for {
		u := x.cfg.idle.takeConn(to, limit)
		if u == nil || idempotent(x.in.Method) || !isReadable(u.Conn) {
			return u
		}
		u.Close()
	}
}

// keptFor returns how long a connection may have been idle that is used for a request; 0:
// there must be a new one.
func keptFor(r Reuse, method string) time.Duration {
	switch {
	case r == ReuseNever:
		return 0
	case r == ReuseAlways || idempotent(method):
		return idleFor
	}
	// A request that is sent once only risks no connection that may be closing.
	return freshFor
}

// sendOn sends the request on u and waits for the header of the response.
func (x *handling) sendOn(ctx context.Context, u *upstream) (*http.Response, error) {
	u.beginRequest(x.cfg.Timeout)
	x.up = u
	// The end of the request's context, or a cut, interrupts all reads and writes.
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

// readHeader reads the header of the response. Informational responses that come before
// are passed on.
func (x *handling) readHeader(u *upstream) (*http.Response, error) {
	for {
		res, err := readResponse(u.r, x.in)
		switch {
		case err != nil && u.err != nil && u.err != io.EOF:
			return nil, u.err // the line is malformed because it was cut short
		case err != nil:
			return nil, err
		case res.ProtoMajor != 1 || res.StatusCode < 100 || !validHeader("Status", res.Status):
			return nil, fmt.Errorf("response %s %s", res.Proto, res.Status)
		case res.StatusCode == http.StatusContinue:
			x.upload.askForBody()
			continue
		case res.StatusCode < 200 && res.StatusCode != http.StatusSwitchingProtocols:
			x.passInformational(res.StatusCode, res.Header)
			continue
		}
		// http.ReadResponse takes control characters that some clients take for line ends.
		fields := 0
		for name, values := range res.Header {
			if fields += len(values); fields > maxResponseFields {
				return nil, errHeaderTooLong
			}
			for _, value := range values {
				if !validHeader(name, value) {
					return nil, fmt.Errorf("response header %q: %q: not valid", name, value)
				}
			}
		}
		u.headerLeft = -1
		if len(res.TransferEncoding) > 0 && res.Body != http.NoBody {
			res.Body = &chunkedBody{res: res, u: u}
		}
		close(x.upload.answered)
		return res, nil
	}
}

// readResponse is http.ReadResponse, but knows the chunks of HTTP/1.0: net/http ignores
// its Transfer-Encoding, and would pass the frames of the chunks on as content. Nothing is
// certain about what follows such a response (RFC 9112 §6.1).
func readResponse(r *bufio.Reader, req *http.Request) (*http.Response, error) {
	const version = "HTTP/1.0"
	begin, err := r.Peek(len(version))
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	old := string(begin) == version
	if old {
		begin[len(version)-1] = '1' // in the buffer of r
	}
	res, err := http.ReadResponse(r, req)
	if err == nil && old {
		res.Proto, res.ProtoMinor = version, 0
		res.Close = res.Close || len(res.TransferEncoding) > 0 || !hasToken(res.Header["Connection"], "keep-alive")
	}
	return res, err
}
