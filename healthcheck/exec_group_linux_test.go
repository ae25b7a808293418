package healthcheck

import (
	"bufio"
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// TestSignalToGroupSparesPrograms: a signal to our process group, as of Ctrl-C or "kill --
// -PGID", never ends a program: each has a group of its own. This holds at its very start
// too, when the new process is still in our group.
func TestSignalToGroupSparesPrograms(t *testing.T) {
	t.Parallel()
	runProgramsDuring(t, func(n, group int) {
		_ = syscall.Kill(-group, groupSignals[n%len(groupSignals)].(syscall.Signal))
	})
}

// TestStopOfGroupSparesPrograms: Ctrl-Z stops neither a program for good, nor the process
// that is just starting it.
func TestStopOfGroupSparesPrograms(t *testing.T) {
	t.Parallel()
	runProgramsDuring(t, func(_, group int) {
		_ = syscall.Kill(-group, syscall.SIGTSTP)
		time.Sleep(rand.N(time.Millisecond))
		_ = syscall.Kill(-group, syscall.SIGCONT)
	})
}

// runProgramsDuring runs programs while send is called now and then, with a running number
// and the process group of the process that runs them. None may fail.
func runProgramsDuring(t *testing.T, send func(n, group int)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), groupEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Scan()
	if said := lines.Text(); said != "begin" {
		t.Errorf("the programs' parent says %q", said)
	}
	ended := make(chan struct{})
	sent := make(chan int)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-ended:
				sent <- n
				return
			case <-time.After(rand.N(time.Millisecond)):
			}
			send(n, cmd.Process.Pid)
		}
	}()
	for lines.Scan() {
		t.Error(lines.Text())
	}
	close(ended)
	t.Logf("%d signals", <-sent)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
