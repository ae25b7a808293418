package lb

import (
	"errors"
	"fmt"
	"net/http"
)

// modifyResponse lets ModifyResponse change the response.
func (x *handling) modifyResponse(res *http.Response) error {
	x.origin = &originBody{ReadCloser: res.Body, over: res.Body == http.NoBody}
	res.Body = x.origin // keepUpstream asks it whether all was read
	if err := x.cfg.ModifyResponse(res); err != nil {
		return fmt.Errorf("backend %s: response: %w", x.pick.Backend(), err)
	}
	if res.Body == nil {
		res.Body = http.NoBody
	}
	return nil
}

// passResponse passes the response on to the client.
func (x *handling) passResponse(res *http.Response) {
	x.record.Status = res.StatusCode
	x.unbounded = x.lacksLength(res.Header)
	// The upload must not write a 100 (Continue) between here and the header.
	x.beginAnswer()
	x.responseHeader(res)
	x.w.WriteHeader(res.StatusCode)
	x.pick.Report(Success) // the end of a stream may be far
	if x.origin != nil && res.Body != x.origin {
		defer res.Body.Close()
	}
	if err := x.copyBody(res); err != nil {
		x.breakOff(err)
	}
	x.result = Success
	x.trailer = make(http.Header)
	for name, values := range res.Trailer {
		if validTrailer(name, x.cfg.ResponseHeaders) {
			copyTrailer(x.trailer, name, values)
		}
	}
	// The backend is free from here on, however long the client takes.
	x.keepUpstream(res)
	x.releasePick()
	x.finishResponse()
}

// copyBody copies the body of the response to the client. Nothing waits in a buffer while
// the backend is awaited, neither the header nor a piece of the body. What is here already
// goes out together: most responses are one write.
func (x *handling) copyBody(res *http.Response) error {
	x.owed = true
	if x.origin == nil || res.Body == x.origin {
		x.up.reader = x // which flushes when a read would wait
		defer func(u *upstream) { u.reader = nil }(x.up)
	}
	x.awaitClient()
	if err := x.flushBefore(); err != nil {
		return err
	}
	return copyPieces(res.Body, func(p []byte) error {
		x.awaitClient()
		x.owed = true
		if _, err := x.w.Write(p); err != nil {
			return errClient{err}
		}
		x.record.Sent += int64(len(p))
		return x.flushBefore()
	})
}

// flushBefore flushes before a read of a body that a ModifyResponse has put in the place of
// the backend's: nobody knows what it waits for.
func (x *handling) flushBefore() error {
	if x.up.reader != nil {
		return nil
	}
	return x.flush()
}

// flush sends the client what it is owed.
func (x *handling) flush() error {
	if !x.owed {
		return nil
	}
	x.owed = false
	if err := x.rc.Flush(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return errClient{err}
	}
	x.letClientRest()
	return nil
}

// breakOff ends an incomplete response so that the client can tell.
func (x *handling) breakOff(err error) {
	x.record.Reason = err.Error()
	var client errClient
	switch {
	case errors.As(err, &client), x.ctx.Err() != nil, x.body.readError() != nil:
	case x.session.interrupted() != nil:
		x.record.Reason = errCut.Error()
	case isTimeout(err):
		// No failure, for the backend has answered: a stream of events may be silent for long.
		x.cfg.log.Info("response timed out", "backend", x.pick.Backend(), "err", err)
	default:
		x.result = Failure
		x.cfg.log.Warn("response broken off", "backend", x.pick.Backend(), "err", err)
	}
	_ = x.flush() // what came before belongs to the client
	if x.unbounded && !x.chunked() {
		// The end of the connection would end the response in order: only a reset does not.
		x.body.stopReading()
		if conn, _, err := x.rc.Hijack(); err == nil {
			reset(conn)
		}
	}
	panic(http.ErrAbortHandler)
}
