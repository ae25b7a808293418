package healthcheck

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/havip/havip/internal/process"
)

// written returns the process numbers that programs have added to a file, one on
// a line.
func written(file string) (pids []int) {
	data, _ := os.ReadFile(file)
	for line := range strings.Lines(string(data)) {
		var pid int
		if n, _ := fmt.Sscanln(line, &pid); n == 1 && strings.HasSuffix(line, "\n") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// notes returns a file for process numbers. All of these processes are killed at the end.
func notes(t *testing.T, dir, name string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	t.Cleanup(func() {
		for _, pid := range written(file) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return file
}

// opened returns how many goroutines and descriptors this process has.
func opened(t *testing.T) (goroutines, files int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return runtime.NumGoroutine(), len(entries)
}

// timeOut runs a program n times at once, and lets time be up for all of them as
// soon as ready says so.
func timeOut(t *testing.T, n int, c Exec, ready func() bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var probes sync.WaitGroup
	for range n {
		probes.Go(func() {
			if err := c.Check(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("the check ended with %v", err)
			}
		})
	}
	waitFor(t, "what the program starts", ready)
	cancel()
	probes.Wait()
}

// TestTimedOutProgramLeavesNothing: when time is up, all processes that a program has
// started die with it, also in other sessions and process groups, and so do those that
// these have started. No descriptor and no goroutine stays.
func TestTimedOutProgramLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	file := notes(t, dir, "pids")
	c := Exec{Path: script(t, `#!/bin/sh
setsid sh -c 'echo $$ >> pids
	sh -c "echo \$\$ >> pids; exec sleep 1000" &
	setsid sh -c "echo \$\$ >> pids; trap \"\" TERM HUP; sleep 1000; :" &
	wait' &
sleep 1000
`), Dir: dir}
	goroutines, files := opened(t)
	timeOut(t, 1, c, func() bool { return len(written(file)) == 3 })
	for _, pid := range written(file) {
		waitFor(t, "the death of what was started", func() bool {
			st, err := process.StatOf(pid)
			return err != nil || st.Ended()
		})
	}
	waitFor(t, "the end of all that the check has opened", func() bool {
		g, f := opened(t)
		return g <= goroutines && f <= files
	})
}

// TestTimedOutProbesAreBounded: a program may have started a process that cannot be found,
// since its parent has ended. Such a program leaves no descriptor and no goroutine either.
func TestTimedOutProbesAreBounded(t *testing.T) {
	const probes = 50
	dir := t.TempDir()
	found, lost := notes(t, dir, "found"), notes(t, dir, "lost")
	c := Exec{Path: script(t, `#!/bin/sh
setsid sh -c 'echo $$ >> found; exec sleep 1000' &
(setsid sh -c 'echo $$ >> lost; exec sleep 1000' &)
sleep 1000
`), Dir: dir}
	goroutines, files := opened(t)
	timeOut(t, probes, c, func() bool { return len(written(found)) == probes && len(written(lost)) == probes })
	waitFor(t, "the end of all that the checks have opened", func() bool {
		g, f := opened(t)
		return g <= goroutines && f <= files
	})
	for _, pid := range written(found) {
		waitFor(t, "the death of what was started", func() bool {
			st, err := process.StatOf(pid)
			return err != nil || st.Ended()
		})
	}
}

// TestLeftoversAreBounded: programs that end by themselves leave processes behind. The
// output of the newest few is read; the older processes are not killed.
func TestLeftoversAreBounded(t *testing.T) {
	const probes = 50
	dir := t.TempDir()
	file := notes(t, dir, "pids")
	c := Exec{Path: script(t, "#!/bin/sh\nsleep 1000 & echo $! >> pids\n"), Dir: dir}
	goroutines, files := opened(t)
	settled := func(n int) func() bool {
		return func() bool {
			pids := written(file)
			return len(pids) == n && remembered(c) == maxLeftovers && held(t, pids...) == maxLeftovers
		}
	}
	for range probes {
		if err := c.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "few outputs to be left", settled(probes))
	waitFor(t, "few goroutines and files to be left", func() bool {
		g, f := opened(t)
		return g <= goroutines+maxLeftovers && f <= files+maxLeftovers
	})
	if err := c.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "few outputs to be left again", settled(probes+1))
	if held(t, written(file)[probes]) == 0 {
		t.Error("the newest output is not read")
	}
	for _, pid := range written(file) {
		if st, err := process.StatOf(pid); err != nil || st.Ended() {
			t.Errorf("process %d is gone (%v)", pid, err)
		}
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	waitFor(t, "the end of all outputs", func() bool {
		g, f := opened(t)
		return g <= goroutines && f <= files
	})
	if n := remembered(c); n > 0 {
		t.Errorf("%d outputs are remembered", n)
	}
}

// remembered returns how many leftovers of a program are known.
func remembered(c Exec) int {
	leftovers.Lock()
	defer leftovers.Unlock()
	return len(leftovers.of[c.Path])
}

// held returns how many of the processes write to a pipe that this process has
// open.
func held(t *testing.T, pids ...int) (n int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	ours := map[string]bool{}
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			ours[to] = true
		}
	}
	for _, pid := range pids {
		if to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/1", pid)); err == nil && ours[to] {
			n++
		}
	}
	return n
}

// TestExecDaemonOutlivesUs: a daemon survives the process that has made the check. Only
// Linux has a pipe without SIGPIPE.
func TestExecDaemonOutlivesUs(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), daemonEnv+"="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	endDaemon(t, dir, 1000)
}

// TestProcessTreeInAnyOrder: one look finds all descendants of a program, in whatever order
// the system names its processes.
func TestProcessTreeInAnyOrder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	cmd := exec.Command(script(t, `#!/bin/sh
echo $$ >> `+file+`
[ $1 = 0 ] && exec sleep 1000
setsid $0 $(($1 - 1))
`), "3")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "all four", func() bool { return len(written(file)) == 4 })
	pids := written(file)
	slices.Reverse(pids)
	tree := processTree{cmd.Process.Pid: cmd.Process}
	if tree.addProcesses(pids); len(tree) != len(pids) {
		t.Errorf("found %d of %d processes", len(tree), len(pids))
	}
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	_ = cmd.Wait()
}
