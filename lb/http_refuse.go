package lb

import (
	"errors"
	"fmt"
	"net/http"
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

// refusalStatus returns the status for a request that no backend should see, and 0 for
// all others.
func (x *handling) refusalStatus() int {
	var valid bool
	x.target, valid = requestTarget(x.in.Method, x.in.RequestURI, x.in.ProtoMajor, x.in.URL)
	_, _, counts := forwardsLeft(x.in.Method, x.in.Header["Max-Forwards"])
	port := "80"
	if x.in.TLS != nil {
		port = "443"
	}
	switch {
	case x.in.Method == http.MethodConnect:
		return http.StatusMethodNotAllowed
	case !valid, !counts, !validHost(x.in.Host, x.in.Header["Host"], x.in.ProtoMajor, port),
		!validHeader(x.in.Method, ""): // in HTTP/1 it would spoil the request line
		return http.StatusBadRequest
	case !x.cfg.headerFits(x.in):
		return http.StatusRequestHeaderFieldsTooLarge
	case x.cfg.MaxBody > 0 && x.in.ContentLength > x.cfg.MaxBody:
		return http.StatusRequestEntityTooLarge
	}
	return 0
}

// failRequest answers a request that no backend has answered, unless the client has left.
func (x *handling) failRequest(err error) {
	if x.ctx.Err() != nil {
		// net/http takes a timeout of the client's body for the end of the connection:
		// the body knows better.
		x.body.stopReading()
	}
	broken := x.body.readError()
	// Nobody is left to answer.
	if err == errLeft || x.ctx.Err() != nil && !isTimeout(broken) {
		x.record.Reason = err.Error()
		x.h.counters.failed.Add(1)
		panic(http.ErrAbortHandler)
	}
	// The client's fault goes before the backend's: it may be the cause.
	status := http.StatusBadGateway
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(broken, &tooLarge):
		status = http.StatusRequestEntityTooLarge
	case errors.Is(broken, errFieldsTooLarge):
		status = http.StatusRequestHeaderFieldsTooLarge
	case isTimeout(broken):
		status = http.StatusRequestTimeout
	case broken != nil:
		status = http.StatusBadRequest
	case errors.Is(err, ErrNoBackend), errors.Is(err, ErrBusy), errors.Is(err, errCut), starved(err):
		status = http.StatusServiceUnavailable
	case isTimeout(err):
		status = http.StatusGatewayTimeout
	}
	x.beginAnswer() // the upload of an abandoned attempt may not touch the header any more
	if broken != nil {
		err = fmt.Errorf("request body: %w", broken)
		// Where the broken body ends, and the next request begins, is not known.
		if x.in.ProtoMajor == 1 {
			x.w.Header().Set("Connection", "close")
		}
	}
	x.cfg.log.Warn("request not served", "client", x.client, "method", x.in.Method, "host", x.in.Host,
		"status", status, "err", err)
	x.refuseRequest(status, err)
}

// refuseRequest answers in a backend's place.
func (x *handling) refuseRequest(status int, err error) {
	x.record.Reason = err.Error()
	x.h.counters.failed.Add(1)
	x.beginAnswer()
	answer := x.cfg.ErrorHandler
	if answer == nil {
		answer = answerError
	}
	answer(&answerWriter{x.w, x}, x.in, &RequestError{Status: status, Err: err})
	if x.record.Status == 0 {
		x.record.Status = http.StatusOK // net/http will say so
	}
	x.unbounded = x.lacksLength(x.w.Header())
	x.finishResponse()
}

// answerError is the default of ErrorHandler.
func answerError(w http.ResponseWriter, _ *http.Request, err error) {
	status := err.(*RequestError).Status
	body := fmt.Sprintf("%d %s\n", status, http.StatusText(status))
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
}

// answerWriter records what an ErrorHandler answers.
type answerWriter struct {
	http.ResponseWriter
	x *handling
}

func (w *answerWriter) WriteHeader(status int) {
	if w.x.record.Status == 0 && status >= 200 {
		w.x.record.Status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *answerWriter) Write(p []byte) (int, error) {
	w.x.awaitClient()
	n, err := w.ResponseWriter.Write(p)
	w.x.record.Sent += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (w *answerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
