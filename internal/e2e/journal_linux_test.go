package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/lab"
)

// TestJournal: in systemd's journal each line of a daemon, of its guard and of the
// error that it ends with has its priority, and the guard speaks JSON if the daemon
// does.
func TestJournal(t *testing.T) {
	t.Parallel()
	bin := havip(t)
	h := lab.New(t).MustHost("a", "192.0.2.1/24")
	dir := t.TempDir()
	run := func(name, text string) (*lab.Cmd, func() string) {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file+".yaml", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := os.OpenFile(file+".log", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { out.Close() })
		var stat unix.Stat_t
		if err := unix.Fstat(int(out.Fd()), &stat); err != nil {
			t.Fatal(err)
		}
		p := h.Command(bin, "run", "-c", file+".yaml")
		p.Stdout, p.Env = out, []string{fmt.Sprintf("JOURNAL_STREAM=%d:%d", stat.Dev, stat.Ino)}
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		return p, func() string { b, _ := os.ReadFile(file + ".log"); return string(b) }
	}

	wrong, said := run("wrong", "vrrp: [{name: VI_1, vrid: 0}]\nnonsense: 1\n")
	<-wrong.Done()
	if lines := strings.Split(strings.TrimSpace(said()), "\n"); len(lines) < 2 {
		t.Errorf("said %q, want several lines", lines)
	} else {
		for _, line := range lines {
			if !strings.HasPrefix(line, "<3>") {
				t.Errorf("line %q, want <3>", line)
			}
		}
	}

	p, said := run("killed", `
log: {format: json}
vrrp: [{name: VI_1, interface: eth0, vrid: 51, interval: 100ms, addresses: [192.0.2.10/24]}]
`)
	lab.Until(t, 30*time.Second, "the address is there", func() bool { return h.Holds(netip.MustParseAddr("192.0.2.10")) })
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 30*time.Second, "the guard speaks", func() bool { return strings.Contains(said(), `"msg":"guard: `) })
	guard := ""
	for line := range strings.Lines(said()) {
		prefix, rest := line[:3], line[3:]
		var fields map[string]any
		if err := json.Unmarshal([]byte(rest), &fields); err != nil {
			t.Errorf("line %q: %v", line, err)
		}
		if want := map[any]string{"DEBUG": "<7>", "INFO": "<6>", "WARN": "<4>", "ERROR": "<3>"}[fields["level"]]; prefix != want {
			t.Errorf("line %q, want %s", line, want)
		}
		if strings.HasPrefix(fmt.Sprint(fields["msg"]), "guard: ") {
			guard += fmt.Sprintln(fields["msg"], fields["removed"], fields["goodbye"])
		}
	}
	if want := "guard: the guarded process has died: its addresses are removed [VI_1] [VI_1]\n"; guard != want {
		t.Errorf("the guard says %q, want %q", guard, want)
	}
}
