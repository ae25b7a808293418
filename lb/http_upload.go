package lb

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/havip/havip/lb/internal/h1"
)

// askForBody notes that the backend has asked for the body.
func (up *upload) askForBody() {
	select {
	case <-up.continued:
	default:
		close(up.continued)
	}
}

// errNotWanted: the backend has answered without having asked for the body.
var errNotWanted = errors.New("request body is not wanted")

// continueWithin is how long a backend may take to ask for a body or to refuse the
// request. After that it gets the body unasked (RFC 9110 §10.1.1).
const continueWithin = time.Second

// startUpload sends the request on u: the header at once, the body in a goroutine while
// the response is awaited.
func (x *handling) startUpload(u *upstream) *upload {
	up := &upload{answered: make(chan struct{}), continued: make(chan struct{}), done: make(chan struct{})}
	var body *bodyReader
	if x.length != 0 {
		body = x.body.newReader()
	}
	expect := body != nil && x.expect && x.body.bytesRead() == 0
	if u.stream != nil {
		up.err = x.writeHead2(u, body != nil, expect)
	} else {
		_, _ = u.w.WriteString(u.greeting)
		u.greeting = ""
		_, _ = u.w.Write(x.appendRequest(u.w.AvailableBuffer(), body != nil, expect)) // an error stays in u.w until Flush
		up.err = u.w.Flush()
	}
	if up.err != nil || body == nil {
		x.endUpload(u, up.err)
		close(up.done)
		return up
	}
	go func() {
		defer func() {
			up.broken = recover()
			body.end()
			close(up.done)
			if up.broken != nil {
				u.Close()
			}
		}()
		if expect && !x.awaitContinue(up) {
			up.err = errNotWanted
		} else {
			up.err = x.writeBody(u, body)
		}
		x.endUpload(u, up.err)
	}()
	return up
}

// awaitContinue waits until the body may be sent, and asks the client for the body. It
// reports whether the backend wants the body.
func (x *handling) awaitContinue(up *upload) bool {
	timer := time.NewTimer(continueWithin)
	defer timer.Stop()
	select {
	case <-up.continued:
	case <-timer.C:
	case <-up.answered:
		return false
	}
	if x.major == 1 && x.modern() {
		// net/http would ask by itself at the first read, maybe in the middle of an
		// informational response that is being written.
		x.passInformational(http.StatusContinue, nil)
	}
	return true
}

// endUpload is called when nothing more is sent. err is nil if the request is complete.
func (x *handling) endUpload(u *upstream, err error) {
	if x.body.readError() != nil || errors.Is(err, errBodyOver) || isTimeout(err) {
		u.Close()
		return
	}
	// A backend that takes nothing more may have answered nevertheless.
	u.expectAnswer()
}

// writeBody copies the request's body to the backend.
func (x *handling) writeBody(u *upstream, body io.Reader) error {
	if u.stream != nil {
		return x.writeBody2(u, body)
	}
	chunks := x.length == h1.Chunked
	err := copyPieces(body, func(p []byte) error {
		if chunks {
			_, _ = u.w.Write(h1.AppendChunkSize(u.w.AvailableBuffer(), len(p)))
		}
		_, _ = u.w.Write(p)
		if chunks {
			_, _ = u.w.WriteString(h1.ChunkEnd)
		}
		return u.w.Flush()
	})
	if err != nil || !chunks {
		return err
	}
	_, _ = u.w.WriteString(h1.LastChunk)
	return endChunks(u.w, x.requestTrailer(nil, x.body.trailer()))
}
