package lb

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/lb/internal/reactor"
)

func init() {
	flag.IntVar(&dueFrom, "lb.due", dueFrom, "from how many events in one turn of an event loop writes wait for each other")
}

// flusher is an owner that knows what flush has told.
type flusher struct {
	sock
	calls, sent int
	errno       unix.Errno
}

func (f *flusher) handleEvents() {
	f.calls++
	if f.full() {
		n, errno := f.flush()
		f.sent += n
		f.errno = errno
	}
}

// outboxLoop returns a loop that does not run, in a turn in which writes wait for each other.
func outboxLoop(t *testing.T) (l *httpLoop, log *bytes.Buffer) {
	t.Helper()
	log = new(bytes.Buffer)
	p := &HTTP{}
	p.settings.Store(&httpSettings{gate: &gateSettings{log: slog.New(slog.NewTextHandler(log, nil))}})
	l = &httpLoop{e: &httpEngine{plane: p}}
	var err error
	if l.Loop, err = reactor.NewLoop(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Loop.Close)
	l.box.open = true
	t.Cleanup(func() {
		if l.box.ring != nil {
			l.box.ring.Close()
		}
	})
	return l, log
}

// newFlusher returns an owner of a socket, and the peer's end.
func newFlusher(t *testing.T, l *httpLoop) (f *flusher, peer *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	peer = os.NewFile(uintptr(fds[1]), "")
	f = &flusher{sock: sock{l: l, fd: int32(fds[0]), writable: true}}
	f.owner, f.slot = f, l.takeSlot(&f.sock)
	t.Cleanup(func() { f.close(); peer.Close() })
	return f, peer
}

// got returns what has come at a socket that does not block.
func got(peer *os.File) string {
	conn, _ := peer.SyscallConn()
	buf, n := make([]byte, 1<<20), 0
	conn.Control(func(fd uintptr) { n, _ = unix.Read(int(fd), buf) })
	return string(buf[:max(n, 0)])
}

// brokenRing makes no write.
type brokenRing struct{ sends []reactor.Send }

func (r *brokenRing) Add(fd int32, b []byte) {
	r.sends = append(r.sends, reactor.Send{Fd: fd, Bytes: b, Errno: unix.EINTR})
}

func (r *brokenRing) Submit() ([]reactor.Send, error) { return r.sends, errors.New("broken") }

func (*brokenRing) Close() {}

// What sockets send in a turn is pending until its end. Then all of it goes out, in order, and
// each owner is told, whether there is a ring, or none, or one that breaks.
func TestOutbox(t *testing.T) {
	for name, prepare := range map[string]func(l *httpLoop){
		"with a ring, if the kernel permits it": func(*httpLoop) {},
		"without a ring":                        func(l *httpLoop) { l.box.asked = true },
		"with a ring that breaks":               func(l *httpLoop) { l.box.ring = &brokenRing{} },
	} {
		t.Run(name, func(t *testing.T) {
			l, log := outboxLoop(t)
			prepare(l)
			_, breaks := l.box.ring.(*brokenRing)
			l.box.asked = l.box.asked || breaks
			var owners []*flusher
			var peers []*os.File
			for range reactor.RingSize + 10 {
				f, peer := newFlusher(t, l)
				owners, peers = append(owners, f), append(peers, peer)
			}
			for i, f := range owners {
				if errno := f.write([]byte("one ")); errno != 0 || !f.full() {
					t.Fatalf("write: %v", errno)
				}
				if n, errno := f.flush(); n != 0 && i != reactor.RingSize-1 || errno != 0 {
					t.Errorf("flush within the turn: %d, %v", n, errno)
				}
				if text := got(peers[i]); text != "" && i != reactor.RingSize-1 {
					t.Errorf("peer %d has got %q within the turn", i, text)
				}
			}
			second := reactor.RingSize + 3
			twice := owners[second]
			twice.write([]byte("two")) // behind what waits
			l.closeOutbox()
			for i, f := range owners {
				want := "one "
				if f == twice {
					want += "two"
				}
				if text := got(peers[i]); text != want && i >= reactor.RingSize {
					t.Errorf("peer %d has got %q, want %q", i, text, want)
				}
				if f.full() || f.errno != 0 || f.pending != nil {
					t.Errorf("owner %d: %d bytes sent, %v, pending %q", i, f.sent, f.errno, f.pending)
				}
			}
			if twice.sent != len("one two") || twice.calls != 1 {
				t.Errorf("the owner of two was told of %d bytes in %d calls", twice.sent, twice.calls)
			}
			twice.write([]byte("now"))
			if text := got(peers[second]); text != "now" {
				t.Errorf("after the turn %q has come", text)
			}
			if warned := strings.Contains(log.String(), "without io_uring from now on"); warned != breaks || breaks && l.box.ring != nil {
				t.Errorf("the log says %q", log)
			}
		})
	}
}

// A socket that does not take all is as full as any other one, and one that fails says so.
func TestOutboxOutcomes(t *testing.T) {
	for _, asked := range []bool{false, true} { // with a ring and without
		l, _ := outboxLoop(t)
		l.box.asked = asked
		slow, peer := newFlusher(t, l)
		filled := 0
		for slow.writable {
			n, _ := slow.push(make([]byte, 1000))
			filled += n
		}
		slow.writable = true // as far as the loop knows
		broken, other := newFlusher(t, l)
		other.Close()
		slow.write([]byte("rest"))
		broken.write([]byte("x"))
		l.closeOutbox()
		if !slow.full() || slow.writable || string(slow.pending) != "rest" || slow.sent != 0 || slow.errno != 0 {
			t.Errorf("a full socket: writable %v, pending %q, %d sent, %v", slow.writable, slow.pending, slow.sent, slow.errno)
		}
		if broken.errno != unix.EPIPE && broken.errno != unix.ECONNRESET {
			t.Errorf("a broken socket: %v", broken.errno)
		}
		l.box.room = append(l.box.room, "nextturn"...) // the next turn's
		for came := 0; came < filled; {
			came += len(got(peer))
		}
		slow.writable = true
		if n, errno := slow.flush(); n != 4 || errno != 0 || got(peer) != "rest" {
			t.Errorf("the rest: %d, %v", n, errno)
		}
	}
}

// Whoever gives a socket up within the turn takes nothing away from its peer.
func TestOutboxSettles(t *testing.T) {
	for name, giveUp := range map[string]func(*flusher){
		"close":       func(f *flusher) { f.close() },
		"end":         func(f *flusher) { f.endWriting() },
		"to a tunnel": func(f *flusher) { m := f.takeOut(); reactor.Close(m.fd) },
	} {
		l, _ := outboxLoop(t)
		f, peer := newFlusher(t, l)
		f.write([]byte("last words"))
		giveUp(f)
		_ = peer.SetReadDeadline(time.Now().Add(10 * time.Second))
		b, err := io.ReadAll(peer)
		if string(b) != "last words" || err != nil {
			t.Errorf("%s: the peer has got %q, %v", name, b, err)
		}
		l.closeOutbox()
		if f.calls > 0 {
			t.Errorf("%s: its owner is told nevertheless", name)
		}
	}
}
