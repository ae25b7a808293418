package lb

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httputil"
	"time"
)

// errStale: a kept connection was closed instead of an answer.
var errStale = errors.New("kept connection was closed")

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

// informational passes a 1xx response on, as long as no final one was chosen. It
// may be called by the upload too.
func (x *exchange) informational(code int, header http.Header) {
	x.writing.Lock()
	defer x.writing.Unlock()
	// HTTP/1.0 clients would take it for the final one (RFC 9110 §15.2).
	if x.answering || !x.in.ProtoAtLeast(1, 1) {
		return
	}
	x.awaitClient()
	removeHopByHop(header)
	h := x.w.Header()
	final := h.Clone() // What is set already, for that one.
	maps.Copy(h, header)
	x.w.WriteHeader(code)
	clear(h)
	maps.Copy(h, final)
}

// drop closes the connection to the backend, if there is one.
func (x *exchange) drop() {
	if x.cancel != nil {
		x.cancel()
		x.cancel = nil
	}
	if x.up != nil {
		x.up.Close()
		x.up = nil
	}
}

// keep puts the connection to the backend aside for other requests, if request and
// response have both been transferred to their end and nobody has cut it.
func (x *exchange) keep(res *http.Response) {
	u := x.up
	if !x.uploadedWhole() || res.Close || !x.origin.isOver() || !x.unwatch() {
		return
	}
	x.up = nil
	x.cfg.idle.put(u)
}

// sentWithin is how long an upload may take to notice that it is complete.
const sentWithin = 50 * time.Millisecond

// uploadedWhole tells whether the backend has got the whole request.
func (x *exchange) uploadedWhole() bool {
	if !x.body.over.Load() {
		return false
	}
	timer := time.NewTimer(sentWithin)
	defer timer.Stop()
	select {
	case <-x.upload.done:
		return x.upload.err == nil
	case <-timer.C:
		return false
	}
}

// upload is a request on its way to a backend.
type upload struct {
	answered  chan struct{} // Closed when the final response has begun.
	continued chan struct{} // Closed when the backend asks for the body.
	done      chan struct{}
	err       error // valid once done is closed
	broken    any   // what a ResponseWriter has panicked with, for the request's own goroutine
}

// proceed tells that the backend has asked for the body.
func (up *upload) proceed() {
	select {
	case <-up.continued:
	default:
		close(up.continued)
	}
}

// errNotWanted: the backend has answered without asking for the body.
var errNotWanted = errors.New("request body is not wanted")

// continueWithin is how long a backend has time to ask for a body or refuse it
// before it gets it unasked (RFC 9110 §10.1.1).
const continueWithin = time.Second

// startUpload sends the request on u: the header now, the body while the response
// is awaited.
func (x *exchange) startUpload(u *upstream) *upload {
	up := &upload{answered: make(chan struct{}), continued: make(chan struct{}), done: make(chan struct{})}
	body := x.body.attempt()
	expect := body != nil && x.expect && !x.body.begun()
	x.writeHead(u.w, body != nil, expect)
	up.err = u.w.Flush()
	if up.err != nil || body == nil {
		x.uploaded(u, up.err)
		close(up.done)
		return up
	}
	go func() {
		defer func() {
			up.broken = recover()
			close(up.done)
			if up.broken != nil {
				u.Close()
			}
		}()
		if expect && !x.continued(up) {
			up.err = errNotWanted
		} else {
			up.err = x.writeBody(u, body)
		}
		x.uploaded(u, up.err)
	}()
	return up
}

// continued waits until the body may be sent, and asks the client for it.
func (x *exchange) continued(up *upload) bool {
	timer := time.NewTimer(continueWithin)
	defer timer.Stop()
	select {
	case <-up.continued:
	case <-timer.C:
	case <-up.answered:
		return false
	}
	if x.in.ProtoMajor == 1 {
		// The server would do it by itself when it is read from, but not caring for
		// an informational response that is being written.
		x.informational(http.StatusContinue, nil)
	}
	return true
}

// uploaded is called when there is no more to send, with the reason.
func (x *exchange) uploaded(u *upstream, err error) {
	if x.body.failed() != nil || errors.Is(err, errBodyOver) || isTimeout(err) {
		u.Close()
		return
	}
	// A backend that takes no more may have answered before.
	u.over()
}

// writeBody copies the request's body.
func (x *exchange) writeBody(u *upstream, body io.Reader) error {
	dst, end := x.framed(u.w)
	buf := relayBuffers.Get().(*[relayBuffer]byte)
	defer relayBuffers.Put(buf)
	for {
		n, err := body.Read(buf[:])
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return err
			}
			if err := u.w.Flush(); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return end()
		}
		if err != nil {
			return err
		}
	}
}

// framed returns where the body goes, and what to do at its end.
func (x *exchange) framed(w *bufio.Writer) (io.Writer, func() error) {
	if x.in.ContentLength >= 0 {
		return w, w.Flush
	}
	chunks := httputil.NewChunkedWriter(w)
	return chunks, func() error {
		if err := chunks.Close(); err != nil {
			return err
		}
		return endChunks(w, x.body.trailer(x.trailers))
	}
}

// endChunks ends a chunked body, after its last chunk (RFC 9112 §7.1.2).
func endChunks(w *bufio.Writer, trailer http.Header) error {
	_ = trailer.Write(w) // Errors stay until Flush.
	_, _ = w.WriteString("\r\n")
	return w.Flush()
}
