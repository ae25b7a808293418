package healthcheck

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/process"
	"github.com/havip/havip/internal/regular"
	"github.com/havip/havip/internal/retry"
)

const (
	maxComm     = 15          // what the kernel keeps of a name (TASK_COMM_LEN-1)
	maxWatched  = 256         // processes of one name that are watched
	watchRescan = time.Second // how often Watch looks for a process that does not run
)

var _ Watcher = Process{}

// Watch calls changed when one of the processes ends, which a pidfd tells
// (pidfd_open(2)), and when processes appear where none were.
func (c Process) Watch(ctx context.Context, changed func()) error {
	there := true // a process was there at the latest look
	for ctx.Err() == nil {
		var err error
		if there, err = c.watchOnce(ctx, there, changed); err != nil {
			return fail(c, err)
		}
	}
	return nil
}

// watchOnce watches the processes that are there now until the first of them ends, and
// reports whether there were any. before says whether there were any at the look before:
// they may have ended between the two.
func (c Process) watchOnce(ctx context.Context, before bool, changed func()) (there bool, err error) {
	found, _ := c.findProcesses() // Check returns the error
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, maxWatched)
	watched := 0
	for _, pid := range found[:min(len(found), maxWatched)] {
		fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return true, fmt.Errorf("pidfd: %w", err)
		}
		f := os.NewFile(uintptr(fd), "pidfd")
		if !c.is(pid) { // the number was given to another process meanwhile
			f.Close()
			continue
		}
		watched++
		go func() { ended <- waitPidfd(ctx, f) }()
	}
	if watched > 0 || before {
		changed() // what happened before the watch began
	}
	if watched == 0 {
		retry.Pause(ctx, watchRescan)
		return false, nil
	}
	err = <-ended
	if ctx.Err() == nil {
		changed()
	}
	cancel()
	for range watched - 1 {
		<-ended
	}
	return true, err
}

// waitPidfd waits until the process has ended or ctx is done, and closes f. It
// occupies no thread: a pidfd becomes readable, which the runtime can wait for.
func waitPidfd(ctx context.Context, f *os.File) error {
	defer f.Close()
	defer bindDeadline(ctx, f)()
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	err = conn.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0 || err != nil && err != unix.EINTR
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// findProcesses returns the processes that Check is about.
func (c Process) findProcesses() ([]int, error) {
	if c.PIDFile != "" {
		text, err := regular.Read(c.PIDFile, 64)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, errors.New("no PID file")
		}
		if err != nil {
			return nil, err
		}
		pid, err := parsePID(text)
		if err == nil && !c.is(pid) {
			err = fmt.Errorf("process %d does not run", pid)
		}
		if err != nil {
			return nil, err
		}
		return []int{pid}, nil
	}
	pids, err := process.PIDs()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCannotRun, err)
	}
	return slices.DeleteFunc(pids, func(pid int) bool { return !c.is(pid) }), nil
}

// is reports whether pid runs, and under the right name.
func (c Process) is(pid int) bool {
	st, err := process.StatOf(pid)
	switch {
	case err != nil || st.Ended():
		return false
	case c.Name == "":
		return true
	case len(c.Name) <= maxComm:
		return st.Name == c.Name
	case st.Name != c.Name[:maxComm]:
		return false
	}
	dir := "/proc/" + strconv.Itoa(pid)
	if exe, err := os.Readlink(dir + "/exe"); err == nil {
		// A program that was replaced by a newer version still runs.
		if filepath.Base(strings.TrimSuffix(exe, " (deleted)")) == c.Name {
			return true
		}
	}
	cmdline, err := os.ReadFile(dir + "/cmdline")
	return err == nil && isTitled(cmdline, c.Name)
}

// isTitled reports whether a command line, as in /proc/PID/cmdline (proc(5)), is that of a
// program of this name, or of an interpreter of a script. Some programs overwrite their
// command line with a title that says what they are doing.
func isTitled(cmdline []byte, name string) bool {
	if bytes.HasPrefix(cmdline, []byte(name+": ")) {
		return true
	}
	args := bytes.SplitN(cmdline, []byte{0}, 3)
	for _, arg := range args[:min(len(args), 2)] {
		if filepath.Base(string(arg)) == name {
			return true
		}
	}
	return false
}

// parsePID reads the first line of a PID file.
func parsePID(text []byte) (int, error) {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	pid, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 10, 32)
	if err != nil || pid <= 0 {
		return 0, fmt.Errorf("no process number: %s", excerpt(text))
	}
	return int(pid), nil
}
