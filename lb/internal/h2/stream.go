package h2

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Stream is one request and the response to it. One goroutine may write while another one
// reads; Close and the deadline are for any.
type Stream struct {
	c *Conn

	// Awaiting is called before a Read that has to wait. Its error is that of Read.
	Awaiting func() error

	readable, writable chan struct{} // something has changed for who reads, or writes

	// What follows is guarded by c.mu.
	id       uint32 // 0: the request has not begun
	started  time.Time
	err      error // how the stream has ended early
	refused  bool  // the server has not processed the request
	released bool  // it counts no more

	// The request.
	send    int64 // what may be sent of its body
	sent    bool  // to its end
	stopped bool  // the server wants no more of it

	// The response.
	bodyless bool // there is none to a HEAD
	heads    [][]hpack.HeaderField
	final    bool  // the last head is here
	length   int64 // of the body; -1: not known
	receive  int64 // what the server may send
	read     int   // what was read, and the server was not told of
	body     []byte
	at       int // what of body was read
	trailer  []hpack.HeaderField
	ended    bool // the response is complete
	readBy   time.Time
}

// errStopped: the server has answered, and wants nothing more of the request.
var errStopped = errors.New("HTTP/2: the rest of the request is not wanted")

// WriteHead begins the request. end: there is nothing but the head.
func (s *Stream) WriteHead(fields []hpack.HeaderField, end bool) error {
	c := s.c
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if err := s.begin(fields, end); err != nil {
		return err
	}
	if err := c.writeFields(s.id, fields, end); err != nil {
		// A server can make nothing of a part of the head.
		c.mu.Lock()
		s.refused = true
		c.mu.Unlock()
		return err
	}
	return nil
}

// begin gives the request a number. c.wmu is held: numbers go out in their order.
func (s *Stream) begin(fields []hpack.HeaderField, end bool) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		s.failLocked(c.err, true)
	case c.leaving:
		s.failLocked(ErrFull, true)
	case fieldsSize(fields) > c.peer.header:
		s.failLocked(ErrHeaderTooLarge, true)
	}
	if s.err != nil {
		return s.err
	}
	s.id, s.started = c.nextID, time.Now()
	c.nextID += 2
	c.began = s.id
	c.streams[s.id] = s
	s.send, s.receive, s.sent = c.peer.window, int64(c.cfg.Window), end
	for _, f := range fields {
		s.bodyless = s.bodyless || f.Name == ":method" && f.Value == "HEAD"
	}
	c.watchLife()
	return nil
}

// Write sends a piece of the body, which is the last one if end. It waits until the server
// takes it.
func (s *Stream) Write(p []byte, end bool) error {
	c := s.c
	for {
		n, err := s.claim(len(p))
		if err != nil {
			return err
		}
		last := end && n == len(p)
		c.wmu.Lock()
		_ = c.fr.WriteData(s.id, last, p[:n])
		err = c.flush()
		c.wmu.Unlock()
		if err != nil {
			return err
		}
		if p = p[n:]; len(p) == 0 {
			if last {
				s.endRequest()
			}
			return nil
		}
	}
}

// claim returns how much of n bytes may be sent now, and waits until it is something.
func (s *Stream) claim(n int) (int, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	by := time.Now().Add(c.cfg.WriteTimeout)
	for {
		switch may := min(int64(n), s.send, c.send, int64(c.peer.frame)); {
		case s.stopped:
			return 0, errStopped
		case s.err != nil:
			return 0, s.err
		case n == 0 || may > 0:
			s.send -= may
			c.send -= may
			return int(may), nil
		}
		if err := s.await(s.writable, by); err != nil {
			return 0, err
		}
	}
}

// WriteTrailer ends the request with these fields.
func (s *Stream) WriteTrailer(fields []hpack.HeaderField) error {
	if _, err := s.claim(0); err != nil {
		return err
	}
	s.c.wmu.Lock()
	err := s.c.writeFields(s.id, fields, true)
	s.c.wmu.Unlock()
	if err == nil {
		s.endRequest()
	}
	return err
}

// endRequest notes that the request is out.
func (s *Stream) endRequest() {
	c := s.c
	c.mu.Lock()
	s.sent = true
	idle := s.ended && c.releaseLocked(s)
	c.mu.Unlock()
	if idle {
		c.rest()
	}
}

