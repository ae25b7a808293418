//go:build unix

package daemon

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/vrrp"
)

// lockedBuffer is a log that may be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// tester runs a notifier whose programs are shell scripts.
type tester struct {
	*notifier
	t   *testing.T
	dir string
	log *lockedBuffer
}

func startNotifier(t *testing.T, timeout time.Duration, scripts ...string) *tester {
	t.Helper()
	n := &tester{t: t, dir: t.TempDir(), log: &lockedBuffer{}}
	n.notifier = newNotifier(kindInstance, "VI_1", slog.New(slog.NewTextHandler(n.log, nil)))
	cfg := notifyConfig{timeout: timeout}
	for _, s := range scripts {
		cfg.commands = append(cfg.commands, config.Notify{Command: []string{"/bin/sh", "-c", "cd " + n.dir + "; " + s, "sh"}})
	}
	if err := n.configure(cfg); err != nil {
		t.Fatal(err)
	}
	n.task = start(n.run, func(err error) { t.Error(err) })
	t.Cleanup(n.task.stop)
	return n
}

func (n *tester) read(name string) string {
	b, err := os.ReadFile(filepath.Join(n.dir, name))
	if err != nil && !os.IsNotExist(err) {
		n.t.Fatal(err)
	}
	return string(b)
}

// until waits for a condition.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain: " + what)
		}
	}
}

var master = vrrp.Transition{From: vrrp.Backup, To: vrrp.Active, Cause: vrrp.CauseTimeout, Priority: 100}

// TestNotifyOrder: programs see the changes one after the other, in their
// order, with Keepalived's arguments and our environment, and what is queued
// when the daemon ends is reported too.
func TestNotifyOrder(t *testing.T) {
	t.Parallel()
	n := startNotifier(t, time.Minute,
		`echo "$* $HAVIP_FROM $HAVIP_TO $HAVIP_KIND $HAVIP_NAME $HAVIP_STATE $HAVIP_PRIORITY $HAVIP_REASON" >> log; sleep 0.0$(($4 % 3))`,
		`echo "second $4" >> log`)
	var want strings.Builder
	for p := range uint8(20) {
		tr := master
		tr.Priority, tr.Reason = p, "why"
		n.send(instanceNotice(tr))
		fmt.Fprintf(&want, "INSTANCE VI_1 MASTER %d Backup Active INSTANCE VI_1 MASTER %d why\nsecond %d\n", p, p, p)
	}
	n.task.stop()
	if got := n.read("log"); got != want.String() {
		t.Errorf("got\n%swant\n%s", got, want.String())
	}
	if n.log.String() != "" {
		t.Errorf("logged %s", n.log.String())
	}
}

