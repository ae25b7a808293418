package vrrp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// reserve binds an abstract Unix socket, whose name is known in its network
// namespace only, and goes with its process whatever becomes of that.
func (n *kernelNetwork) reserve(vrid uint8) (lock io.Closer, err error) {
	name := fmt.Sprintf("@havip/vrrp/%s/%v/%d", n.name, n.family, vrid)
	err = inNamespace(n.ns, func() error {
		l, err := net.Listen("unix", name)
		if errors.Is(err, unix.EADDRINUSE) {
			return holder(name)
		}
		if err == nil {
			lock = newSocketLock(l)
		}
		return err
	})
	return lock, err
}

// socketLock is a socket that many may connect to: whoever asks who has the lock.
type socketLock struct {
	net.Listener
	wg sync.WaitGroup
}

func newSocketLock(l net.Listener) *socketLock {
	s := &socketLock{Listener: l}
	s.wg.Go(func() {
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil { // no descriptor is left
				time.Sleep(reserveEvery)
				continue
			}
			c.Close()
		}
	})
	return s
}

func (s *socketLock) Close() error {
	err := s.Listener.Close()
	s.wg.Wait()
	return err
}

// holder finds out who listens on an abstract socket. It returns a takenError, or
// another one if it is nobody who could run a router in the place of this
// process: any user may bind any name.
func holder(name string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: name}); err != nil {
		// It is about to end, or has not begun to listen; or it never will.
		return &takenError{by: fmt.Sprintf("nobody who answers on the socket %s (%v)", name, err), silent: true}
	}
	// The kernel's word: the credentials of whoever called listen.
	who, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return os.NewSyscallError("SO_PEERCRED", err)
	}
	if who.Uid != 0 && int(who.Uid) != os.Geteuid() {
		return fmt.Errorf("the socket %s is taken by %s of user %d", name, process(who.Pid), who.Uid)
	}
	return &takenError{by: process(who.Pid)}
}

// process describes a process.
func process(pid int32) string {
	switch {
	case pid == int32(os.Getpid()):
		return "this process"
	case pid == 0:
		return "a process in another PID namespace"
	}
	const most = 120
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	line = bytes.TrimRight(line, "\x00")
	command := strings.ToValidUTF8(strings.Map(printable, string(line[:min(len(line), most)])), "")
	if command == "" {
		return fmt.Sprintf("process %d", pid)
	}
	return fmt.Sprintf("process %d (%s)", pid, command)
}

// printable makes what ends an argument, or would garble a line, a space.
func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return ' '
	}
	return r
}
