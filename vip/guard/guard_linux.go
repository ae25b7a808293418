package guard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/process"
	"github.com/havip/havip/internal/quietlog"
)

// marker in the environment tells a process that it is a guard. Its value is the thread of
// the parent whose end the kernel signals, as a path in /proc.
const marker = "HAVIP_GUARD"

const (
	// processName is the name of a guard in ps(1).
	processName = "havip-guard"
	// entryKey in the environment says whether main calls MainLog. Then the process becomes
	// a guard there, and otherwise before main.
	entryKey = "HAVIP_GUARD_MAIN"
	// formKey in the environment has Config.Form.
	formKey = "HAVIP_GUARD_FORM"
)

// Guard is the parent's side of a guard. Its methods may be called from any
// goroutine.
type Guard struct {
	form  string
	log   *slog.Logger
	files []*os.File // for the child: the sockets, then the files of the store
	store *store

	closing context.Context // ends with Close
	close   context.CancelFunc
	ended   chan struct{} // closed when keep has returned
}

// File descriptors of the child: its standard files, of which the input tells that the parent
// has died, the sockets, the two files of the store.
const (
	fdReady   = 1
	fdSockets = 3
	fdStore   = fdSockets + int(sockets)
)

const (
	// readyTimeout is far longer than a program takes to reach MainLog.
	readyTimeout = 10 * time.Second
	// endTimeout is how long a child may take to end on demand before it is killed.
	endTimeout = time.Second
	// restartPause is the time between attempts to start a guard again.
	restartPause = 100 * time.Millisecond
	// deathSignal is a real-time signal that nobody sends by chance.
	deathSignal = unix.Signal(61)
	// quit is written to the pipe to end the guard without carrying out a will.
	quit = 'q'
	// readyWord tells the parent that the guard is ready. No other program writes
	// this by chance.
	readyWord = "guard is ready\n"
)

