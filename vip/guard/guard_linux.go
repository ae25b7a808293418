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
	"sync"
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
	// entryKey in the environment says that main calls MainLog: the process becomes a
	// guard there. Otherwise it does before main.
	entryKey = "HAVIP_GUARD_MAIN"
	// formKey in the environment has Config.Form.
	formKey = "HAVIP_GUARD_FORM"
)

// Guard is the parent's side of a guard. Its methods may be called from any
// goroutine.
type Guard struct {
	form  string
	log   *slog.Logger
	files []*os.File // for the child: the sockets, then the store
	store *store

	closed chan struct{} // by Close

	// spawning is locked while a child is started, and while the files that a child
	// inherits are closed. It is taken before mu, which guards the fields below.
	spawning sync.Mutex

	mu      sync.Mutex
	running bool // Run was called
	child   *child
}

// child is a running guard.
type child struct {
	cmd   *exec.Cmd
	life  *os.File      // its end of this pipe tells the child that the parent died
	ended chan struct{} // closed when the child has ended
	err   error         // of Wait, valid after ended
}

// File descriptors of the child: its standard files, the sockets, the store.
const (
	fdLife    = 0 // standard input
	fdReady   = 1
	fdSockets = 3
	fdStore   = fdSockets + int(sockets)
)

const (
	// readyTimeout is far longer than a program takes to reach MainLog.
	readyTimeout = 10 * time.Second
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

// Start starts the guard and returns when it is ready. The guard's sockets are opened in the
// network namespace of the calling thread. Start fails in a program whose main does other
// work before it calls [MainLog].
func Start(cfg Config) (*Guard, error) {
	if isGuard() {
		return nil, errors.New("guard: this is the guard itself: main must begin with a call of guard.MainLog")
	}
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	g := &Guard{form: cfg.Form, log: quietlog.New(cfg.Logger), closed: make(chan struct{})}
	if err := g.openFiles(); err != nil {
		g.closeFiles()
		return nil, err
	}
	if err := g.spawn(); err != nil {
		g.closeFiles()
		return nil, err
	}
	return g, nil
}

// openFiles opens the sockets and the store. Each child that is started anew gets the same
// files, so that the network namespace of the thread that starts it does not matter.
func (g *Guard) openFiles() error {
	for s := range sockets {
		fd, err := s.open()
		if err != nil {
			return fmt.Errorf("guard: open %v: %w", s, err)
		}
		g.files = append(g.files, os.NewFile(uintptr(fd), s.String()))
	}
	fd, err := unix.MemfdCreate("wills", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("guard: memfd_create: %w", err)
	}
	shared := os.NewFile(uintptr(fd), "wills")
	g.files = append(g.files, shared)
	g.store = newStore(shared)
	return nil
}

// open opens a socket of the given kind.
func (s socket) open() (fd int, err error) {
	raw := func(family, protocol int) (int, error) {
		return unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	}
	switch s {
	case socketNetlink, socketSettings:
		return raw(unix.AF_NETLINK, unix.NETLINK_ROUTE)
	case socketNetfilter:
		fd, err = raw(unix.AF_NETLINK, unix.NETLINK_NETFILTER)
		if errors.Is(err, unix.EPROTONOSUPPORT) {
			return socketNetlink.open() // a kernel without nftables: never used
		}
	case socketIPv4:
		// IPPROTO_RAW implies IP_HDRINCL (raw(7)).
		if fd, err = raw(unix.AF_INET, unix.IPPROTO_RAW); err == nil {
			err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, 0)
		}
	case socketIPv6:
		fd, err = raw(unix.AF_INET6, unix.IPPROTO_RAW)
		if errors.Is(err, unix.EAFNOSUPPORT) {
			return socketIPv4.open() // a kernel without IPv6: never used
		}
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP, 0)
		}
	}
	if errors.Is(err, unix.EPERM) {
		err = fmt.Errorf("needs CAP_NET_RAW: %w", err)
	}
	return fd, err
}

// String names the socket in errors.
func (s socket) String() string {
	return [...]string{"netlink socket", "raw IPv4 socket", "raw IPv6 socket", "netfilter socket", "netlink socket for settings", "no socket"}[min(s, sockets)]
}

