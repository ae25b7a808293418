package lb

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"time"
)

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
