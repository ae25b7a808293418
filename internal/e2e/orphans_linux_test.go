package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

// TestFirstProcessCollectsOrphans: as the first process of a container, havip
// collects what programs have left behind and has ended. It takes nobody's result
// away by that: checks that run all the time stay as they are.
func TestFirstProcessCollectsOrphans(t *testing.T) {
	t.Parallel()
	lab.NeedRoot(t)
	lab.Need(t, "unshare")
	const orphans = 20
	bin := havip(t)
	h := lab.New(t).MustHost("lb01", "192.0.2.1/24")
	dir := t.TempDir()
	file, left := filepath.Join(dir, "havip.yaml"), filepath.Join(dir, "left")
	var checks, track strings.Builder
	for n := range 8 {
		fmt.Fprintf(&checks, "  c%d: {type: exec, command: [/bin/true], interval: 20ms, rise: 1, fall: 1, timeout: 30s, long_timeout: true}\n", n)
		fmt.Fprintf(&track, "{check: c%d}, ", n)
	}
	// Each inner shell loses its parent at once, notes its number and ends.
	text := fmt.Sprintf(`
checks:
%svrrp:
  - name: VI_1
    interface: eth0
    vrid: 51
    interval: 100ms
    addresses: [192.0.2.10/24]
    track: [%s]
    notify: [{command: [/bin/sh, -c, 'for n in $(seq %d); do (sh -c "echo \$\$" >> %s &) ; done'], on: [master]}]
`, checks.String(), track.String(), orphans, left)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := h.Command("unshare", "--pid", "--mount-proc", "--fork", "--kill-child", bin, "run", "-c", file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 30*time.Second, "the program has left its processes", func() bool {
		b, _ := os.ReadFile(left)
		return strings.Count(string(b), "\n") == orphans
	})
	b, err := os.ReadFile(left)
	if err != nil {
		t.Fatal(err)
	}
	first := fmt.Sprintf("/proc/%d/root/proc/", labtest.Children(cmd.Pid())[0])
	lab.Eventually(t, 30*time.Second, "the processes are collected", func() error {
		for pid := range strings.FieldsSeq(string(b)) {
			if stat, err := os.ReadFile(first + pid + "/stat"); err == nil {
				return fmt.Errorf("there is %s", stat)
			}
		}
		return nil
	})
	for line := range strings.Lines(cmd.Output()) {
		if strings.Contains(line, `msg="check is down"`) {
			t.Errorf("it says %s", line)
		}
	}
}
