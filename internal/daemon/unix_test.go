//go:build unix

package daemon

import (
	"net"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDuplicateNeverBlocks: while a socket is duplicated, nobody who accepts from it
// can be caught in a system call that waits.
func TestDuplicateNeverBlocks(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var watcher sync.WaitGroup
	defer watcher.Wait()
	defer close(done)
	watcher.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			err := raw.Control(func(fd uintptr) {
				if flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
					t.Errorf("flags %#x, %v: want O_NONBLOCK", flags, err)
				}
			})
			if err != nil || t.Failed() {
				return
			}
		}
	})
	for range 1000 {
		again, err := duplicate(ln)
		if err != nil {
			t.Fatal(err)
		}
		again.Close()
	}
}

// hasBacklog reports whether a connection waits to be accepted from a socket.
func hasBacklog(t *testing.T, socket any) bool {
	t.Helper()
	raw, err := socket.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := raw.Control(func(fd uintptr) {
		n, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	}); err != nil {
		t.Fatal(err)
	}
	return n > 0
}
