package lb

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tearTeller is a socket whose end is errTorn: TLS meets with it if it has not ended before.
type tearTeller struct{ net.Conn }

var errTorn = errors.New("torn")

func (c tearTeller) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err == io.EOF {
		err = errTorn
	}
	return n, err
}

// sockFor returns a socket with TLS of a loop that does not run, and the client's end.
func sockFor(t *testing.T) (*sock, *recordClient) {
	t.Helper()
	var client *recordClient
	side := sideFor(t, func(socket *net.TCPConn, cfg *tls.Config) error {
		client = newRecordClient(t, tearTeller{socket}, cfg)
		return nil
	})
	s := &sock{l: new(httpLoop), fd: side.fd, readable: true, writable: true}
	s.slot, s.tls = s.l.takeSlot(s), side.records(&s.l.tls)
	return s, client
}

// What a peer sends for TLS alone does not spoil a connection that is idle; content does, and so
// does an end.
func TestSockHasContent(t *testing.T) {
	for name, tt := range map[string]struct {
		send func(*recordClient)
		want bool
	}{
		"nothing":            {func(*recordClient) {}, false},
		"new keys":           {func(c *recordClient) { c.addKeys(1, true) }, false},
		"a record of no use": {func(c *recordClient) { c.add(typeData, nil, 20) }, false},
		"content":            {func(c *recordClient) { c.add(typeData, []byte("x"), 0) }, true},
		"keys, then content": {func(c *recordClient) { c.addKeys(0, false); c.add(typeData, []byte("x"), 0) }, true},
		"close_notify":       {func(c *recordClient) { c.add(typeAlert, []byte{1, 0}, 0) }, true},
		"a fatal alert":      {func(c *recordClient) { c.add(typeAlert, []byte{2, 40}, 0) }, true},
	} {
		s, c := sockFor(t)
		if _, errno := s.read(make([]byte, 1)); errno != unix.EAGAIN {
			t.Fatal(errno)
		}
		size := len(c.unsent)
		tt.send(c)
		size = len(c.unsent) - size
		if err := c.send(); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the record", func() bool {
			n, err := unix.IoctlGetInt(int(s.fd), unix.TIOCINQ)
			return err == nil && n >= size
		})
		s.readable = false // no event has come as yet
		if got := s.hasContent(); got != tt.want {
			t.Errorf("%s: content %v, want %v", name, got, tt.want)
		}
		s.leave()
	}
}

// A socket that is closed in order says so by TLS, once. None is told of an end after a failure,
// or behind the part of a record.
func TestSockEnds(t *testing.T) {
	for name, tt := range map[string]struct {
		end  func(*sock)
		want error
	}{
		"in order":            {func(s *sock) { s.close() }, io.EOF},
		"half, then whole":    {func(s *sock) { s.endWriting(); s.close() }, io.EOF},
		"abort":               {func(s *sock) { s.abort() }, unix.ECONNRESET},
		"after a fault":       {func(s *sock) { s.fault = unix.ECONNRESET; s.close() }, errTorn},
		"after a failure":     {func(s *sock) { s.broken = true; s.close() }, errTorn},
		"after one of TLS":    {func(s *sock) { s.tls.fault = true; s.close() }, errTorn},
		"with bytes pending":  {func(s *sock) { s.pending = []byte{1}; s.close() }, errTorn},
		"half, bytes pending": {func(s *sock) { s.pending = []byte{1}; s.endWriting(); s.leave() }, errTorn},
	} {
		s, c := sockFor(t)
		if errno := s.write([]byte("hello")); errno != 0 {
			t.Fatal(errno)
		}
		b := make([]byte, 5)
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
		tt.end(s)
		_ = c.SetReadDeadline(time.Now().Add(bound))
		_, err := c.Read(b)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: the peer reads %v, want %v", name, err, tt.want)
		}
		if n := len(s.l.tls.sealed); n != 0 || s.fd != -1 {
			t.Errorf("%s: %d bytes are left for whoever writes next", name, n)
		}
	}
}
