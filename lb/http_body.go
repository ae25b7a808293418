package lb

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// replayLimit is how much of a request body is kept for another attempt.
const replayLimit = 64 << 10

// replayBody lets several attempts read one request body, one after the other. A
// read of an attempt that has failed may still be waiting for the client while
// the next is under way; what it gets is not lost.
type replayBody struct {
	in      *http.Request
	limited io.Reader // The body, up to the limit.
	rc      *http.ResponseController
	timeout time.Duration // Of each read.

	over atomic.Bool // The body has been read to its end.

	mu      sync.Mutex
	idle    sync.Cond // With mu: reading has become false.
	reading bool      // A read is waiting for the client.
	kept    []byte
	read    int64 // Bytes taken from the client.
	err     error // How the client's body ended, io.EOF if well.
	stopped bool
}

var (
	errBodyOver   = errors.New("lb: request body is no longer available")
	errBodyLength = errors.New("lb: request body is longer than its Content-Length")
)

// newReplayBody returns the body of r, or one that knows that r has none. More than
// limit bytes, unless that is 0, are an error.
func newReplayBody(r *http.Request, rc *http.ResponseController, limit int64, timeout time.Duration) *replayBody {
	b := &replayBody{in: r, limited: r.Body, rc: rc, timeout: timeout}
	b.idle.L = &b.mu
	switch {
	case r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0:
		b.err = io.EOF
		b.over.Store(true)
	case limit > 0:
		b.limited = http.MaxBytesReader(nil, r.Body, limit)
	}
	return b
}

// attempt gives out a reader of the whole body; nil if there is none.
func (b *replayBody) attempt() io.Reader {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.read == 0 && b.err == io.EOF && b.in.ContentLength >= 0 {
		return nil
	}
	return &bodyReader{b: b}
}

// bodyReader is one attempt's view of the body.
type bodyReader struct {
	b  *replayBody
	at int64
}

func (r *bodyReader) Read(p []byte) (int, error) {
	b := r.b
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.reading && r.at == b.read {
		b.idle.Wait() // What another attempt reads is for this one.
	}
	switch {
	case r.at < int64(len(b.kept)):
		n := copy(p, b.kept[r.at:])
		r.at += int64(n)
		return n, nil
	case r.at < b.read:
		return 0, errBodyOver
	case b.err != nil:
		return 0, b.err
	case b.stopped:
		return 0, errBodyOver
	}
	n, err := b.fetch(p)
	r.at += int64(n)
	return n, err
}

// fetch reads from the client. b.mu is held, but not while it waits.
func (b *replayBody) fetch(p []byte) (int, error) {
	deadline := time.Now().Add(b.timeout)
	_ = b.rc.SetReadDeadline(deadline)
	n, err := b.wait(p)
	if length := b.in.ContentLength; length >= 0 {
		// A wrapped body may be anything.
		if b.read+int64(n) > length {
			n, err = 0, errBodyLength
		} else if err == io.EOF && b.read+int64(n) < length {
			err = io.ErrUnexpectedEOF
		}
	}
	if b.read+int64(n) <= replayLimit {
		b.kept = append(b.kept, p[:n]...)
	} else {
		b.kept = nil
	}
	b.read += int64(n)
	if isTimeout(err) && time.Now().Before(deadline) {
		err = errBodyOver // It was interrupted.
	}
	if err == io.EOF && !b.stopped {
		_ = b.rc.SetReadDeadline(time.Time{})
	}
	b.err = err
	b.over.Store(err == io.EOF)
	return n, err
}

func (b *replayBody) wait(p []byte) (n int, err error) {
	b.reading = true
	b.mu.Unlock()
	defer func() {
		// A server would catch it, but not in the goroutine of an upload.
		if broken := recover(); broken != nil {
			n, err = 0, fmt.Errorf("panic: %v", broken)
		}
		b.mu.Lock()
		b.reading = false
		b.idle.Broadcast()
	}()
	return b.limited.Read(p)
}

// begun tells whether some of the body was read before.
func (b *replayBody) begun() bool { return b.taken() > 0 }

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

// trailer returns those of the names that came after the body.
func (b *replayBody) trailer(names []string) http.Header {
	b.mu.Lock()
	defer b.mu.Unlock()
	trailer := make(http.Header)
	if b.err == io.EOF {
		for _, name := range names {
			copyTrailer(trailer, name, b.in.Trailer[name])
		}
	}
	return trailer
}

// drain reads what is left of the body, until the deadline; false if that was not
// enough, or the end of the body is not to be found.
func (b *replayBody) drain(deadline time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.interrupt(deadline)
	var tooLarge *http.MaxBytesError
	if b.err == nil || errors.As(b.err, &tooLarge) {
		if _, b.err = io.Copy(io.Discard, b.in.Body); b.err == nil {
			b.err = io.EOF
		}
	}
	if b.err != io.EOF {
		return false
	}
	_ = b.rc.SetReadDeadline(time.Time{})
	b.over.Store(true)
	return true
}

// stop ends all reading: the server takes the connection back.
func (b *replayBody) stop() {
	if !b.over.Load() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.interrupt(time.Unix(1, 0))
	}
}

// interrupt lets no read begin any more, and waits for the one that is under way, until
// the deadline at most. b.mu is held.
func (b *replayBody) interrupt(deadline time.Time) {
	b.stopped = true
	_ = b.rc.SetReadDeadline(deadline)
	for b.reading {
		b.idle.Wait()
	}
}
