package lab

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/havip/havip/internal/process"
)

func TestCommand(t *testing.T) {
	l := New(t)
	h := l.MustHost("a", "192.0.2.1/24")
	t.Run("runs inside the host", func(t *testing.T) {
		c := h.Command("sh", "-c", "readlink /proc/self/ns/net; pwd; echo $WORD >&2")
		c.Dir, c.Env = "/", []string{"WORD=hello"}
		if err := c.Run(); err != nil {
			t.Fatal(err)
		}
		var want string
		h.Do(func() error { want = threadNamespace(t) + "\n/\nhello\n"; return nil })
		if c.Output() != want {
			t.Errorf("output %q, want %q", c.Output(), want)
		}
	})
	t.Run("output to a writer", func(t *testing.T) {
		var b bytes.Buffer
		c := h.Command("sh", "-c", "echo out; echo err >&2")
		c.Stdout = &b
		if err := c.Run(); err != nil || b.String() != "out\nerr\n" || c.Output() != "" {
			t.Errorf("wrote %q, Output %q, error %v", b.String(), c.Output(), err)
		}
	})
	t.Run("a log that the program opens itself keeps what was written before", func(t *testing.T) {
		c := h.Command("sh", "-c", "echo one; echo two >>/dev/stderr; echo three")
		if err := c.Run(); err != nil || c.Output() != "one\ntwo\nthree\n" {
			t.Errorf("output %q, error %v", c.Output(), err)
		}
	})
	t.Run("its exit code", func(t *testing.T) {
		err := h.Command("sh", "-c", "exit 3").Run()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 3 {
			t.Errorf("error %v", err)
		}
	})
	t.Run("starts once", func(t *testing.T) {
		c := h.Command("true")
		if err := c.Run(); err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err == nil || !strings.Contains(err.Error(), "started twice") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("not in a closed lab", func(t *testing.T) {
		l, err := Open()
		if err != nil {
			t.Fatal(err)
		}
		h, err := l.Host("b")
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := h.Command("true").Start(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("error %v", err)
		}
	})
}

// family starts a shell with two children, one in the shell's process group and one outside
// of it, and returns their pids. The shell ends on SIGTERM if polite.
func family(t *testing.T, h *Host, polite bool) (c *Cmd, near, far int) {
	t.Helper()
	Need(t, "setsid")
	script := `trap "%s" TERM; sleep 1000 & echo $!; setsid sh -c 'echo $$; exec sleep 1000' & while :; do sleep 0.01; done`
	trap := ""
	if polite {
		trap = "exit 0"
	}
	c = h.Command("sh", "-c", fmt.Sprintf(script, trap))
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	Until(t, bound, "children started", func() bool { return strings.Count(c.Output(), "\n") == 2 })
	pids := strings.Fields(c.Output())
	near, _ = strconv.Atoi(pids[0])
	far, _ = strconv.Atoi(pids[1])
	// The order in which they wrote is chance.
	if g, err := syscall.Getpgid(near); err == nil && g != c.Pid() {
		near, far = far, near
	}
	return c, near, far
}

// alive reports whether a process runs; a zombie that init has not reaped does not.
func alive(pid int) bool {
	st, err := process.StatOf(pid)
	return err == nil && !st.Ended()
}

func TestEndsOfAProgram(t *testing.T) {
	l := New(t)
	tests := []struct {
		name      string
		polite    bool
		end       func(c *Cmd) error
		wantErr   string
		near, far bool // alive afterwards
	}{
		{"Signal reaches the program alone", true, func(c *Cmd) error {
			err := c.Signal(syscall.SIGTERM)
			<-c.Done()
			return err
		}, "", true, true},
		{"Stop too", true, func(c *Cmd) error { return c.Stop(bound) }, "", true, true},
		{"Stop kills after its grace", false, func(c *Cmd) error { return c.Stop(50 * time.Millisecond) },
			"still running 50ms after SIGTERM", false, true},
		{"Kill kills the process group", true, func(c *Cmd) error { c.Kill(); c.Kill(); return nil }, "", false, true},
		{"the host's Kill kills all", true, func(c *Cmd) error { err := c.host.Kill(); <-c.Done(); return err }, "", false, false},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := l.MustHost(fmt.Sprint("h", i))
			c, near, far := family(t, h, tt.polite)
			err := tt.end(c)
			if tt.wantErr == "" && err != nil || tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)) {
				t.Errorf("error %v, want %q", err, tt.wantErr)
			}
			if err := c.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
				t.Errorf("signal to the ended program: %v", err)
			}
			for pid, want := range map[int]bool{near: tt.near, far: tt.far} {
				if !want {
					Until(t, bound, "a child is gone", func() bool { return !alive(pid) })
				} else if !alive(pid) {
					t.Errorf("a child is gone: near %d, far %d, gone %d", near, far, pid)
				}
			}
		})
	}
	t.Run("Close ends them all", func(t *testing.T) {
		Need(t, "unshare")
		l, err := Open()
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		h, err := l.Host("a")
		if err != nil {
			t.Fatal(err)
		}
		c, near, far := family(t, h, true)
		c.Signal(syscall.SIGKILL)
		<-c.Done()
		emigrant := h.Command("unshare", "-n", "sleep", "1000")
		if err := emigrant.Start(); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if alive(near) || alive(far) {
			t.Errorf("near %v, far %v alive", alive(near), alive(far))
		}
		if alive(emigrant.Pid()) {
			t.Error("the program that left the host is alive")
		}
	})
}

func TestPrivateRun(t *testing.T) {
	l := New(t)
	h := l.MustHost("a")
	script := `set -e; test -z "$(ls -A /run)"; echo $$ >/run/lab-test.pid; cat /run/lab-test.pid; exec sleep 1000`
	var commands []*Cmd
	for range 2 {
		c := h.Command("sh", "-c", script)
		c.Private = true
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		commands = append(commands, c)
	}
	for _, c := range commands {
		Until(t, bound, "its own pid is in the file", func() bool { return c.Output() == fmt.Sprintln(c.Pid()) })
	}
	if _, err := os.Stat("/run/lab-test.pid"); !os.IsNotExist(err) {
		t.Errorf("the machine's /run has the file: %v", err)
	}
}
