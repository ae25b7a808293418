package lab

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/process"
)

// Cmd is a program that runs, or is to run, inside a [Host]. The program must stay
// in the foreground. Whatever it leaves running is killed when the lab is closed,
// and the program itself also if this process dies.
type Cmd struct {
	// Dir is the program's working directory. Default: this process's.
	Dir string
	// Env is added to this process's environment.
	Env []string
	// Stdout gets standard output and standard error, instead of [Cmd.Output].
	Stdout io.Writer
	// Private gives the program a /run of its own, empty, so that two instances
	// on two hosts do not find each other's pid files.
	Private bool

	host *Host
	name string
	args []string
	cmd  *exec.Cmd
	done chan struct{}
	err  error // why the program ended, valid after done

	mu     sync.Mutex
	reaped bool     // the pid may belong to another process now
	output *os.File // in memory
}

// Command prepares a program to run inside the host. The name is looked up in PATH
// and in the directories of daemons.
func (h *Host) Command(name string, args ...string) *Cmd {
	return &Cmd{host: h, name: name, args: args, done: make(chan struct{})}
}

// String returns the host's name and the command line.
func (c *Cmd) String() string {
	return c.host.name + ": " + strings.Join(append([]string{c.name}, c.args...), " ")
}

// Start starts the program, once.
func (c *Cmd) Start() error {
	path, err := lookPath(c.name)
	if err != nil {
		return fmt.Errorf("lab: %v: %w", c, err)
	}
	// The lock keeps Close from missing a program that is just being started.
	l := c.host.lab
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return fmt.Errorf("lab: %v: %w", c, net.ErrClosed)
	}
	if c.cmd != nil {
		return fmt.Errorf("lab: %v: started twice", c)
	}
	c.cmd = exec.Command(path, c.args...)
	c.cmd.Dir = c.Dir
	c.cmd.Env = append(os.Environ(), c.Env...)
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if c.Stdout == nil {
		if c.output, err = newOutput(); err != nil {
			return fmt.Errorf("lab: %v: %w", c, err)
		}
		c.cmd.Stdout, c.cmd.Stderr = c.output, c.output
	} else {
		c.cmd.Stdout, c.cmd.Stderr = c.Stdout, c.Stdout
		c.cmd.WaitDelay = time.Second // a grandchild may keep the pipe open
	}
	started := make(chan error, 1)
	// The child inherits the namespaces of the thread that forks, and gets
	// Pdeathsig when that thread ends: so the thread waits for it.
	spawn(func() {
		err := c.startHere()
		started <- err
		if err == nil {
			c.wait()
		}
	})
	if err := <-started; err != nil {
		c.closeOutput()
		return fmt.Errorf("lab: %v: %w", c, err)
	}
	l.commands = append(l.commands, c)
	return nil
}

// newOutput makes a file in memory. In contrast to a pipe it needs no reader, and
// a grandchild that keeps it open keeps nobody waiting.
func newOutput() (*os.File, error) {
	fd, err := unix.MemfdCreate("output", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	// Programs open /dev/stderr anew, so a shared offset does not suffice.
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, unix.O_APPEND); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "output"), nil
}

// startHere starts the program from this thread, which it moves into the host.
func (c *Cmd) startHere() error {
	if err := netns.Set(c.host.ns); err != nil {
		return err
	}
	if c.Private {
		err := unix.Unshare(unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755")
		}
		if err != nil {
			return fmt.Errorf("private /run: %w", err)
		}
	}
	return c.cmd.Start()
}

func (c *Cmd) wait() {
	defer close(c.done)
	// First wait without reaping: until the pid is given up under the lock, it is
	// certain whom a signal would reach.
	for errors.Is(unix.Waitid(unix.P_PID, c.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reaped = true
	if err := c.cmd.Wait(); err != nil {
		c.err = fmt.Errorf("lab: %v: %w", c, err)
	}
}

// Done is closed when a started program has ended.
func (c *Cmd) Done() <-chan struct{} { return c.done }

// Wait waits until the program has ended and tells how: nil for exit code 0, an
// *exec.ExitError within otherwise.
func (c *Cmd) Wait() error {
	<-c.done
	return c.err
}

// Run starts the program and waits for it.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Pid returns the process id of a started program.
func (c *Cmd) Pid() int { return c.cmd.Process.Pid }

// Signal sends a signal to the program, not to its children. The error is
// os.ErrProcessDone if it has ended.
func (c *Cmd) Signal(sig os.Signal) error { return c.cmd.Process.Signal(sig) }

// Kill kills the program and its process group at once and waits for its end. To
// kill the program alone, send SIGKILL with [Cmd.Signal].
func (c *Cmd) Kill() {
	c.mu.Lock()
	if !c.reaped {
		syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
	}
	c.mu.Unlock()
	<-c.done
}

// Stop asks the program to end with SIGTERM and waits; after the grace period it
// kills it, which is an error.
func (c *Cmd) Stop(grace time.Duration) error {
	c.Signal(syscall.SIGTERM)
	select {
	case <-c.done:
		return nil
	case <-time.After(grace):
		c.Kill()
		return fmt.Errorf("lab: %v: killed, still running %v after SIGTERM", c, grace)
	}
}

// Output returns what the program has written so far to standard output and
// standard error, until the lab is closed.
func (c *Cmd) Output() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.output == nil {
		return ""
	}
	// ReadAt, since the offset is the program's.
	b, _ := io.ReadAll(io.NewSectionReader(c.output, 0, 1<<40))
	return string(b)
}

func (c *Cmd) closeOutput() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.output != nil {
		c.output.Close()
		c.output = nil
	}
}

// Kill kills every process that is in the host, children that left their process
// group too, as when the power fails, and returns once they are gone.
func (h *Host) Kill() error { return killInside(h) }

// killInside kills the processes whose network namespace is that of one of the
// hosts, and nothing else, until there are none.
func killInside(hosts ...*Host) error {
	return poll(10*time.Second, func() error {
		pids, err := process.PIDs()
		if err != nil {
			return fmt.Errorf("lab: %w", err)
		}
		left := 0
		for _, pid := range pids {
			if pid != os.Getpid() && killIf(pid, hosts) {
				left++
			}
		}
		if left > 0 {
			return fmt.Errorf("lab: %d processes survive SIGKILL", left)
		}
		return nil
	})
}

// killIf kills a process if it is in one of the hosts. An os.Process holds the process by a
// descriptor meanwhile, so that a reused pid hits nobody else.
func killIf(pid int, hosts []*Host) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	defer p.Release()
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return false
	}
	defer ns.Close()
	if !slices.ContainsFunc(hosts, func(h *Host) bool { return h.ns.Equal(ns) }) {
		return false
	}
	p.Kill()
	return true
}
