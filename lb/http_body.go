package lb

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// replayLimit is how much of a request body is kept for another attempt.
const replayLimit = 64 << 10

// replayBody lets several attempts read one request body, one after the other. A
// read of an attempt that has failed may still be waiting for the client while
// the next is under way; what it gets is not lost.
type replayBody struct {
	in *http.Request

	mu      sync.Mutex
	kept    []byte
	read    int64 // Bytes taken from the client.
	err     error // How the client's body ended, io.EOF if well.
	stopped bool
	out     *http.Request // The latest attempt; gets the trailers.
}

var errBodyOver = errors.New("lb: request body is no longer available")

// newReplayBody returns the body of r, or one that knows that r has none.
func newReplayBody(r *http.Request) *replayBody {
	b := &replayBody{in: r}
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		b.err = io.EOF
	}
	return b
}

// attempt gives out a reader of the whole body.
func (b *replayBody) attempt(out *http.Request) io.ReadCloser {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.out = out
	if b.read == 0 && b.err == io.EOF {
		return http.NoBody
	}
	return &bodyReader{b: b}
}

// replayable tells whether another attempt would see the whole body.
func (b *replayBody) replayable() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.read == int64(len(b.kept)) && (b.err == nil || b.err == io.EOF)
}

// failed is the error of reading from the client, if there was one.
func (b *replayBody) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == io.EOF {
		return nil
	}
	return b.err
}

// taken is how many bytes of the body were read from the client.
func (b *replayBody) taken() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.read
}

// drainFor bounds the wait for the rest of a body that the backend did not want.
const drainFor = 500 * time.Millisecond

// finish ends all reading before the handler returns, when the server takes the
// connection back; whole tells that a response was written. A transport may still
// be reading for a backend that has answered early. In full-duplex mode net/http
// must not find the body's end by itself after that: it would begin to wait for the
// next request twice, and panic. So the rest is read here, for a while; false if
// that was not enough.
func (b *replayBody) finish(w http.ResponseWriter, whole bool) bool {
	if b.mu.TryLock() {
		over := b.err != nil
		b.stopped = over
		b.mu.Unlock()
		if over {
			return true
		}
	}
	rc := http.NewResponseController(w)
	wait := time.Duration(0)
	if whole {
		_ = rc.Flush()
		wait = drainFor
	}
	// It also wakes up a read that is under way.
	_ = rc.SetReadDeadline(time.Now().Add(wait))
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = true
	if whole && b.err == nil {
		if _, b.err = io.Copy(io.Discard, b.in.Body); b.err == nil {
			b.err = io.EOF
		}
	}
	if b.err != io.EOF {
		return false
	}
	_ = rc.SetReadDeadline(time.Time{})
	return true
}

type bodyReader struct {
	b  *replayBody
	at int64
}

func (r *bodyReader) Read(p []byte) (int, error) {
	b := r.b
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.stopped:
		return 0, errBodyOver
	case r.at < int64(len(b.kept)):
		n := copy(p, b.kept[r.at:])
		r.at += int64(n)
		return n, nil
	case r.at < b.read:
		return 0, errBodyOver
	case b.err != nil:
		return 0, b.err
	}
	n, err := b.in.Body.Read(p)
	if b.read+int64(n) <= replayLimit {
		b.kept = append(b.kept, p[:n]...)
	} else {
		b.kept = nil
	}
	b.read += int64(n)
	r.at += int64(n)
	if err != nil {
		b.err = err
	}
	if err == io.EOF {
		// The trailers have just been read; the transport sends its own copy. It
		// gets only those that were announced: it has no map without any.
		for name := range b.out.Trailer {
			b.out.Trailer[name] = b.in.Trailer[name]
		}
	}
	return n, err
}

// Close leaves the client's body open: another attempt may need it, and the server
// closes it in the end.
func (r *bodyReader) Close() error { return nil }
