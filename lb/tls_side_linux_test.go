package lb

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// recordsFor returns the TLS of a server as an event loop has it, though no loop runs. shake
// is the client's handshake.
func recordsFor(t *testing.T, shake func(*net.TCPConn, *tls.Config) error) *records {
	t.Helper()
	side := sideFor(t, shake)
	t.Cleanup(side.close)
	return side.records(new(tlsBuffers))
}

// sideFor returns what recordsFor is made of. Its descriptor is the caller's to close.
func sideFor(t *testing.T, shake func(*net.TCPConn, *tls.Config) error) preparedSide {
	t.Helper()
	a := newAuthority(t)
	ln := listenTest(t)
	socket := dialTest(t, ln.Addr().String())
	shaken := make(chan error, 1)
	go func() { shaken <- shake(socket, &tls.Config{ServerName: "a.test", RootCAs: a.pool}) }()
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	conn := tlsServer(&prefaced{Conn: accepted}, &tls.Config{GetCertificate: a.certificates(a.issue("a", "a.test")).GetCertificate})
	if err := errors.Join(conn.Handshake(), <-shaken); err != nil {
		t.Fatal(err)
	}
	side, err := moveSide(conn)
	if err != nil {
		t.Fatal(err)
	}
	return side
}

// readMore reads what there is when it has come, as a loop would that is told of events.
func (r *records) readMore(t *testing.T, buf []byte) (int, unix.Errno) {
	t.Helper()
	for end := time.Now().Add(bound); time.Now().Before(end); time.Sleep(time.Millisecond) {
		r.noteEvents(unix.EPOLLIN | unix.EPOLLRDHUP)
		if n, errno := r.read(buf); errno != unix.EAGAIN {
			return n, errno
		}
	}
	t.Fatal("nothing comes, and no end")
	return 0, 0
}

// readAll reads to the end.
func (r *records) readAll(t *testing.T) (got string, errno unix.Errno) {
	t.Helper()
	buf := make([]byte, 1000)
	for {
		n, errno := r.readMore(t, buf)
		if got += string(buf[:n]); errno != 0 || n == 0 {
			return got, errno
		}
	}
}

// An end of the socket alone is told from one of TLS (RFC 8446 §6.1), and what stops within a
// record is none at all.
func TestRecordsTellTheirEnds(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, tt := range []struct {
			name string
			end  func(*net.TCPConn, *tls.Conn)
			fail bool
			torn bool
		}{
			{name: "close_notify", end: func(_ *net.TCPConn, c *tls.Conn) { c.CloseWrite() }},
			{name: "close_notify and FIN", end: func(_ *net.TCPConn, c *tls.Conn) { c.Close() }},
			{name: "close_notify, and more", end: func(s *net.TCPConn, c *tls.Conn) { c.CloseWrite(); s.Write([]byte("more")) }},
			{name: "FIN", end: func(s *net.TCPConn, _ *tls.Conn) { s.CloseWrite() }, torn: true},
			{name: "FIN in a record's head", end: func(s *net.TCPConn, _ *tls.Conn) { s.Write([]byte{23, 3}); s.CloseWrite() }, fail: true},
			{name: "FIN in a record", end: func(s *net.TCPConn, _ *tls.Conn) { s.Write([]byte{23, 3, 3, 0, 99, 1}); s.CloseWrite() }, fail: true},
			{name: "garbage", end: func(s *net.TCPConn, _ *tls.Conn) { io.WriteString(s, "GET / HTTP/1.1\r\n\r\n") }, fail: true},
			{name: "forged record", end: func(s *net.TCPConn, _ *tls.Conn) { s.Write([]byte{23, 3, 3, 0, 20}); s.Write(make([]byte, 20)) }, fail: true},
			{name: "plain alert", end: func(s *net.TCPConn, _ *tls.Conn) { s.Write([]byte{21, 3, 3, 0, 2, 1, 0}) }, fail: true},
		} {
			t.Run(tls.VersionName(version)+", "+tt.name, func(t *testing.T) {
				r := recordsFor(t, func(socket *net.TCPConn, cfg *tls.Config) error {
					cfg.MinVersion, cfg.MaxVersion = version, version
					client := tls.Client(socket, cfg)
					_, err := io.WriteString(client, "hello")
					tt.end(socket, client)
					return err
				})
				got, errno := r.readAll(t)
				if got != "hello" || errno != 0 != tt.fail || errno == 0 && r.isTorn() != tt.torn {
					t.Errorf("got %q, error %v, torn %v, want hello, an error: %v, torn: %v", got, errno, r.isTorn(), tt.fail, tt.torn)
				}
				if _, errno := r.read(make([]byte, 10)); errno != 0 != tt.fail {
					t.Errorf("a further read: %v", errno)
				}
			})
		}
	}
}

// A connection that goes back to goroutines loses nothing: neither what has been decrypted, nor
// the half of a record.
func TestMovedOutRecordsLoseNothing(t *testing.T) {
	for _, lending := range []bool{true, false} {
		if !lending {
			raw := rawInput
			rawInput = nil
			defer func() { rawInput = raw }()
		}
		var client *recordClient
		var rest []byte
		r := recordsFor(t, func(socket *net.TCPConn, cfg *tls.Config) (err error) {
			client = newRecordClient(t, socket, cfg)
			client.add(typeData, []byte("a whole record, "), 0)
			client.add(typeData, []byte("and a half"), 0)
			n := len(client.unsent) - 5
			client.unsent, rest = client.unsent[:n], client.unsent[n:]
			return client.send()
		})
		buf := make([]byte, 1)
		if n, errno := r.readMore(t, buf); n != 1 || errno != 0 || lending && r.wire.buffers.lent != 1 {
			t.Fatalf("%d bytes, %v; %d buffers are lent", n, errno, r.wire.buffers.lent)
		}
		fd, err := unix.Dup(int(r.wire.fd))
		if err != nil {
			t.Fatal(err)
		}
		socket, err := toConn(t.Context(), os.NewFile(uintptr(fd), ""), new(counters), time.Now().Add(bound))
		if err != nil {
			t.Fatal(err)
		}
		r.moveOut()
		c := r.standOn(socket)
		if b := r.wire.buffers; b.lent != 0 || lending && len(b.raw) != 1 {
			t.Errorf("%d buffers are lent, and %d free", b.lent, len(b.raw))
		}
		for _, b := range r.wire.buffers.raw { // another connection has it now
			clear(b[:cap(b)])
		}
		client.unsent = rest
		if err := client.send(); err != nil {
			t.Fatal(err)
		}
		client.socket.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(c); string(buf)+string(got) != "a whole record, and a half" || err != nil {
			t.Errorf("lending %v: a goroutine reads %q, %v", lending, got, err)
		}
		if _, err := io.WriteString(c, "answer"); err != nil {
			t.Fatal(err)
		}
		c.Close()
		if got, err := io.ReadAll(client.Conn); string(got) != "answer" || err != nil {
			t.Errorf("lending %v: the client reads %q, %v", lending, got, err)
		}
	}
}
