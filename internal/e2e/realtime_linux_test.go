package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/lab"
)

// TestRealtime: every thread gets the priority, what havip starts does not, and
// who may not have it is told.
func TestRealtime(t *testing.T) {
	lab.Need(t, "chrt")
	exe, dir := havip(t), t.TempDir()
	said := filepath.Join(dir, "said")
	script := filepath.Join(dir, "notify.sh")
	config := filepath.Join(dir, "havip.yaml")
	for file, text := range map[string]string{
		script: fmt.Sprintf("#!/bin/sh\nchrt -p $$ > %s.new && mv %s.new %s\n", said, said, said),
		config: fmt.Sprintf("vrrp:\n  - {name: VI_1, interface: eth0, vrid: 51, addresses: [%v], notify: [%s]}\n", vip, script),
	} {
		if err := os.WriteFile(file, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	h := lab.New(t).MustHost("lb01", "192.168.31.240/24")
	cmd := h.Command(exe, "run", "--realtime", "1", "-c", config)
	if b, _ := os.ReadFile("/proc/self/setgroups"); string(b) == "deny\n" { // root of a user namespace only
		code, out := exitOf(t, cmd)
		complains(t, out, code, 1, []string{"real-time", "CAP_SYS_NICE"})
		return
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, 30*time.Second, "all threads have the priority", func() error {
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", cmd.Pid()))
		if err != nil {
			return err
		}
		for _, th := range threads {
			tid, _ := strconv.Atoi(th.Name())
			attr, err := unix.SchedGetAttr(tid, 0)
			if err != nil || attr.Policy != unix.SCHED_RR || attr.Priority != 1 {
				return fmt.Errorf("thread %d: %+v (%v)", tid, attr, err)
			}
		}
		return nil
	})
	lab.Eventually(t, 30*time.Second, "the notify program runs as an ordinary one", func() error {
		b, err := os.ReadFile(said)
		if err == nil && !strings.Contains(string(b), "SCHED_OTHER") {
			t.Fatalf("it runs with %s", b)
		}
		return err
	})
}
