//go:build unix

package daemon

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
	"github.com/havip/havip/vrrp"
)

// tester runs a notifier whose programs are shell scripts.
type tester struct {
	*notifier
	t   *testing.T
	dir string
	log *labtest.Log
}

func startNotifier(t *testing.T, timeout time.Duration, scripts ...string) *tester {
	t.Helper()
	n := &tester{t: t, dir: t.TempDir(), log: &labtest.Log{}}
	cfg := notifyConfig{kind: kindInstance, name: "VI_1", Listeners: config.Listeners{NotifyTimeout: timeout}}
	for _, s := range scripts {
		cfg.Notify = append(cfg.Notify, config.Notify{Command: []string{"/bin/sh", "-c", "cd " + n.dir + "; " + s, "sh"}})
	}
	n.notifier = newNotifier(cfg, slog.New(slog.NewTextHandler(n.log, nil)))
	t.Cleanup(n.stop)
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

// says waits until a file has this content.
func (n *tester) says(name, want string) {
	n.t.Helper()
	for end := time.Now().Add(60 * time.Second); n.read(name) != want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			n.t.Fatalf("%s: got\n%swant\n%s", name, n.read(name), want)
		}
	}
}

// TestNotifyOrder: programs see the changes one after the other, in their
// order, with Keepalived's arguments and our environment.
func TestNotifyOrder(t *testing.T) {
	t.Parallel()
	n := startNotifier(t, time.Minute,
		`echo "$* $HAVIP_FROM $HAVIP_TO $HAVIP_KIND $HAVIP_NAME $HAVIP_STATE $HAVIP_PRIORITY $HAVIP_REASON" >> log; sleep 0.0$(($4 % 3))`,
		`echo "second $4" >> second`)
	var want, second strings.Builder
	for p := range uint8(20) {
		tr := master
		tr.Priority, tr.Reason = p, "why"
		n.send(instanceNotice(tr))
		fmt.Fprintf(&want, "INSTANCE VI_1 MASTER %d Backup Active INSTANCE VI_1 MASTER %d why\n", p, p)
		fmt.Fprintf(&second, "second %d\n", p)
	}
	n.says("log", want.String())
	n.says("second", second.String())
	n.stop()
	if n.log.String() != "" {
		t.Errorf("logged %s", n.log.String())
	}
}

