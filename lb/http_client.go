package lb

import (
	"io"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/havip/havip/lb/internal/h1"
)

// passInformational passes a 1xx response on, unless the final response has begun. The
// upload calls it too, in its own goroutine.
func (x *handling) passInformational(code int, fields []h1.Field) {
	x.writing.Lock()
	defer x.writing.Unlock()
	if x.answering {
		return
	}
	x.awaitClient()
	h := x.w.Header()
	final := h.Clone()      // what others have set for the final response
	delete(h, "Connection") // the final one may be the last
	maps.Copy(h, headerOf(fields, nil))
	client := x.conn.halfClosing()
	first := client != nil && !client.inResponse()
	x.w.WriteHeader(code)
	x.letClientRest()
	if first {
		client.endResponse()
	}
	clear(h)
	maps.Copy(h, final)
}

// beginAnswer begins the final response: no informational one comes any more.
func (x *handling) beginAnswer() {
	x.writing.Lock()
	defer x.writing.Unlock()
	x.answering = true
}

// awaitClient sets how long the client may take nothing of what is written next.
func (x *handling) awaitClient() {
	_ = x.rc.SetWriteDeadline(time.Now().Add(x.cfg.ClientTimeout))
}

// letClientRest takes the time of awaitClient back while there is nothing to take: in HTTP/2
// it would end the stream, even if nothing is being written.
func (x *handling) letClientRest() {
	if x.in.ProtoMajor != 1 {
		_ = x.rc.SetWriteDeadline(time.Time{})
	}
}

// lacksLength reports whether a client learns only from the end of a response with
// this header how long it is.
func (x *handling) lacksLength(h http.Header) bool {
	_, known := h["Content-Length"]
	status := x.record.Status
	return !known && x.in.Method != http.MethodHead && status != http.StatusNoContent && status != http.StatusNotModified
}

// finishResponse ends a complete response. net/http gets the connection back only if the
// request has been read to its end: it would read the rest as the next request, or panic
// because a read is still under way.
func (x *handling) finishResponse() {
	for name, values := range x.trailer {
		if !slices.ContainsFunc(x.announced, func(other string) bool { return h1.EqualName(name, other) }) {
			name = http.TrailerPrefix + name
			// net/http would give a short response that is still in its buffers a length, and
			// leave the trailer out.
			_ = x.rc.Flush()
		}
		x.w.Header()[name] = values
	}
	x.awaitClient() // to take what is still in net/http's buffers
	if !x.duplex || x.body.over.Load() {
		return
	}
	if isGRPC(x.in) {
		return // the end has the status of the call: it must not be late, nor apart from a header without a body
	}
	_ = x.rc.Flush()
	deadline := time.Now().Add(drainFor)
	if x.in.ProtoMajor != 1 {
		// net/http resets the stream if the request goes on when this returns: for some
		// clients that spoils the response. Its end is better late.
		x.body.drainRest(deadline)
		return
	}
	if !x.unbounded && x.body.drainRest(deadline) {
		return
	}
	x.body.stopReading()
	x.hangUp(deadline)
}

// drainFor is how long a client that has got its response may go on sending a request
// body that is thrown away. If the body ends within this time the connection is saved,
// and many clients do not read the response while they cannot send.
const drainFor = 500 * time.Millisecond

// hangUp ends a response whose request will not be read to its end, and then the
// connection. It waits before it closes: a reset could destroy the response before the
// client has read it (RFC 9112 §9.6).
func (x *handling) hangUp(deadline time.Time) {
	conn, buffered, err := x.rc.Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer conn.Close()
	_ = conn.SetWriteDeadline(time.Now().Add(x.cfg.ClientTimeout))
	if x.chunked() {
		_, _ = buffered.WriteString("0\r\n")
		if endChunks(buffered.Writer, headerFields(nil, x.trailer)) != nil {
			return
		}
	}
	if !x.unbounded || x.chunked() {
		// The client can tell that the response is complete.
		_ = conn.SetReadDeadline(deadline)
		_, _ = io.Copy(io.Discard, conn)
	}
	if closeWrite(conn) == nil {
		_ = conn.SetReadDeadline(time.Now().Add(drainFor))
		_, _ = io.Copy(io.Discard, conn)
	}
}
