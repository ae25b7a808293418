package lb

import (
	"errors"
	"io"
	"net/http"
	"strconv"
)

// RequestError is why a Handler answers a request in a backend's place. What it
// wraps may be ErrNoBackend or ErrBusy.
type RequestError struct {
	Status int // that the client gets by default: 400 to 504
	Err    error
}

// Error returns Err's text.
func (e *RequestError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *RequestError) Unwrap() error { return e.Err }

// failRequest answers a request that no backend has answered, unless the client has left.
func (x *handling) failRequest(err error) {
	if x.ctx.Err() != nil {
		// net/http takes a timeout of the client's body for the end of the connection:
		// the body knows better.
		x.body.stopReading()
	}
	broken := x.body.readError()
	// Nobody is left to answer.
	if err == errLeft || x.ctx.Err() != nil && !isTimeout(broken) && !x.halfBody(broken) {
		x.unserved(err)
		x.told.Left = true
		panic(http.ErrAbortHandler)
	}
	x.beginAnswer() // the upload of an abandoned attempt may not touch the header any more
	x.body.settle()
	// Where a broken body ends, and the next request begins, is not known.
	if broken != nil && x.in.ProtoMajor == 1 {
		x.w.Header().Set("Connection", "close")
	}
	if errors.Is(broken, errBodyOver) { // it was given up, or lost, here
		broken = nil
	}
	x.answerError(x.failure(err, broken))
}

// halfBody reports whether the client has closed its half of the connection in the middle of the
// body. It waits for the answer, though its context has ended with that, or is about to.
func (x *handling) halfBody(broken error) bool {
	return x.conn.halfClosing() != nil && errors.Is(broken, io.ErrUnexpectedEOF)
}

// refuseRequest answers a request that no backend should see.
func (x *handling) refuseRequest(status int, err error) {
	x.refused(err)
	x.answerError(status, err)
}

// answerError answers in a backend's place. An ErrorHandler goes before all pages.
func (x *handling) answerError(status int, err error) {
	if x.cfg.ErrorHandler == nil {
		x.showError(status, err)
		x.answerHere()
		return
	}
	x.beginAnswer()
	x.cfg.ErrorHandler(&answerWriter{x.w, x}, x.in, &RequestError{Status: status, Err: err})
	if x.record.Status == 0 {
		x.record.Status = http.StatusOK // net/http will say so
		x.setReplyHeader()
	}
	x.unbounded = x.lacksLength(x.w.Header())
	x.finishResponse()
}

// answerHere answers with x.reply.
func (x *handling) answerHere() {
	x.beginAnswer()
	h := x.w.Header()
	r := &x.reply
	if r.kind != "" {
		h.Set("Content-Type", r.kind)
	}
	for _, f := range r.fields {
		h.Add(f.Name, f.Value)
	}
	if r.bodied() {
		h.Set("Content-Length", strconv.Itoa(len(r.content)))
	}
	w := &answerWriter{x.w, x}
	w.WriteHeader(r.status)
	if r.bodied() {
		_, _ = w.Write(r.content)
	}
	x.finishResponse()
}

// refuseHere refuses a request because a rule wants that.
func (x *handling) refuseHere() {
	r := &x.reply
	err := errors.New(r.reason)
	x.refused(err)
	if x.cfg.ErrorHandler == nil {
		x.answerHere()
		return
	}
	for _, f := range r.fields {
		x.w.Header().Add(f.Name, f.Value)
	}
	x.answerError(r.status, err)
}

// answerWriter records what an ErrorHandler answers.
type answerWriter struct {
	http.ResponseWriter
	x *handling
}

func (w *answerWriter) WriteHeader(status int) {
	if w.x.record.Status == 0 && status >= 200 {
		w.x.record.Status = status
		w.x.setReplyHeader()
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *answerWriter) Write(p []byte) (done int, err error) {
	if w.x.record.Status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	for {
		w.x.awaitClient() // anew for each piece: one that goes on reading is not ended
		n, err := w.ResponseWriter.Write(p[done:min(len(p), done+pagePiece)])
		if w.x.in.Method != http.MethodHead { // which net/http takes, and does not send
			w.x.record.Sent += int64(n)
		}
		if done += n; err != nil || done == len(p) {
			return done, err
		}
	}
}

// pagePiece is how much of an answer made here is written at once. In the event loops a client
// that does not read holds a copy of no more than that.
const pagePiece = 32 << 10

// Unwrap is for http.ResponseController.
func (w *answerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