// spawn starts a child and waits until it is ready. It does nothing after Close.
func (g *Guard) spawn() error {
	g.spawning.Lock()
	defer g.spawning.Unlock()
	if g.isClosed() {
		return nil
	}
	lifeRead, life, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	defer lifeRead.Close()
	ready, readyWrite, err := os.Pipe()
	if err != nil {
		life.Close()
		return fmt.Errorf("guard: %w", err)
	}
	defer ready.Close()
	c := &child{life: life, ended: make(chan struct{})}
	started := make(chan error)
	go c.run(lifeRead, readyWrite, g.files, g.form, started)
	err = <-started
	readyWrite.Close()
	if err != nil {
		life.Close()
		return fmt.Errorf("guard: start: %w", err)
	}
	_ = ready.SetReadDeadline(time.Now().Add(readyTimeout))
	word := make([]byte, len(readyWord))
	if _, err := io.ReadFull(ready, word); err != nil || string(word) != readyWord {
		c.end()
		return errors.Join(errors.New("guard: the child is not ready: does main begin with guard.MainLog?"), err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.isClosed() {
		c.end()
		return nil
	}
	g.child = c
	return nil
}

// run starts the child and waits for its end, on a thread of its own. That thread ends only
// with the process: the kernel then sends deathSignal to the child, some milliseconds before
// it closes the files of the process.
func (c *child) run(life, ready *os.File, files []*os.File, form string, started chan<- error) {
	runtime.LockOSThread() // for good: the thread ends with this goroutine
	tid := unix.Gettid()
	// Best effort: with this priority the thread is the first to end.
	_ = unix.Setpriority(unix.PRIO_PROCESS, tid, -20)
	var err error
	c.cmd, err = process.Start(func() (*exec.Cmd, error) {
		cmd := command(tid, life, ready, files, form)
		return cmd, process.Fork(cmd)
	})
	started <- err
	if err == nil {
		c.err = c.cmd.Wait()
		close(c.ended)
	}
}

// command returns the command of the child. tid is the thread whose end the kernel signals.
func command(tid int, life, ready *os.File, files []*os.File, form string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe") // the running program, even if its file was replaced since
	cmd.Args = []string{processName}
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d/task/%d", marker, os.Getpid(), tid), formKey+"="+form, "GOMAXPROCS=1", entryKey+"=")
	if logged.Load() {
		cmd.Env = append(cmd.Env, entryKey+"=1")
	}
	cmd.Dir = "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = life, ready, os.Stderr
	cmd.ExtraFiles = files
	cmd.SysProcAttr = &unix.SysProcAttr{
		Setsid:    true, // signals to our process group and terminal do not reach the child
		Pdeathsig: deathSignal,
	}
	return cmd
}

// end ends the child without carrying out any will.
func (c *child) end() {
	_ = c.life.SetWriteDeadline(time.Now().Add(time.Second))
	_, err := c.life.Write([]byte{quit})
	if err != nil {
		c.cmd.Process.Kill() // the child is stopped, or gone
	}
	c.life.Close()
	select {
	case <-c.ended:
	case <-time.After(time.Second):
		c.cmd.Process.Kill()
		<-c.ended
	}
}

// Run starts the guard again if it dies, until ctx ends. Then Run ends the guard without
// carrying out any will: take back what the wills are about before. After Close Run returns
// an error that wraps ErrClosed. A second Run fails at once, with ErrRunning or ErrClosed.
func (g *Guard) Run(ctx context.Context) error {
	if ctx == nil {
		return errors.New("guard: run: no context")
	}
	if err := g.beginRun(); err != nil {
		return err
	}
	defer g.Close()
	for {
		g.mu.Lock()
		c := g.child
		g.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-g.closed:
			return errRunClosed
		case <-c.ended:
		}
		if g.isClosed() { // Close has ended the child
			return errRunClosed
		}
		g.log.Error("the guard died, starting another", "err", c.err)
		c.life.Close()
		for err := g.spawn(); err != nil; err = g.spawn() {
			select {
			case <-ctx.Done():
				return nil
			case <-g.closed:
				return errRunClosed
			case <-time.After(restartPause):
				g.log.Error("no guard: addresses would outlive this process", "err", err)
			}
		}
	}
}

var errRunClosed = fmt.Errorf("guard: run: %w", ErrClosed)

// beginRun makes sure that Run runs once.
func (g *Guard) beginRun() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.isClosed():
		return errRunClosed
	case g.running:
		return fmt.Errorf("guard: run: %w", ErrRunning)
	}
	g.running = true
	return nil
}

// Set replaces the will under a name, such as the name of a virtual router. The will takes
// effect at once; an empty one withdraws the former will. An invalid will is an error: see
// [Will.Validate]. After an error the former will stays in force, perhaps together with the
// new one until the next Set, of any name, succeeds. If the guard has just died, the one
// that Run starts finds the will.
func (g *Guard) Set(name string, w Will) error {
	if g.isClosed() {
		return fmt.Errorf("guard: %s: %w", name, ErrClosed)
	}
	if err := w.Validate(); err != nil {
		return fmt.Errorf("guard: %s: %w", name, err)
	}
	var content []byte
	if shots := w.compile(); len(shots) > 0 {
		content = testament{name, shots}.encode()
	}
	if len(content) > maxWill {
		return fmt.Errorf("guard: %s: a will of %d bytes, at most %d are possible", name, len(content), maxWill)
	}
	return g.store.set(name, content)
}

// Close ends the guard without carrying out any will. Run does so itself. A second
// Close does nothing.
func (g *Guard) Close() error {
	g.mu.Lock()
	c, again := g.child, g.isClosed()
	if !again {
		close(g.closed)
	}
	g.mu.Unlock()
	if again {
		return nil
	}
	c.end()
	g.spawning.Lock()
	defer g.spawning.Unlock()
	g.closeFiles()
	return nil
}

// isClosed reports whether Close was called.
func (g *Guard) isClosed() bool {
	select {
	case <-g.closed:
		return true
	default:
		return false
	}
}

func (g *Guard) closeFiles() {
	for _, f := range g.files {
		f.Close()
	}
}
