package lb

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const relayBuffer = 32 << 10

var relayBuffers = sync.Pool{New: func() any { return new([relayBuffer]byte) }}

// session is one relayed connection that has goroutines. It copies, and leaves
// splicing to the engine: the net package's splice(2) reports no progress, which the
// idle timeout needs.
type session struct {
	idle  time.Duration
	last  atomic.Int64 // time of the last byte in either direction
	up    passage      // from the client to the backend
	down  passage      // and back
	early []byte       // what the backend gets before all else

	broken atomic.Bool // a direction has ended because its sink failed

	mu      sync.Mutex // guards what follows against cut
	client  io.ReadWriteCloser
	backend io.ReadWriteCloser // nil while connecting
	pick    Pick               // of the backend, or of the present attempt to connect
	giveUp  context.CancelFunc // ends that attempt. nil: there is none
	gone    bool               // the server was cut during the attempt
	dead    bool
	reason  string // why the session did not end in order
	moved   func() // cuts the connection, which an event loop has now. nil: it is here
}

// passage counts the bytes of one direction. Not all that was read could be written,
// if the reason for the end was the sink.
type passage struct{ read, written atomic.Int64 }

// dialing tells of an attempt to connect, so that cut can end it.
func (s *session) dialing(pick Pick, giveUp context.CancelFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pick, s.giveUp, s.gone = pick, giveUp, pick.isCut()
	if s.dead || s.gone {
		giveUp()
	}
}

// attach gives s its backend connection; false, and the connection is closed, if
// s or the server was cut in the meantime.
func (s *session) attach(backend io.ReadWriteCloser) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.giveUp = nil
	if s.dead || s.gone {
		reset(backend)
		return false
	}
	s.backend = backend
	return true
}

// interrupted reports whether s, or its attempt to connect, was cut.
func (s *session) interrupted() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.dead:
		return errCut
	case s.gone:
		return errDown
	}
	return nil
}

// cut ends s if it is connected to one of those servers. If it is only connecting to the
// server it goes on with another one, unless all are gone.
func (s *session) cut(gone servers) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !gone.end(s.pick):
	case s.moved != nil:
		s.moved()
	case gone != nil && s.giveUp != nil:
		s.gone = true
		s.giveUp()
	default:
		if s.giveUp != nil {
			s.giveUp()
		}
		s.failLocked("cut")
	}
}

// fail resets both ends, so that neither takes what it got for complete. The first reason
// counts: closing one end makes the other direction fail too.
func (s *session) fail(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failLocked(reason)
}

// failLocked is fail for a caller that holds s.mu.
func (s *session) failLocked(reason string) {
	s.dead = true
	if s.reason == "" {
		s.reason = reason
	}
	for _, c := range []io.Closer{s.client, s.backend} {
		if c != nil {
			reset(c)
		}
	}
}

// why is the reason for which s did not end in order; empty if it did.
func (s *session) why() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason
}

// close closes both ends in order. It may take a while to tell a TLS peer, so
// cut must not wait for it.
func (s *session) close() {
	s.mu.Lock()
	client, backend := s.client, s.backend
	s.mu.Unlock()
	client.Close()
	if backend != nil {
		backend.Close()
	}
}

// reset closes c with a reset. What is wrapped in it comes first: TLS would bid its
// peer a proper farewell.
func reset(c io.Closer) {
	inner := innermost(c)
	if l, ok := inner.(interface{ SetLinger(int) error }); ok {
		_ = l.SetLinger(0)
	}
	if inner, ok := inner.(io.Closer); ok {
		inner.Close()
	}
	c.Close()
}

// innermost is the connection that c, by way of TLS for instance, is a wrapper of.
func innermost(c any) any {
	for {
		w, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return c
		}
		c = w.NetConn()
	}
}

// relay copies both ways until both have ended, one has failed, or nothing moved
// for the idle timeout.
func (s *session) relay() {
	s.last.Store(time.Now().UnixNano())
	var watchdog *time.Timer
	armed := make(chan struct{})
	watchdog = time.AfterFunc(s.idle, func() {
		<-armed
		if left := s.idle - time.Since(time.Unix(0, s.last.Load())); left > 0 {
			watchdog.Reset(left)
			return
		}
		s.fail("idle")
	})
	close(armed)
	defer watchdog.Stop()
	var wg sync.WaitGroup
	wg.Go(func() { s.oneWay(s.client, s.backend, &s.down) })
	if s.greet() {
		s.oneWay(s.backend, s.client, &s.up)
	}
	wg.Wait()
	if s.broken.Load() {
		s.fail("reset")
	}
	s.close()
}

// greet sends what comes before all else; false if the backend does not take it.
func (s *session) greet() bool {
	if len(s.early) > 0 {
		n, err := s.backend.Write(s.early)
		s.up.written.Add(int64(n))
		if err != nil {
			s.broken.Store(true)
			return false
		}
	}
	return true
}

// oneWay copies until src ends, and then ends dst's input, no more: the other
// direction goes on (half-close). It also goes on if dst takes no more, for dst may
// have sent an answer before it closed.
func (s *session) oneWay(dst, src io.ReadWriteCloser, count *passage) {
	err := s.copy(dst, src, count)
	switch {
	case err == errSinkFailed:
		s.broken.Store(true)
	case err != nil:
		s.fail("reset")
	case s.broken.Load():
		// The other direction is over too, and not in order: src gets a reset.
	case closeWrite(dst) != nil:
		s.broken.Store(true)
	}
}

// closeWrite ends what c's peer reads.
func closeWrite(c any) error {
	if cw, ok := c.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return nil
}

// errSinkFailed: dst takes no more.
var errSinkFailed = errors.New("write failed")

// copy moves bytes from src to dst until src ends.
func (s *session) copy(dst, src io.ReadWriter, count *passage) error {
	return copyPieces(src, func(p []byte) error {
		count.read.Add(int64(len(p)))
		n, err := dst.Write(p)
		count.written.Add(int64(n))
		if err != nil {
			return errSinkFailed
		}
		s.last.Store(time.Now().UnixNano())
		return nil
	})
}

// copyPieces reads src to its end and gives each piece to write, whose error ends the
// copying.
func copyPieces(src io.Reader, write func([]byte) error) error {
	buf := relayBuffers.Get().(*[relayBuffer]byte)
	defer relayBuffers.Put(buf)
	for {
		n, err := src.Read(buf[:])
		if n > 0 {
			if err := write(buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// prefaced is a connection some of which was read before, and of what is written the
// beginning is known.
type prefaced struct {
	net.Conn
	early    []byte
	greeting []byte // goes out together with the first write
}

func (p *prefaced) Write(b []byte) (int, error) {
	if p.greeting == nil {
		return p.Conn.Write(b)
	}
	greeting := p.greeting
	p.greeting = nil
	n, err := p.Conn.Write(slices.Concat(greeting, b))
	return max(n-len(greeting), 0), err
}

func (p *prefaced) Read(b []byte) (int, error) {
	if len(p.early) > 0 {
		n := copy(b, p.early)
		if p.early = p.early[n:]; len(p.early) == 0 {
			p.early = nil
		}
		return n, nil
	}
	return p.Conn.Read(b)
}

func (p *prefaced) CloseWrite() error { return closeWrite(p.Conn) }

// NetConn returns the connection itself, as that of tls.Conn does.
func (p *prefaced) NetConn() net.Conn { return p.Conn }