// TestNotifyOn: what is for some states only gets its own arguments only, as
// Keepalived's notify_master does.
func TestNotifyOn(t *testing.T) {
	t.Parallel()
	n := startNotifier(t, time.Minute, `echo "some: $*" >> log`, `echo "all: $*" >> log`)
	n.cfg.commands[0].On = []string{"master", "stop"}
	for _, s := range []string{"BACKUP", "MASTER", "FAULT", "STOP"} {
		n.send(notice{state: s})
	}
	n.task.stop()
	const want = "all: INSTANCE VI_1 BACKUP 0\nsome: \nall: INSTANCE VI_1 MASTER 0\n" +
		"all: INSTANCE VI_1 FAULT 0\nsome: \nall: INSTANCE VI_1 STOP 0\n"
	if got := n.read("log"); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestNotifyWords(t *testing.T) {
	for _, tc := range []struct {
		to    vrrp.State
		cause vrrp.Cause
		want  string
	}{
		{vrrp.Active, vrrp.CauseTimeout, "MASTER"},
		{vrrp.Backup, vrrp.CauseStart, "BACKUP"},
		{vrrp.Backup, vrrp.CauseResign, "BACKUP"},
		{vrrp.Initialize, vrrp.CauseFault, "FAULT"},
		{vrrp.Initialize, vrrp.CauseShutdown, "STOP"},
	} {
		if got := keepalivedState(vrrp.Transition{To: tc.to, Cause: tc.cause}); got != tc.want {
			t.Errorf("%v by %v: %s, want %s", tc.to, tc.cause, got, tc.want)
		}
	}
}

// TestNotifyMisbehaves: a program that hangs, fails, forks or floods its output
// costs one line of the log and nothing else: the next program runs, and the
// next change is told.
func TestNotifyMisbehaves(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, script string
		logs         string // empty: nothing
	}{
		{"hangs", "echo $$ > pid; sleep 1000", "killed"},
		{"hangs with children", "sleep 1000 & echo $! > pid; trap '' TERM INT; wait", "killed"},
		{"fails", "echo no such luck >&2; exit 3", "no such luck"},
		{"forks and leaves", "sleep 1000 & echo $! > pid", ""},
		{"floods", "yes xxx | head -c 30000000; exit 1", "xxx"},
		{"is killed", "kill -9 $$", "signal: killed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			n := startNotifier(t, 2*time.Second, tc.script, `echo $4 >> told`)
			t.Cleanup(func() {
				if pid, err := strconv.Atoi(strings.TrimSpace(n.read("pid"))); err == nil {
					syscall.Kill(pid, syscall.SIGKILL)
				}
			})
			begin := time.Now()
			for range 2 {
				n.send(instanceNotice(master))
			}
			if took := time.Since(begin); took > time.Second {
				t.Errorf("whoever tells waited for %v", took)
			}
			until(t, "both changes are told", func() bool { return n.read("told") == "100\n100\n" })
			lines := strings.Split(strings.TrimSpace(n.log.String()), "\n")
			if tc.logs == "" {
				if n.log.String() != "" {
					t.Errorf("logged %s", n.log.String())
				}
				return
			}
			if len(lines) != 2 || !strings.Contains(lines[0], tc.logs) || len(lines[0]) > 4096 {
				t.Errorf("logged %d lines, the first of %d bytes: %.500s", len(lines), len(lines[0]), lines[0])
			}
			if strings.HasPrefix(tc.name, "hangs") {
				pid, err := strconv.Atoi(strings.TrimSpace(n.read("pid")))
				if err != nil {
					t.Fatal(err)
				}
				until(t, "all of the process group is gone", func() bool { return gone(pid) })
			}
		})
	}
}

// gone reports whether a process has ended; as a zombie it has.
func gone(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

// TestNotifyNeverWaits: more changes than fit are lost with a word, and the end
// of the daemon does not wait for a program for ever.
func TestNotifyNeverWaits(t *testing.T) {
	t.Parallel()
	n := startNotifier(t, time.Hour, "sleep 1000")
	begin := time.Now()
	for range 10 * maxNotify {
		n.send(instanceNotice(master))
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("sending took %v", took)
	}
	if !strings.Contains(n.log.String(), "too slow") {
		t.Error("no word about what is lost")
	}
	begin = time.Now()
	n.task.stop()
	if took := time.Since(begin); took > stopNotify+10*time.Second {
		t.Errorf("the end took %v", took)
	}
}

// TestFIFO: lines as Keepalived writes them, for whoever reads; without a
// reader nothing waits.
func TestFIFO(t *testing.T) {
	t.Parallel()
	n := startNotifier(t, time.Minute)
	path := filepath.Join(n.dir, "fifo")
	if err := n.configure(notifyConfig{fifo: path}); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	n.send(instanceNotice(master))
	n.send(notice{state: "FAULT"})
	const want = "INSTANCE \"VI_1\" MASTER 100\nINSTANCE \"VI_1\" FAULT 0\n"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(reader, got); err != nil || string(got) != want {
		t.Errorf("read %q (%v), want %q", got, err, want)
	}
	// A pipe holds 64 KiB (pipe(7)): these are more.
	for range 5000 {
		n.report(context.Background(), notice{state: "BACKUP", priority: 100})
	}
	if !strings.Contains(n.log.String(), "not written to the FIFO") {
		t.Error("no word about lines that were not written")
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != os.ModeNamedPipe|0o600 {
		t.Errorf("the FIFO has mode %v (%v)", info.Mode(), err)
	}
	file := filepath.Join(n.dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := n.configure(notifyConfig{fifo: file}); err == nil || n.cfg.fifo != path {
		t.Errorf("an ordinary file is taken for a FIFO: %v, now %s", err, n.cfg.fifo)
	}
	if err := os.Symlink(path, file+"2"); err != nil {
		t.Fatal(err)
	}
	if err := n.configure(notifyConfig{fifo: file + "2"}); err == nil {
		t.Error("a symbolic link is followed")
	}
}
