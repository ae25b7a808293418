package lab

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// spawn runs f in a goroutine on a thread of its own, which f may change as it
// likes: the thread ends with f unless f unlocks it.
func spawn(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != os.Getpid() {
			f()
			return
		}
		// The process's first thread is never ended by the runtime, and /proc/self
		// shows its namespaces. While it is held here, f gets another one.
		locked := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(locked)
			f()
		}()
		<-locked
		runtime.UnlockOSThread()
	}()
}

// newNamespace makes a network namespace that lives as long as its descriptor
// is open or something is in it.
func newNamespace() (ns netns.NsHandle, err error) {
	done := make(chan struct{})
	spawn(func() {
		defer close(done)
		ns, err = netns.New()
	})
	<-done
	switch {
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC):
		return ns, fmt.Errorf("lab: %w: new network namespace: %w", ErrForbidden, err)
	case err != nil:
		return ns, fmt.Errorf("lab: new network namespace: %w", err)
	}
	return ns, nil
}

// within runs f on a thread that is in the namespace ns and returns f's error.
// If f ends its goroutine, as t.FailNow does, so does within.
func within(ns netns.NsHandle, f func() error) (err error) {
	returned := false
	done := make(chan struct{})
	spawn(func() {
		defer close(done)
		err = visit(ns, f)
		returned = true
	})
	<-done
	if !returned {
		runtime.Goexit()
	}
	return err
}

// visit runs f on this locked thread while the thread is in the namespace ns.
func visit(ns netns.NsHandle, f func() error) error {
	home, err := netns.Get()
	if err != nil {
		return err
	}
	defer home.Close()
	if err := netns.Set(ns); err != nil {
		return err
	}
	defer func() {
		// A thread that cannot go home stays locked, and so ends here.
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return f()
}
