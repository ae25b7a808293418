package healthcheck

import (
	"errors"
	"maps"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/havip/havip/internal/process"
)

const (
	// freezeGrace is how long the processes of a program are awaited to stand
	// still before they are killed. One that waits for a disk does not.
	freezeGrace = 100 * time.Millisecond
	// freezePoll is how long to wait between two looks at those.
	freezePoll = time.Millisecond
)

// killAll kills a program, the process group that it leads and all that descends
// from them, in whichever session it is. A process whose parent has ended before
// cannot be told from others, and lives on.
//
// The processes are stopped first: nothing is started then between a look and the
// killing, and no parent ends, without whom its children would not be found.
func killAll(leader *os.Process) error {
	if err := leader.Signal(syscall.SIGSTOP); errors.Is(err, os.ErrProcessDone) {
		return err // it ended by itself
	}
	tree := processTree{leader.Pid: leader}
	begun := time.Now()
	for !tree.grow() && time.Since(begun) < freezeGrace {
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
	return leader.Kill() // it may have gone to another group
}

// processTree is a program's processes by their numbers. All are stopped, so that
// no number is given to another process.
type processTree map[int]*os.Process

// grow stops and adds what the processes of the tree have started, and reports
// whether the tree is complete: no process was added, and all stood still before
// the look, so that none will be.
func (t processTree) grow() (complete bool) {
	complete = !slices.ContainsFunc(slices.Collect(maps.Keys(t)), moves)
	pids, err := process.PIDs()
	if err != nil {
		return true // without /proc there is nothing to be found
	}
	for found := true; found; {
		found = false
		pids = slices.DeleteFunc(pids, func(pid int) bool {
			added := t.add(pid)
			found = found || added
			return added
		})
		complete = complete && !found
	}
	return complete
}

// add stops and adds a process that belongs to the tree.
func (t processTree) add(pid int) bool {
	if t[pid] != nil || !t.owns(pid) {
		return false
	}
	p, err := os.FindProcess(pid)
	if err != nil || !t.owns(pid) { // the number was given to another process meanwhile
		return false
	}
	_ = p.Signal(syscall.SIGSTOP)
	t[pid] = p
	return true
}

// owns reports whether a process descends from the tree, or is in a group that
// one of its processes leads.
func (t processTree) owns(pid int) bool {
	st, err := process.StatOf(pid)
	return err == nil && (t[st.Parent] != nil || t[st.Group] != nil)
}

// moves reports whether a process is neither stopped nor at its end.
func moves(pid int) bool {
	st, err := process.StatOf(pid)
	return err == nil && !st.Ended() && st.State != 'T' && st.State != 't'
}
