package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
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

// namespace is a network namespace, which lives as long as its descriptor is open or
// something is in it.
type namespace struct {
	ns netns.NsHandle
	nl *netlink.Handle
}

// newNamespace makes a network namespace with these kernel variables and loopback. The
// error may be [ErrForbidden].
func newNamespace(sysctls []string) (n namespace, err error) {
	done := make(chan struct{})
	spawn(func() {
		defer close(done)
		n.ns, err = netns.New()
	})
	<-done
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
		err = fmt.Errorf("%w: new network namespace: %w", ErrForbidden, err)
	}
	if err != nil {
		return n, err
	}
	err = within(n.ns, func() error {
		for _, s := range sysctls {
			key, value, _ := strings.Cut(s, "=")
			// A kernel without IPv6 or bridge netfilter has nothing to set there.
			if err := writeSysctl(key, value); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		return loopbackUp()
	})
	if err == nil {
		n.nl, err = netlink.NewHandleAt(n.ns, unix.NETLINK_ROUTE)
	}
	if err != nil {
		n.ns.Close()
	}
	return n, err
}

func (n *namespace) close() error {
	n.nl.Close()
	return n.ns.Close()
}

// loopbackUp sets up the loopback interface of this thread's namespace, which is down in a
// new one.
func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("lo up: %w", err)
	}
	return nil
}

func writeSysctl(key, value string) error {
	return os.WriteFile(filepath.Join("/proc/sys", strings.ReplaceAll(key, ".", "/")), []byte(value), 0)
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