// Start starts the guard and returns when it is ready. The guard is started again if it dies,
// until Close. Its sockets are opened in the network namespace of the calling thread. Start
// fails in a program whose main does other work before it calls [MainLog].
func Start(cfg Config) (*Guard, error) {
	if isGuard() {
		return nil, errors.New("guard: this is the guard itself: main must begin with a call of guard.MainLog")
	}
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	g := &Guard{form: cfg.Form, log: quietlog.New(cfg.Logger), ended: make(chan struct{})}
	g.closing, g.close = context.WithCancel(context.Background())
	if err := g.openFiles(); err != nil {
		g.closeFiles()
		return nil, err
	}
	started := make(chan error)
	go g.keep(started)
	if err := <-started; err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// openFiles opens the sockets and the store. Each child that is started anew gets the same
// files, so that the network namespace of the thread that starts it does not matter.
func (g *Guard) openFiles() error {
	for s := range sockets {
		f, err := s.open()
		if err != nil {
			return fmt.Errorf("guard: open %v: %w", s, err)
		}
		g.files = append(g.files, f)
	}
	for range 2 {
		fd, err := unix.MemfdCreate("wills", unix.MFD_CLOEXEC)
		if err != nil {
			return fmt.Errorf("guard: memfd_create: %w", err)
		}
		g.files = append(g.files, os.NewFile(uintptr(fd), "wills"))
	}
	g.store = newStore(g.files[sockets], g.files[sockets+1])
	return nil
}

// socketKinds are the kinds of sockets, all of them SOCK_RAW.
var socketKinds = [sockets]struct {
	name             string
	family, protocol int
	absent           error // of socket(2) where the kernel has no such socket; nil: never
	level, loop      int   // the option that sends multicast to the own host as well
}{
	socketNetlink: {name: "netlink socket", family: unix.AF_NETLINK, protocol: unix.NETLINK_ROUTE},
	// IPPROTO_RAW implies IP_HDRINCL (raw(7)).
	socketIPv4:      {"raw IPv4 socket", unix.AF_INET, unix.IPPROTO_RAW, nil, unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP},
	socketIPv6:      {"raw IPv6 socket", unix.AF_INET6, unix.IPPROTO_RAW, unix.EAFNOSUPPORT, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP},
	socketNetfilter: {name: "netfilter socket", family: unix.AF_NETLINK, protocol: unix.NETLINK_NETFILTER, absent: unix.EPROTONOSUPPORT},
	socketSettings:  {name: "netlink socket for settings", family: unix.AF_NETLINK, protocol: unix.NETLINK_ROUTE},
}

// open opens a socket of the given kind. Nil: this kernel has none, and no will needs it.
func (s socket) open() (*os.File, error) {
	kind := socketKinds[s]
	fd, err := unix.Socket(kind.family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, kind.protocol)
	switch {
	case kind.absent != nil && errors.Is(err, kind.absent):
		return nil, nil
	case errors.Is(err, unix.EPERM):
		return nil, fmt.Errorf("needs CAP_NET_RAW: %w", err)
	case err != nil:
		return nil, err
	case kind.loop != 0:
		err = unix.SetsockoptInt(fd, kind.level, kind.loop, 0)
	}
	return os.NewFile(uintptr(fd), kind.name), err
}

// String names the socket in errors.
func (s socket) String() string { return socketKinds[s].name }

// keep starts the child, and another one whenever it dies, until Close. started gets the
// error of the first start.
//
// keep has a thread of its own that ends only with the process, or after Close: the kernel
// then sends deathSignal to the child, some milliseconds before it closes the files of the
// process.
func (g *Guard) keep(started chan<- error) {
	defer close(g.ended)
	defer g.closeFiles()
	runtime.LockOSThread() // for good: the thread ends with this goroutine
	tid := unix.Gettid()
	// Best effort: with this priority the thread is the first to end.
	_ = unix.Setpriority(unix.PRIO_PROCESS, tid, -20)
	child, err := g.spawn(tid)
	started <- err
	for err == nil {
		died := child.Wait()
		if g.closing.Err() != nil {
			return
		}
		g.log.Error("the guard died, starting another", "err", died)
		for child, err = g.spawn(tid); err != nil; child, err = g.spawn(tid) {
			select {
			case <-g.closing.Done():
				return
			case <-time.After(restartPause):
				g.log.Error("no guard: addresses would outlive this process", "err", err)
			}
		}
	}
}

// spawn starts a child and waits until it is ready.
func (g *Guard) spawn(tid int) (*exec.Cmd, error) {
	ready, readyWrite, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	defer ready.Close()
	child, err := process.Start(func() (*exec.Cmd, error) {
		cmd, err := g.command(tid, readyWrite)
		if err != nil {
			return nil, err
		}
		return cmd, process.Fork(cmd)
	})
	readyWrite.Close()
	if err != nil {
		return nil, fmt.Errorf("guard: start: %w", err)
	}
	_ = ready.SetReadDeadline(time.Now().Add(readyTimeout))
	word := make([]byte, len(readyWord))
	if _, err := io.ReadFull(ready, word); err != nil || string(word) != readyWord {
		_ = child.Cancel()
		time.AfterFunc(endTimeout, func() { _ = child.Process.Kill() })
		_ = child.Wait()
		return nil, errors.Join(errors.New("guard: the child is not ready: does main begin with guard.MainLog?"), err)
	}
	return child, nil
}

// command returns the command of the child. tid is the thread whose end the kernel signals.
// Close ends the child without carrying out any will.
func (g *Guard) command(tid int, ready *os.File) (*exec.Cmd, error) {
	// The running program, even if its file was replaced since.
	cmd := exec.CommandContext(g.closing, "/proc/self/exe")
	cmd.Args = []string{processName}
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d/task/%d", marker, os.Getpid(), tid), formKey+"="+g.form, "GOMAXPROCS=1")
	cmd.Env = append(cmd.Env, entryKey+"="+strconv.FormatBool(logged.Load()))
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = ready, os.Stderr
	cmd.ExtraFiles = g.files
	cmd.SysProcAttr = &unix.SysProcAttr{
		Setsid:    true, // signals to our process group and terminal do not reach the child
		Pdeathsig: deathSignal,
	}
	life, err := cmd.StdinPipe() // its end tells the child that this process has died
	cmd.Cancel = func() error {
		_, err := life.Write([]byte{quit})
		return err
	}
	cmd.WaitDelay = endTimeout
	return cmd, err
}

// Set replaces the will under a name, such as the name of a virtual router. The will takes
// effect at once; an empty one withdraws the former will. An invalid will is an error: see
// [Will.Validate]. After an error the former will stays in force, or the new one is in force
// already: that is uncertain until a Set, of any name, succeeds. If the guard has just died,
// the one that takes its place finds the will.
func (g *Guard) Set(name string, w Will) error {
	if g.closing.Err() != nil {
		return fmt.Errorf("guard: %s: %w", name, ErrClosed)
	}
	if err := w.Validate(); err != nil {
		return fmt.Errorf("guard: %s: %w", name, err)
	}
	return g.store.set(name, encode(w.compile()))
}

// Close ends the guard without carrying out any will, and waits for its end: take back what
// the wills are about before. A second Close does nothing.
func (g *Guard) Close() error {
	g.close()
	<-g.ended
	return nil
}

func (g *Guard) closeFiles() {
	for _, f := range g.files {
		f.Close()
	}
}
