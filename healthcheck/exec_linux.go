package healthcheck

import (
	"errors"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/havip/havip/internal/process"
	"golang.org/x/sys/unix"
)

const (
	// freezeGrace is how long killAll waits for the processes of a program to stop.
	// A process that waits for a disk does not stop.
	freezeGrace = 100 * time.Millisecond
	// freezePoll is the time between two looks at the processes.
	freezePoll = time.Millisecond
)

// killAll kills a program, the process group that it leads and all their descendants,
// in whichever session they are. A process whose parent has ended before cannot be
// recognized, and lives on.
//
// The processes are stopped first. A stopped process starts no other between the look
// and the kill, and does not end: the children of an ended parent could not be found.
func killAll(leader *os.Process) error {
	if err := leader.Signal(syscall.SIGSTOP); errors.Is(err, os.ErrProcessDone) {
		return err // the program has ended by itself
	}
	tree := processTree{leader.Pid: leader}
	begun := time.Now()
	for !tree.growTree() && time.Since(begun) < freezeGrace {
		time.Sleep(freezePoll)
	}
	for pid, p := range tree {
		if pid != leader.Pid {
			_ = p.Kill()
			_ = p.Release()
		}
	}
	// The leader comes last: its end would let stopped groups of its session
	// run once more (POSIX calls them orphaned).
	_ = syscall.Kill(-leader.Pid, syscall.SIGKILL)
	return leader.Kill() // the leader may have joined another group
}

// processTree has the processes of a program by their numbers. All of them are stopped,
// so that the kernel gives none of the numbers to another process.
type processTree map[int]*os.Process

// growTree stops and adds the processes that those of the tree have started. It reports
// whether the tree is complete: no process was added, and all had stopped before the
// look, so that none can follow.
func (t processTree) growTree() (complete bool) {
	complete = !slices.ContainsFunc(slices.Collect(maps.Keys(t)), moves)
	pids, err := process.PIDs()
	if err != nil {
		return true // without /proc no process can be found
	}
	return !t.addProcesses(pids) && complete
}

// addProcesses adds those of the processes that belong to the tree, whatever their order,
// and reports whether there were any. A list of all processes may take longer to look
// through than killAll has time, so that another look may not follow.
func (t processTree) addProcesses(pids []int) (added bool) {
	for found := true; found; {
		found = false
		for _, pid := range pids {
			found = t.addProcess(pid) || found
		}
		added = added || found
	}
	return added
}

// addProcess stops and adds a process that belongs to the tree.
func (t processTree) addProcess(pid int) bool {
	if t[pid] != nil || !t.ownsProcess(pid) {
		return false
	}
	p, err := os.FindProcess(pid)
	if err != nil || !t.ownsProcess(pid) { // the number was given to another process meanwhile
		return false
	}
	_ = p.Signal(syscall.SIGSTOP)
	t[pid] = p
	return true
}

// ownsProcess reports whether a process descends from the tree, or is in a group that
// one of its processes leads.
func (t processTree) ownsProcess(pid int) bool {
	st, err := process.StatOf(pid)
	return err == nil && (t[st.Parent] != nil || t[st.Group] != nil)
}

// moves reports whether a process is neither stopped nor at its end.
func moves(pid int) bool {
	st, err := process.StatOf(pid)
	return err == nil && !st.Ended() && st.State != 'T' && st.State != 't'
}

// capabilities are those of the calling thread, which the threads of a process
// have in common.
func capabilities() (hdr unix.CapUserHeader, sets [2]unix.CapUserData, err error) {
	hdr.Version = unix.LINUX_CAPABILITY_VERSION_3
	err = unix.Capget(&hdr, &sets[0])
	return hdr, sets, err
}

// hasCapabilities reports whether this process may do more than its user.
func hasCapabilities() bool {
	_, sets, err := capabilities()
	return err != nil || sets[0].Permitted|sets[1].Permitted != 0
}

// mayBecomeOthers reports whether this process may run a program as another user and kill
// that program when time is up. A program that cannot be killed and hangs would be waited
// for without end.
func mayBecomeOthers() bool {
	const want = 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID | 1<<unix.CAP_KILL
	_, sets, err := capabilities()
	return err != nil || sets[0].Effective&want == want
}

// startOrdinary starts a program that does not run as root, without any of this
// process's capabilities. Across execve(2) such a program would keep the ambient set,
// and those of the inheritable set that the file has too. Both sets belong to the thread
// that forks (capabilities(7)), and the kernel keeps the ambient set within the
// inheritable one. So a thread gives up its inheritable set, starts the program, and
// ends. Package guard, whose child needs the capabilities, starts it in its own way.
func startOrdinary(cmd *exec.Cmd) error {
	hdr, sets, err := capabilities()
	if err != nil {
		return err
	}
	if sets[0].Inheritable|sets[1].Inheritable == 0 {
		return process.Fork(cmd)
	}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is good for nothing else
		sets[0].Inheritable, sets[1].Inheritable = 0, 0
		err := unix.Capset(&hdr, &sets[0])
		if err == nil {
			err = process.Fork(cmd)
		}
		started <- err
	}()
	return <-started
}

// readACL returns the POSIX access control list of the file at path, nil if there is
// none. NFS version 4 has lists of another kind, which the mode of a file reflects as
// well as it can.
func readACL(path string) ([]aclEntry, error) {
	const name = "system.posix_acl_access"
	size, err := unix.Lgetxattr(path, name, nil)
	var value []byte
	if err == nil {
		value = make([]byte, size)
		size, err = unix.Lgetxattr(path, name, value)
	}
	switch {
	case errors.Is(err, unix.ENODATA), errors.Is(err, unix.ENOTSUP):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return parseACL(value[:size])
}
