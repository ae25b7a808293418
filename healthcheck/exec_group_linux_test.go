package healthcheck

import (
	"bufio"
	"math/rand/v2"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// TestSignalToGroupSparesPrograms: a signal to our process group, as of Ctrl-C or
// "kill -- -PGID", never ends a program, which has a group of its own: not at its
// very start either, when it still is in ours.
func TestSignalToGroupSparesPrograms(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("/proc/self/exe")
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
	said := lines.Text()
	if said != "begin" {
		t.Errorf("the programs' parent says %q", said)
	}
	ended := make(chan struct{})
	sent := make(chan int)
	go func() {
		n := 0
		for ; ; n++ {
			select {
			case <-ended:
				sent <- n
				return
			case <-time.After(rand.N(time.Millisecond)):
			}
			_ = syscall.Kill(-cmd.Process.Pid, groupSignals[n%len(groupSignals)].(syscall.Signal))
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
