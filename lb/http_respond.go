package lb

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"
)

// originBody is the body of a backend's response that ModifyResponse may read.
type originBody struct {
	io.ReadCloser
	over bool // it was read to its end
}

func (b *originBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.over = b.over || err == io.EOF
	return n, err
}

// isOver reports whether nothing is left to read on the connection. Where there is
// no ModifyResponse respond has read all.
func (b *originBody) isOver() bool { return b == nil || b.over }

// modify has ModifyResponse change the response.
func (x *exchange) modify(res *http.Response) error {
	x.origin = &originBody{ReadCloser: res.Body, over: res.Body == http.NoBody}
	res.Body = x.origin
	if err := x.cfg.ModifyResponse(res); err != nil {
		return fmt.Errorf("backend %s: response: %w", x.pick.Backend(), err)
	}
	if res.Body == nil {
		res.Body = http.NoBody
	}
	return nil
}

// lacksLength reports whether a client learns only from the end of a response with
// this header how long it is.
func (x *exchange) lacksLength(h http.Header) bool {
	_, known := h["Content-Length"]
	status := x.record.Status
	return !known && x.in.Method != http.MethodHead && status != http.StatusNoContent && status != http.StatusNotModified
}

// respond passes the response on.
func (x *exchange) respond(res *http.Response) {
	x.record.Status = res.StatusCode
	x.unbounded = res.ContentLength < 0 && x.in.Method != http.MethodHead || x.origin != nil && x.lacksLength(res.Header)
	x.answer()
	x.responseHeader(res)
	x.w.WriteHeader(res.StatusCode)
	if x.origin != nil && res.Body != x.origin {
		defer res.Body.Close()
	}
	if err := x.copyBody(res); err != nil {
		x.breakOff(err)
	}
	x.result = Success
	x.trailer = make(http.Header)
	for name, values := range res.Trailer {
		if x.chunked() && validTrailer(name, x.cfg.ResponseHeaders) {
			copyTrailer(x.trailer, name, values)
		}
	}
	x.keep(res)
	x.release()
	x.finish()
}

// answer ends informational responses: the final one begins.
func (x *exchange) answer() {
	x.writing.Lock()
	defer x.writing.Unlock()
	x.answering = true
}

// chunked tells whether the client gets the response in chunks.
func (x *exchange) chunked() bool { return x.unbounded && x.in.ProtoAtLeast(1, 1) }

// awaitClient gives the client the time it has to take what is written next.
func (x *exchange) awaitClient() {
	_ = x.rc.SetWriteDeadline(time.Now().Add(x.cfg.ClientTimeout))
}

// errClient: the client does not take the response.
type errClient struct{ error }

// copyBody copies the body of the response to the client.
func (x *exchange) copyBody(res *http.Response) error {
	buf := relayBuffers.Get().(*[relayBuffer]byte)
	defer relayBuffers.Put(buf)
	// A body of unknown length may be a stream of events: none may wait.
	flush := func() error {
		if !x.unbounded {
			return nil
		}
		if err := x.rc.Flush(); !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
		return nil
	}
	x.awaitClient()
	if err := flush(); err != nil {
		return errClient{err}
	}
	for {
		n, err := res.Body.Read(buf[:])
		if n > 0 {
			x.awaitClient()
			_, werr := x.w.Write(buf[:n])
			if werr == nil {
				werr = flush()
			}
			if werr != nil {
				return errClient{werr}
			}
			x.record.Sent += int64(n)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// breakOff ends a response that is not complete, in a way that shows that.
func (x *exchange) breakOff(err error) {
	x.record.Reason = err.Error()
	var client errClient
	switch {
	case errors.As(err, &client), x.in.Context().Err() != nil, x.body.failed() != nil:
	case x.session.interrupted() != nil:
		x.record.Reason = errCut.Error()
	case isTimeout(err):
		// It has answered: a stream of events may be silent for long.
		x.cfg.log.Info("response timed out", "backend", x.pick.Backend(), "err", err)
	default:
		x.result = Failure
		x.cfg.log.Warn("response broken off", "backend", x.pick.Backend(), "err", err)
	}
	if x.unbounded && !x.chunked() {
		// The response ends with the connection: only a reset is different.
		x.body.stop()
		if conn, _, err := x.rc.Hijack(); err == nil {
			reset(conn)
		}
	}
	panic(http.ErrAbortHandler)
}

// finish ends a complete response. The server takes the connection back only if the
// request has been read to its end: it would take the rest for the next one, if that
// did not make it panic.
func (x *exchange) finish() {
	for name, values := range x.trailer {
		if !slices.Contains(x.announced, name) {
			name = http.TrailerPrefix + name
		}
		x.w.Header()[name] = values
	}
	x.awaitClient() // For what net/http has in its buffers.
	if x.in.ProtoMajor != 1 || !x.duplex || x.body.over.Load() {
		return
	}
	_ = x.rc.Flush()
	deadline := time.Now().Add(drainFor)
	if !x.unbounded && x.body.drain(deadline) {
		return
	}
	x.body.stop()
	x.hangUp(deadline)
}

// drainFor is how long a client that has got its response may go on sending the request
// that nobody wants: its end, if it comes, saves the connection, and many clients miss the
// response if they cannot send.
const drainFor = 500 * time.Millisecond

// hangUp ends a response whose request will not be read to its end, and the
// connection with it: only after a while, or a reset could destroy the response
// before the client has read it (RFC 9112 §9.6).
func (x *exchange) hangUp(deadline time.Time) {
	conn, buffered, err := x.rc.Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer conn.Close()
	_ = conn.SetWriteDeadline(time.Now().Add(x.cfg.ClientTimeout))
	if x.chunked() {
		_, _ = buffered.WriteString("0\r\n")
		if endChunks(buffered.Writer, x.trailer) != nil {
			return
		}
	}
	if !x.unbounded || x.chunked() {
		// The client can tell that the response is complete.
		_ = conn.SetReadDeadline(deadline)
		if _, err := io.Copy(io.Discard, conn); err == nil {
			return
		}
	}
	if closeWrite(conn) == nil {
		_ = conn.SetReadDeadline(time.Now().Add(drainFor))
		_, _ = io.Copy(io.Discard, conn)
	}
}
