package healthcheck

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// silent takes what it is sent and says nothing until the peer goes away.
func silent(c net.Conn) { drain(c) }

func drain(c net.Conn) {
	buf := make([]byte, 4096)
	for {
		if _, err := c.Read(buf); err != nil {
			return
		}
	}
}

// flood sends without end, whatever it is asked.
func flood(c net.Conn) {
	go drain(c)
	junk := bytes.Repeat([]byte("junk "), 4000)
	for {
		if _, err := c.Write(junk); err != nil {
			return
		}
	}
}

// pause reads for a while, or until the peer goes away.
func pause(c net.Conn, d time.Duration) {
	_ = c.SetReadDeadline(time.Now().Add(d))
	drain(c)
	_ = c.SetReadDeadline(time.Time{})
}

// says sends text after a delay and then stays silent.
func says(delay time.Duration, text string) func(net.Conn) {
	return func(c net.Conn) {
		if delay > 0 {
			pause(c, delay)
		}
		_, _ = c.Write([]byte(text))
		drain(c)
	}
}

// saysAndCloses sends text and closes in order.
func saysAndCloses(text string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = c.Write([]byte(text))
		_ = c.(*net.TCPConn).CloseWrite()
		drain(c)
	}
}

// halfOpen returns the address of a server whose program hangs: the kernel
// accepts connections, nobody ever takes them up.
func halfOpen(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// blackHole returns an address that does not even answer a SYN: a listener
// whose backlog is full.
func blackHole(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: sa.(*syscall.SockaddrInet4).Port}).String()
	for range 8 {
		c, err := net.DialTimeout("tcp", address, 200*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("the backlog does not fill")
	return ""
}

// checkCase is one counterpart of a checker. want is part of the error; empty means
// healthy. With patience the checker has to wait until its time is up, and gets only a
// little.
type checkCase struct {
	name     string
	checker  Checker
	patience time.Duration
	want     string
	is       error
	// limit is the time that the checker gets, by default long enough for the
	// slowest machine: only a failure waits for it.
	limit time.Duration
}

func runCheckCases(t *testing.T, tests []checkCase) {
	t.Helper()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if v, ok := test.checker.(interface{ Validate() error }); ok {
				if err := v.Validate(); err != nil {
					t.Fatalf("Validate: %v", err)
				}
			}
			limit := cmp.Or(test.limit, test.patience, 30*time.Second)
			began := time.Now() // before the limit: no check may be faster than its patience
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			err := test.checker.Check(ctx)
			took := time.Since(began)
			switch {
			case test.want == "" && test.is == nil:
				if err != nil {
					t.Errorf("healthy target failed: %v", err)
				}
			case err == nil:
				t.Errorf("no error, want %q", test.want)
			case !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "healthcheck: "):
				t.Errorf("error is %q, want %q in it", err, test.want)
			case test.is != nil && !errors.Is(err, test.is):
				t.Errorf("error %q is no %q", err, test.is)
			}
			if is := errors.Is(err, ErrCannotRun); is != (test.is == ErrCannotRun) {
				t.Errorf("error %v: cannot run is %v", err, is)
			}
			if test.patience > 0 && took < test.patience {
				t.Errorf("failed after %v, before its %v were up: %v", took, test.patience, err)
			}
			if took > limit+10*time.Second {
				t.Errorf("took %v with a timeout of %v", took, limit)
			}
		})
	}
}

// isTimeout is the error of a check that waited in vain.
var isTimeout = error(timeoutError{})

// wantCancellable: a check that would wait for ever ends when it is cancelled.
func wantCancellable(t *testing.T, c Checker) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	done := make(chan error, 1)
	go func() { done <- c.Check(ctx) }()
	select {
	case err := <-done:
		if err == nil {
			t.Error("a cancelled check succeeded")
		}
	case <-time.After(30 * time.Second):
		t.Error("a cancelled check goes on")
	}
}
