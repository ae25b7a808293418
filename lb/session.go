package lb

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Sizes of the relay. Splicing moves pages instead of bytes but needs a pipe and
// two system calls more: it pays for bulk, so each direction starts by copying.
const (
	relayBuffer  = 32 << 10
	spliceAfter  = 64 << 10
	spliceAtOnce = 1 << 20 // Between two notes of activity.
)

var relayBuffers = sync.Pool{New: func() any { return new([relayBuffer]byte) }}

// session is one relayed connection, or an engine with all of its own.
type session struct {
	loops interface{ cut(*server) }
	idle  time.Duration
	last  atomic.Int64 // Time of the last byte in either direction.
	up    atomic.Int64 // Bytes from the client,
	down  atomic.Int64 // and to it.

	mu      sync.Mutex // Guards what follows against cut.
	client  io.ReadWriteCloser
	backend io.ReadWriteCloser // nil while connecting.
	server  *server
	dead    bool
}

// attach gives s its backend connection; false if s was cut in the meantime.
func (s *session) attach(backend io.ReadWriteCloser, server *server) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		backend.Close()
		return false
	}
	s.backend, s.server = backend, server
	return true
}

// cut ends s if it is connected to that server, or in any case if it is nil.
func (s *session) cut(server *server) {
	if s.loops != nil {
		s.loops.cut(server)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if server == nil || server == s.server {
		s.dead = true
		s.abort()
	}
}

// abort closes both ends so that neither takes what it got for complete.
func (s *session) abort() {
	for _, c := range []io.Closer{s.client, s.backend} {
		if c == nil {
			continue
		}
		if l, ok := c.(interface{ SetLinger(int) error }); ok {
			_ = l.SetLinger(0)
		}
		c.Close()
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
		s.cut(nil)
	})
	close(armed)
	defer watchdog.Stop()
	var wg sync.WaitGroup
	wg.Go(func() { s.oneWay(s.client, s.backend, &s.down) })
	s.oneWay(s.backend, s.client, &s.up)
	wg.Wait()
	s.client.Close()
	s.backend.Close()
}

// oneWay copies until src ends, and then ends dst's input, no more: the other
// direction goes on (half-close).
func (s *session) oneWay(dst, src io.ReadWriteCloser, count *atomic.Int64) {
	err := s.copy(dst, src, count)
	if err == nil {
		if cw, ok := dst.(interface{ CloseWrite() error }); ok {
			err = cw.CloseWrite()
		}
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		s.mu.Lock()
		s.abort()
		s.mu.Unlock()
	}
}

// copy moves bytes from src to dst until src ends.
func (s *session) copy(dst, src io.ReadWriter, count *atomic.Int64) error {
	buf := relayBuffers.Get().(*[relayBuffer]byte)
	defer relayBuffers.Put(buf)
	splice := canSplice(dst, src)
	for total := 0; !splice || total < spliceAfter; {
		n, err := src.Read(buf[:])
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return err
			}
			s.moved(count, n)
			total += n
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
	for {
		n, err := dst.(*net.TCPConn).ReadFrom(&io.LimitedReader{R: src, N: spliceAtOnce})
		s.moved(count, int(n))
		if err != nil || n < spliceAtOnce {
			return err
		}
	}
}

func (s *session) moved(count *atomic.Int64, n int) {
	if n > 0 {
		count.Add(int64(n))
		s.last.Store(time.Now().UnixNano())
	}
}

// canSplice tells whether dst.ReadFrom(src) uses splice(2).
func canSplice(dst, src io.ReadWriter) bool {
	_, d := dst.(*net.TCPConn)
	_, s := src.(*net.TCPConn)
	return d && s
}
