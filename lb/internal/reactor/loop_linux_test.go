package reactor

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Whatever Post has accepted is run, by Wait or by Close; after Close it accepts nothing.
func TestPost(t *testing.T) {
	l, err := NewLoop()
	if err != nil {
		t.Fatal(err)
	}
	var accepted, run atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for l.Post(func() { run.Add(1) }) {
			accepted.Add(1)
		}
	}()
	for run.Load() < 1000 {
		if events := l.Wait(Never); len(events) != 0 {
			t.Fatalf("events %v, though nothing is watched", events)
		}
	}
	again := false
	l.Post(func() { l.Post(func() { again = true }) })
	l.Close()
	<-done
	if run.Load() != accepted.Load() || !again {
		t.Errorf("%d of %d posted functions ran, the last one's too: %v", run.Load(), accepted.Load(), again)
	}
	l.Close() // does nothing
}

// Wait returns at the deadline, and what has happened with place and mark.
func TestWait(t *testing.T) {
	l, err := NewLoop()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	deadline := Now() + int64(20*time.Millisecond)
	for l.Now() < deadline {
		l.Wait(deadline)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, b := int32(fds[0]), int32(fds[1])
	defer Close(b)
	if errno := l.Watch(a, Edges, 7, 9); errno != 0 {
		t.Fatal(errno)
	}
	l.Wait(Never) // it can be written to
	if _, errno := Write(b, []byte("x")); errno != 0 {
		t.Fatal(errno)
	}
	if ev := l.Wait(Never); len(ev) != 1 || ev[0].Fd != 7 || ev[0].Pad != 9 || ev[0].Events&unix.EPOLLIN == 0 {
		t.Errorf("events %+v, want one to read from 7, 9", ev)
	}
	Close(a)
	if ev := l.Wait(Now()); len(ev) != 0 {
		t.Errorf("events %+v of a closed descriptor", ev)
	}
}

// Addresses survive the way to the kernel and back.
func TestAddresses(t *testing.T) {
	l, err := NewLoop()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, text := range []string{"127.0.0.1:53", "[::1]:65535", "[::1%1]:1"} {
		a := netip.MustParseAddrPort(text)
		putAddrPort(unsafe.Pointer(&l.addr), !a.Addr().Is4(), a)
		if got := addrPort(&l.addr); got != a {
			t.Errorf("%v became %v", a, got)
		}
	}
	to := netip.MustParseAddrPort("127.0.0.1:9")
	fd, errno := Socket(unix.SOCK_DGRAM, to)
	if errno != 0 {
		t.Fatal(errno)
	}
	defer Close(fd)
	if errno := l.Connect(fd, to); errno != 0 {
		t.Fatal(errno)
	}
	if got := l.LocalAddr(fd); got.Addr() != to.Addr() || got.Port() == 0 {
		t.Errorf("local address %v", got)
	}
}

// Nothing here allocates: the loops do it for every packet.
func TestNothingAllocates(t *testing.T) {
	l, err := NewLoop()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var ts Timers[int]
	timers := make([]Timer[int], 2)
	ts.Set(&timers[0], 0, 1)
	ts.Set(&timers[1], 0, 2)
	to := netip.MustParseAddrPort("127.0.0.1:9")
	fd, errno := Socket(unix.SOCK_DGRAM, to)
	if errno != 0 {
		t.Fatal(errno)
	}
	defer Close(fd)
	buf := make([]byte, 10)
	if n := testing.AllocsPerRun(100, func() {
		l.Wait(Now())
		ts.Set(&timers[0], 5, 2)
		ts.Set(&timers[0], 6, 1)
		l.Connect(fd, to)
		l.LocalAddr(fd)
		Write(fd, buf)
		Read(fd, buf)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
