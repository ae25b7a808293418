package lb

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/havip/havip/lb/internal/h1"
)

// replayLimit is how many bytes of a request body are kept for another attempt.
const replayLimit = 64 << 10

// replayBody lets several attempts read one request body, one after the other. While the
// next attempt is under way, a read of a failed attempt may still be waiting for the
// client: the next attempt gets what that read brings.
type replayBody struct {
	in      *http.Request
	limited io.Reader // the body, up to MaxBody
	rc      *http.ResponseController
	cfg     *HandlerConfig

	over atomic.Bool // the body has been read to its end

	mu      sync.Mutex  // guards what follows; not held while a read waits
	idle    sync.Cond   // reading has become false
	reading bool        // a read is waiting for the client
	kept    []byte      // what was read, while that is no more than replayLimit
	held    *heldBody   // instead of kept, and whatever its size; nil: nothing is held
	spilt   error       // why no more can be held
	latest  *bodyReader // of the present attempt; nil: there was none, or it needs none
	settled bool        // no other attempt will be made
	read    int64       // bytes read from the client
	err     error       // how the body ended: io.EOF if it is complete
	pace    pace
	stopped bool // no read may begin
}

var (
	errBodyOver   = errors.New("lb: request body is no longer available")
	errBodyLength = errors.New("lb: request body is longer than its Content-Length")
)

// newReplayBody returns the body of r, which may be none.
func newReplayBody(r *http.Request, rc *http.ResponseController, cfg *HandlerConfig) *replayBody {
	b := &replayBody{in: r, limited: r.Body, rc: rc, cfg: cfg}
	b.idle.L = &b.mu
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		b.err = io.EOF
		b.over.Store(true)
	}
	b.limit()
	return b
}

// newReader returns a reader of the whole body for an attempt; nil if there is no body.
func (b *replayBody) newReader() *bodyReader {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.read == 0 && b.err == io.EOF && b.in.ContentLength >= 0 {
		return nil
	}
	b.latest = &bodyReader{b: b}
	return b.latest
}

// follow has the bounds of another configuration count. Nothing has been read.
func (b *replayBody) follow(cfg *HandlerConfig) {
	if b.cfg == cfg {
		return
	}
	b.cfg = cfg
	b.limit()
}

// limit bounds what is read.
func (b *replayBody) limit() {
	b.limited = b.in.Body
	if b.cfg.MaxBody > 0 && !b.over.Load() {
		b.limited = http.MaxBytesReader(nil, b.in.Body, b.cfg.MaxBody)
	}
}

// bodyReader reads the body for one attempt.
type bodyReader struct {
	b     *replayBody
	at    int64
	ended bool // the attempt reads no more
}

// end tells that the attempt reads no more.
func (r *bodyReader) end() {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	r.ended = true
	r.b.releaseSettled()
}

func (r *bodyReader) Read(p []byte) (int, error) {
	b := r.b
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.reading && r.at == b.read {
		b.idle.Wait() // what the earlier attempt reads is for this one
	}
	// First what was read before, then the client. What was read and not kept is lost for
	// this attempt.
	switch {
	case r.at < b.keptSize():
		n, err := b.readKept(p, r.at)
		r.at += int64(n)
		if err != nil {
			b.err = err // no other attempt gets more
		}
		return n, err
	case r.at < b.read:
		return 0, errBodyOver
	case b.err != nil:
		return 0, b.err
	case b.stopped, r != b.latest: // what a failed attempt takes is lost for the present one
		return 0, errBodyOver
	}
	n, err := b.readClient(p)
	r.at += int64(n)
	return n, err
}

// readClient reads from the client. b.mu is held, but not while the client is awaited.
func (b *replayBody) readClient(p []byte) (int, error) {
	start := time.Now()
	deadline := start.Add(b.cfg.patience(&b.pace))
	_ = b.rc.SetReadDeadline(deadline)
	n, err := b.awaitClient(p)
	waited := time.Since(start)
	slow := n == 0 && b.cfg.isSlow(&b.pace, waited)
	b.cfg.notePace(&b.pace, waited, n)
	if length := b.in.ContentLength; length >= 0 {
		// The body of a middleware may have any length.
		if b.read+int64(n) > length {
			n, err = 0, errBodyLength
		} else if err == io.EOF && b.read+int64(n) < length {
			err = io.ErrUnexpectedEOF
		}
	}
	if err == io.EOF && !b.cfg.trailerFits(b.in.Trailer) {
		err = errFieldsTooLarge
	}
	b.keep(p[:n])
	b.read += int64(n)
	// In HTTP/2 a deadline that passes just when something comes shows in the next read.
	early := isTimeout(err) && time.Now().Before(deadline)
	if early && b.stopped {
		err = errBodyOver // the read was interrupted
	} else if isTimeout(err) && (slow || early && b.cfg.patience(&b.pace) < b.cfg.ClientTimeout) {
		err = errBodySlow
	}
	// The deadline would also end net/http's watch for the client's departure, and in HTTP/2
	// the body, even if nobody reads it.
	if !b.stopped && (err == io.EOF || err == nil && b.in.ProtoMajor != 1) {
		_ = b.rc.SetReadDeadline(time.Time{})
	}
	b.err = err
	b.over.Store(err == io.EOF)
	return n, err
}

// awaitClient reads from the client without holding b.mu. A panic of a middleware's body
// becomes an error: in the goroutine of an upload it would end the program.
func (b *replayBody) awaitClient(p []byte) (n int, err error) {
	b.reading = true
	b.mu.Unlock()
	defer func() {
		if broken := recover(); broken != nil {
			n, err = 0, fmt.Errorf("panic: %v", broken)
		}
		b.mu.Lock()
		b.reading = false
		b.idle.Broadcast()
	}()
	return b.limited.Read(p)
}

// replayable reports whether another attempt would get the whole body, also what a read brings
// that is under way.
func (b *replayBody) replayable() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.read == b.keptSize() && (b.err == nil || b.err == io.EOF) && (b.held != nil || b.read <= replayLimit)
}

// cameWhole waits for the read under way, if there is one, and reports whether the body
// has been read to its end.
func (b *replayBody) cameWhole() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.reading {
		b.idle.Wait()
	}
	return b.err == io.EOF
}

// readError returns the error of reading from the client; nil if there was none.
func (b *replayBody) readError() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == io.EOF {
		return nil
	}
	return b.err
}

// bytesRead returns how many bytes of the body were read from the client.
func (b *replayBody) bytesRead() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.read
}

// trailer returns the fields that came after the body, which has ended.
func (b *replayBody) trailer() []h1.Field {
	b.mu.Lock()
	defer b.mu.Unlock()
	return headerFields(nil, b.in.Trailer)
}

// drainRest throws away the rest of the body. It reports whether the end came before the
// deadline.
func (b *replayBody) drainRest(deadline time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.interruptReading(deadline)
	// A body that exceeds MaxBody is still well-formed and has an end.
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

// stopReading ends all reading: net/http takes the connection back.
func (b *replayBody) stopReading() {
	if !b.over.Load() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.interruptReading(time.Unix(1, 0))
	}
}

// interruptReading lets no read begin any more, and waits for the read under way, which
// ends at the deadline at the latest. b.mu is held.
func (b *replayBody) interruptReading(deadline time.Time) {
	b.stopped = true
	_ = b.rc.SetReadDeadline(deadline)
	for b.reading {
		b.idle.Wait()
	}
}
