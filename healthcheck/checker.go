package healthcheck

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
)

// Checker makes one probe of one target.
//
// Check returns nil if the target is healthy and otherwise says what is wrong. It returns
// soon after ctx is done. A [Monitor] never makes two calls at the same time. An error that
// matches [ErrCannotRun] means that nothing was learned about the target.
//
// A Checker may have a method Validate() error; [NewMonitor] calls it, so that a mistake in
// its fields is found before the first probe. If a Checker is a [fmt.Stringer], as those of
// this package are, the log says what is checked.
type Checker interface {
	Check(ctx context.Context) error
}

// CheckerFunc makes a [Checker] of a function.
type CheckerFunc func(ctx context.Context) error

// Check calls f.
func (f CheckerFunc) Check(ctx context.Context) error { return f(ctx) }

// Watcher is a [Checker] that learns of events, such as the end of a process or of a link,
// which may change its answer. A [Monitor] runs Watch beside its probes, and probes at once
// whenever Watch calls changed.
type Watcher interface {
	Checker
	// Watch calls changed, from any goroutine, until ctx is done, or returns
	// nil if there is nothing to notice. After an error it is called again 5 s
	// later; probes go on at their interval all the time.
	Watch(ctx context.Context, changed func()) error
}

// ErrCannotRun is found by errors.Is in the error of a probe that could not be made at
// all: the program is missing, or the process may not open the socket, or has no file
// descriptor or local port left. Such an error says nothing about the target.
var ErrCannotRun = errors.New("the check cannot run")

// fail gives err the package's form, "healthcheck: tcp 192.0.2.1:80: why", and
// marks it with ErrCannotRun if it is this machine's fault. nil stays nil.
func fail(c fmt.Stringer, err error) error {
	if err == nil {
		return nil
	}
	err = cause(err)
	if isLocal(err) && !errors.Is(err, ErrCannotRun) {
		return fmt.Errorf("healthcheck: %v: %w: %w", c, ErrCannotRun, err)
	}
	return fmt.Errorf("healthcheck: %v: %w", c, err)
}

// cause strips what the error of a connection says twice. All timeouts of a probe get
// the same error, whichever timer fired first.
func cause(err error) error {
	if op, ok := err.(*net.OpError); ok {
		err = op.Err
	}
	if t, ok := err.(interface{ Timeout() bool }); ok && t.Timeout() {
		return timeoutError{}
	}
	return err
}

// timeoutError is the failure of a probe whose time was up.
type timeoutError struct{}

func (timeoutError) Error() string { return "timed out" }

func (timeoutError) Timeout() bool { return true }

func (timeoutError) Is(target error) bool {
	return target == context.DeadlineExceeded || target == os.ErrDeadlineExceeded
}

// isLocal reports whether err is this machine's fault: a missing privilege or an
// exhausted resource.
func isLocal(err error) bool {
	errno, ok := errors.AsType[syscall.Errno](err)
	if !ok {
		return false
	}
	switch errno {
	case syscall.EACCES:
		// EACCES may also come from the network: an IPv6 router or firewall
		// refuses to pass the packet on (RFC 4443 §3.1).
		call, ok := errors.AsType[*os.SyscallError](err)
		return !ok || call.Syscall == "socket" || call.Syscall == "bind"
	case syscall.EPERM, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM,
		syscall.ENOBUFS, syscall.EADDRNOTAVAIL, syscall.EAFNOSUPPORT, syscall.EPROTONOSUPPORT:
		return true
	}
	return false
}
