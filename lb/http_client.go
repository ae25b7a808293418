package lb

import (
	"io"
	"maps"
	"net/http"
	"slices"
	"time"
)

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

// answer ends informational responses: the final one begins.
func (x *exchange) answer() {
	x.writing.Lock()
	defer x.writing.Unlock()
	x.answering = true
}

// awaitClient gives the client the time it has to take what is written next.
func (x *exchange) awaitClient() {
	_ = x.rc.SetWriteDeadline(time.Now().Add(x.cfg.ClientTimeout))
}

// lacksLength reports whether a client learns only from the end of a response with
// this header how long it is.
func (x *exchange) lacksLength(h http.Header) bool {
	_, known := h["Content-Length"]
	status := x.record.Status
	return !known && x.in.Method != http.MethodHead && status != http.StatusNoContent && status != http.StatusNotModified
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