// ReadHead returns the next head of the response, :status first. After one that is not
// informational there is none.
func (s *Stream) ReadHead() ([]hpack.HeaderField, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	for {
		switch {
		case len(s.heads) > 0:
			head := s.heads[0]
			s.heads = s.heads[1:]
			return head, nil
		case s.err != nil:
			return nil, s.err
		}
		if err := s.await(s.readable, s.readBy); err != nil {
			return nil, err
		}
	}
}

// Read reads the body of the response. At its end the error is io.EOF; what has come of a
// body that is broken off is read first.
func (s *Stream) Read(p []byte) (int, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	for asked := false; ; {
		switch {
		case s.at < len(s.body):
			return s.takeBody(p), nil
		case s.ended:
			return 0, io.EOF
		case s.err != nil:
			return 0, s.err
		case !asked && s.Awaiting != nil:
			asked = true
			s.c.mu.Unlock()
			err := s.Awaiting()
			s.c.mu.Lock()
			if err != nil {
				return 0, err
			}
			continue
		}
		if err := s.await(s.readable, s.readBy); err != nil {
			return 0, err
		}
	}
}

// takeBody moves what is here of the body into p. c.mu is held.
func (s *Stream) takeBody(p []byte) int {
	n := copy(p, s.body[s.at:])
	if s.at += n; s.at == len(s.body) {
		s.body, s.at = s.body[:0], 0
	}
	s.creditLocked(n)
	return n
}

// creditLocked lets the server send n bytes more, in steps that are worth a frame.
func (s *Stream) creditLocked(n int) {
	if s.read += n; s.read >= s.c.cfg.Window/2 && !s.ended && s.err == nil {
		s.receive += int64(s.read)
		s.c.queueNumber(http2.FrameWindowUpdate, s.id, uint32(s.read))
		s.read = 0
	}
}

// Ended reports whether the whole response is here.
func (s *Stream) Ended() bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.ended
}

// HasBody reports whether something is here of the body that nobody has read.
func (s *Stream) HasBody() bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.at < len(s.body)
}

// HasMore reports whether a Read would not wait.
func (s *Stream) HasMore() bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.at < len(s.body) || s.ended || s.err != nil
}

// Trailer returns the fields that came after the body, which has ended.
func (s *Stream) Trailer() []hpack.HeaderField {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.trailer
}

// Unprocessed reports whether the request has had no effect: the server has said so, or
// cannot have got it.
func (s *Stream) Unprocessed() bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.refused || s.id == 0
}

// SetReadDeadline sets when ReadHead and Read give up. Those under way take it, too. Zero:
// never.
func (s *Stream) SetReadDeadline(t time.Time) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.readBy = t
	signal(s.readable)
}

// Close gives the stream up, if it is not complete, and its place back. It does not wait.
func (s *Stream) Close() {
	c := s.c
	c.mu.Lock()
	if s.id != 0 && !s.released && s.err == nil {
		code := http2.ErrCodeCancel
		if s.ended {
			code = http2.ErrCodeNo // RFC 9113 §8.1
		}
		c.queueNumber(http2.FrameRSTStream, s.id, uint32(code))
		c.doubtLocked(s)
	}
	if s.err == nil && !(s.ended && s.sent) {
		s.err = errClosed
		signal(s.readable)
		signal(s.writable)
	}
	idle := c.releaseLocked(s)
	c.mu.Unlock()
	if idle {
		c.rest()
	}
}

// failLocked ends the stream early. refused: the server has not processed the request. c.mu
// is held.
func (s *Stream) failLocked(err error, refused bool) {
	if s.err == nil && !(s.ended && s.sent) {
		s.err, s.refused = err, refused
	}
	signal(s.readable)
	signal(s.writable)
}

// await waits for a change until the time by; zero: for ever. c.mu is held, but not while it
// waits.
func (s *Stream) await(change <-chan struct{}, by time.Time) error {
	s.c.mu.Unlock()
	defer s.c.mu.Lock()
	if by.IsZero() {
		<-change
		return nil
	}
	timer := time.NewTimer(time.Until(by))
	defer timer.Stop()
	select {
	case <-change:
		return nil
	case <-timer.C:
		return os.ErrDeadlineExceeded
	}
}

// signal tells of a change. It does not wait.
func signal(change chan<- struct{}) {
	select {
	case change <- struct{}{}:
	default:
	}
}