// TestNotifyEnd: what is queued when the daemon ends is told too.
func TestNotifyEnd(t *testing.T) {
	t.Parallel()
	n := startNotifier(t, time.Minute, `until [ -e go ]; do sleep 0.01; done; echo $3 >> log`)
	n.send(instanceNotice(master))
	n.send(notice{state: "STOP"})
	stopped := make(chan struct{})
	go func() {
		n.stop()
		close(stopped)
	}()
	until(t, "the end has begun", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.ended
	})
	if err := os.WriteFile(filepath.Join(n.dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	<-stopped
	n.says("log", "MASTER\nSTOP\n")
}

// TestNotifyOn: what is for some states only gets its own arguments only, as
// Keepalived's notify_master does.
func TestNotifyOn(t *testing.T) {
	t.Parallel()
	n := startNotifier(t, time.Minute, `echo "some: $*" >> some`, `echo "all: $*" >> all`)
	some := n.programs[0].to.(*program)
	some.cfg.On = []string{"master", "stop"}
	for _, s := range []string{"BACKUP", "MASTER", "FAULT", "STOP"} {
		n.send(notice{state: s})
	}
	n.says("some", "some: \nsome: \n")
	n.says("all", "all: INSTANCE VI_1 BACKUP 0\nall: INSTANCE VI_1 MASTER 0\nall: INSTANCE VI_1 FAULT 0\nall: INSTANCE VI_1 STOP 0\n")
}

// TestNotifyEnvironment: what is in our environment may be a secret.
func TestNotifyEnvironment(t *testing.T) {
	t.Setenv("VRRP_PASSWORD", "d0cker")
	t.Setenv("LC_MESSAGES", "C")
	t.Setenv("HOME", "/home/havip")
	n := startNotifier(t, time.Minute, `env > env; mv env log`)
	n.send(instanceNotice(master))
	until(t, "the program has run", func() bool { return n.read("log") != "" })
	got := n.read("log")
	for _, want := range []string{"PATH=" + os.Getenv("PATH"), "LC_MESSAGES=C", "HOME=/home/havip", "HAVIP_STATE=MASTER"} {
		if !strings.Contains("\n"+got, "\n"+want+"\n") {
			t.Errorf("no %s in the environment", want)
		}
	}
	if strings.Contains(got, "VRRP_PASSWORD") {
		t.Error("the password is in the environment")
	}
	if home := "HOME="; slices.ContainsFunc(inherited("nobody"), func(v string) bool { return strings.HasPrefix(v, home) }) {
		t.Error("another user gets our home directory")
	}
}

// TestNotifyIsLogged: each end of a program is one line of the log, with the state that
// it was told and the time that it took: at level debug, or if it failed as a warning.
func TestNotifyIsLogged(t *testing.T) {
	t.Parallel()
	n := startNotifier(t, time.Minute, `[ $3 != FAULT ] || exit 3`)
	n.notifier.log = slog.New(slog.NewTextHandler(n.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	want := ""
	for _, state := range []string{"MASTER", "FAULT"} {
		n.send(notice{state: state})
		how := `level=DEBUG msg="notify program ended"`
		if state == "FAULT" {
			how = `level=WARN msg="notify program failed"`
		}
		want += `time=\S+ ` + how + ` program=/bin/sh state=` + state + ` took=[0-9.]+(µs|ms|s)( err=.*exit status 3")?\n`
	}
	n.busy.Wait()
	if !regexp.MustCompile("^" + want + "$").MatchString(n.log.String()) {
		t.Errorf("the log is\n%swant\n%s", n.log.String(), want)
	}
}

// TestNotifyUser: root runs nobody else's programs, but as their owner.
func TestNotifyUser(t *testing.T) {
	if os.Getuid() != 0 {
		lab.Lacking(t, "root is not here")
	}
	n := startNotifier(t, time.Minute)
	script := filepath.Join(n.dir, "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nid -u > $1/log\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{script: 0o755, n.dir: 0o777, filepath.Dir(n.dir): 0o755} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	programs := []config.Notify{{Command: []string{script, n.dir}}}
	for _, tc := range []struct{ user, log string }{{"", "refused"}, {"4242:4242", ""}} {
		n.reconfigure(notifyConfig{Listeners: config.Listeners{Notify: programs, NotifyUser: tc.user, NotifyTimeout: time.Minute}})
		n.send(instanceNotice(master))
		n.busy.Wait()
		if logged := n.log.String(); tc.log != "" && !strings.Contains(logged, tc.log) {
			t.Errorf("as %q: logged %q, want %q", tc.user, logged, tc.log)
		}
	}
	if got := n.read("log"); got != "4242\n" && !strings.Contains(n.log.String(), "operation not permitted") {
		t.Errorf("ran as %q: %s", got, n.log.String())
	}
}

// TestNotifyReload: who stays is told what it has not been told yet, and so is
// who goes, but nothing of what comes then.
func TestNotifyReload(t *testing.T) {
	t.Parallel()
	const script = `until [ -e go ]; do sleep 0.01; done; echo $3 >> `
	n := startNotifier(t, time.Minute, script+"stays", script+"goes")
	for _, s := range []string{"BACKUP", "MASTER"} {
		n.send(notice{state: s})
	}
	stays := n.programs[0].to.(*program).cfg
	comes := config.Notify{Command: []string{"/bin/sh", "-c", "cd " + n.dir + "; echo $3 >> comes", "sh"}}
	n.reconfigure(notifyConfig{Listeners: config.Listeners{Notify: []config.Notify{comes, stays}, NotifyTimeout: time.Hour}})
	n.send(notice{state: "FAULT"})
	n.says("comes", "FAULT\n")
	if err := os.WriteFile(filepath.Join(n.dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	n.says("stays", "BACKUP\nMASTER\nFAULT\n")
	n.says("goes", "BACKUP\nMASTER\n")
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
		{vrrp.Initialize, vrrp.CauseReconfigured, "STOP"},
	} {
		if got := keepalivedState(vrrp.Transition{To: tc.to, Cause: tc.cause}); got != tc.want {
			t.Errorf("%v by %v: %s, want %s", tc.to, tc.cause, got, tc.want)
		}
	}
}

// TestNotifyMisbehaves: a program that hangs, fails, forks or floods its output
// costs one line of the log and nothing else: neither the other program nor the
// FIFO waits for it, and it hears of the next change.
func TestNotifyMisbehaves(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, script string
		logs         string // empty: nothing
	}{
		{"hangs", "echo $$ > pid; sleep 1000", "killed"},
		{"hangs with children", "sleep 1000 & echo $! > pid; trap '' TERM INT; wait", "killed"},
		{"fails", "echo no such luck >&2; exit 3", "no such luck"},
		{"forks and leaves", "sleep 1000 & echo $! >> pid", ""},
		{"floods", "yes xxx | head -c 30000000; exit 1", "xxx"},
		{"is killed", "kill -9 $$", "signal: killed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			// What hangs does so for as long as the others are tested.
			n := startNotifier(t, time.Hour, tc.script, `echo $4 >> told`)
			reader := n.addFIFO(filepath.Join(n.dir, "fifo"))
			t.Cleanup(func() {
				for _, pid := range strings.Fields(n.read("pid")) {
					if pid, err := strconv.Atoi(pid); err == nil {
						syscall.Kill(pid, syscall.SIGKILL)
					}
				}
			})
			for range 2 {
				n.send(instanceNotice(master))
			}
			n.says("told", "100\n100\n")
			n.reads(reader, strings.Repeat("INSTANCE \"VI_1\" MASTER 100\n", 2))
			if !strings.HasPrefix(tc.name, "hangs") {
				n.busy.Wait()
			} else {
				until(t, "it hangs", func() bool { return strings.HasSuffix(n.read("pid"), "\n") })
				if n.log.String() != "" {
					t.Errorf("killed before its time: %s", n.log.String())
				}
				pid, err := strconv.Atoi(strings.TrimSpace(n.read("pid")))
				if err != nil {
					t.Fatal(err)
				}
				n.endAll() // as at the end of the daemon
				n.endLast()
				until(t, "all of the process group is gone", func() bool { return labtest.Ended(pid) })
				until(t, "it is said", func() bool { return strings.Contains(n.log.String(), tc.logs) })
				return
			}
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
		})
	}
}

// TestNotifyTimeout: a program that hangs is killed with all that it has
// started, and hears of the next change.
func TestNotifyTimeout(t *testing.T) {
	t.Parallel()
	n := startNotifier(t, 500*time.Millisecond, "sleep 1000 & echo $! >> pids; wait")
	n.send(instanceNotice(master))
	n.send(instanceNotice(master))
	n.busy.Wait()
	if got := strings.Count(n.log.String(), "killed: timed out"); got != 2 {
		t.Errorf("killed %d times, want 2:\n%s", got, n.log.String())
	}
	for _, pid := range strings.Fields(n.read("pids")) {
		pid, err := strconv.Atoi(pid)
		if err != nil {
			t.Fatal(err)
		}
		until(t, "all of the process group is gone", func() bool { return labtest.Ended(pid) })
	}
}

// TestNotifyNeverWaits: of more changes than fit the oldest are lost with a
// word, never the last, and the end of the daemon does not wait for a program
// for ever.
func TestNotifyNeverWaits(t *testing.T) {
	t.Parallel()
	n := startNotifier(t, time.Hour, `echo $4 >> log; [ $4 = 255 ] || sleep 1000`)
	n.lastWithin = time.Minute // a busy machine may take long to start a program
	n.send(notice{state: "MASTER"})
	n.says("log", "0\n")
	for p := range 255 { // while it hangs
		n.send(notice{state: "MASTER", priority: uint8(p + 1)})
	}
	if !strings.Contains(n.log.String(), "too slow") {
		t.Error("no word about what is lost")
	}
	n.mu.Lock()
	if q := n.programs[0].waiting; len(q) != maxNotify || q[0].priority != 255-maxNotify+1 || q[maxNotify-1].priority != 255 {
		t.Errorf("%d notices wait, from %d to %d", len(q), q[0].priority, q[len(q)-1].priority)
	}
	n.mu.Unlock()
	begin := time.Now()
	n.stop()
	if took := time.Since(begin); took > stopNotify+n.lastWithin {
		t.Errorf("the end took %v", took)
	}
	if got := n.read("log"); got != "0\n255\n" {
		t.Errorf("told %q, want the last one", got)
	}
}
