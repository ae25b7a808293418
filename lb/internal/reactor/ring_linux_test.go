package reactor

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"testing"
	"weak"

	"golang.org/x/sys/unix"
)

// newTestRing returns a ring, or skips the test where the kernel does not permit one.
func newTestRing(t testing.TB) *Ring {
	t.Helper()
	r, err := NewRing()
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, fs.ErrPermission) {
		t.Skip("no io_uring here: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// pair returns two connected sockets that do not block.
func pair(t testing.TB) (a, b int32) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { Close(int32(fds[0])); Close(int32(fds[1])) })
	return int32(fds[0]), int32(fds[1])
}

// Each write has its own outcome, and one that fails does not hold up the others. None waits.
func TestRing(t *testing.T) {
	r := newTestRing(t)
	good, peer := pair(t)
	full, _ := pair(t)
	for {
		if _, errno := Write(full, make([]byte, 4096)); errno == unix.EAGAIN {
			break
		}
	}
	gone, other := pair(t)
	unix.Shutdown(int(other), unix.SHUT_RD)
	more := make([]byte, 16<<20) // than a socket holds
	partial, _ := pair(t)

	for range 3 { // the ring goes round
		for _, w := range []struct {
			fd int32
			b  []byte
		}{{good, []byte("one ")}, {full, []byte("x")}, {gone, []byte("x")}, {-1, []byte("x")}, {partial, more}, {good, []byte("two ")}} {
			r.Add(w.fd, w.b)
		}
		sends, err := r.Submit()
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for i, s := range sends {
			if i == 4 {
				if s.N == len(more) || s.N == 0 && s.Errno != unix.EAGAIN {
					t.Errorf("a write of more than the socket holds: %d bytes, %v", s.N, s.Errno)
				}
				continue
			}
			got += fmt.Sprintf("%d %d; ", s.N, s.Errno)
		}
		if want := fmt.Sprintf("4 0; 0 %d; 0 %d; 0 %d; 4 0; ", unix.EAGAIN, unix.EPIPE, unix.EBADF); got != want {
			t.Errorf("got %s\nwant %s", got, want)
		}
	}
	buf := make([]byte, 100)
	if n, _ := Read(peer, buf); string(buf[:n]) != "one two one two one two " {
		t.Errorf("the peer has got %q", buf[:n])
	}
}

// A ring without writes holds nothing of earlier ones, and no program that is started gets it.
func TestRingHoldsNothing(t *testing.T) {
	r := newTestRing(t)
	fd, _ := pair(t)
	b := make([]byte, 64<<10)
	held := weak.Make(&b[0])
	r.Add(fd, b)
	if sends, err := r.Submit(); err != nil || sends[0].N == 0 {
		t.Fatalf("%+v, %v", sends, err)
	}
	b = nil
	runtime.GC()
	if held.Value() != nil {
		t.Error("the memory of a write is held")
	}
	if flags, err := unix.FcntlInt(uintptr(r.fd), unix.F_GETFD, 0); flags&unix.FD_CLOEXEC == 0 || err != nil {
		t.Errorf("flags of the descriptor: %#x, %v", flags, err)
	}
	runtime.KeepAlive(r)
}

// As many writes as the ring has room for go out by one call, in their order.
func TestRingIsFull(t *testing.T) {
	r := newTestRing(t)
	fd, peer := pair(t)
	for round := range 5 {
		var want []byte
		for i := range RingSize {
			b := []byte{byte(round), byte(i)}
			r.Add(fd, b)
			want = append(want, b...)
		}
		sends, err := r.Submit()
		if err != nil || len(sends) != RingSize {
			t.Fatalf("%d writes, %v", len(sends), err)
		}
		for i, s := range sends {
			if s.N != 2 || s.Errno != 0 {
				t.Fatalf("write %d of round %d: %d bytes, %v", i, round, s.N, s.Errno)
			}
		}
		got := make([]byte, 2*len(want))
		n, _ := Read(peer, got)
		if !bytes.Equal(got[:n], want) {
			t.Errorf("the peer has got %v\nwant %v", got[:n], want)
		}
	}
}

// A ring that the kernel takes away says which writes were not made.
func TestRingBreaks(t *testing.T) {
	r := newTestRing(t)
	fd, peer := pair(t)
	was := r.fd
	r.fd = int(peer) // no ring
	r.Add(fd, []byte("x"))
	sends, err := r.Submit()
	r.fd = was
	if err == nil || len(sends) != 1 || sends[0].Errno != unix.EINTR {
		t.Errorf("%+v, %v, want EINTR and an error", sends, err)
	}
	if n, errno := Read(peer, make([]byte, 1)); errno != unix.EAGAIN {
		t.Errorf("the peer has got %d bytes, %v", n, errno)
	}
}
