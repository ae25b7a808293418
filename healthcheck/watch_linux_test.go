package healthcheck

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/process"
)

// watch runs c's Watch and returns a channel that gets a token for every
// event, and the function that ends it.
func watch(t *testing.T, c Watcher) (events <-chan struct{}, stop func() error) {
	t.Helper()
	ch := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- c.Watch(ctx, func() {
			select {
			case ch <- struct{}{}:
			default:
			}
		})
	}()
	return ch, func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(30 * time.Second):
			return errors.New("Watch does not end")
		}
	}
}

// wantEvent waits until the check says what is wanted, looking at it after
// events only.
func wantEvent(t *testing.T, events <-chan struct{}, c Checker, healthy bool) {
	t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		select {
		case <-events:
			if (c.Check(t.Context()) == nil) == healthy {
				return
			}
		case <-timeout:
			t.Fatalf("no event, and check says %v", c.Check(t.Context()))
		}
	}
}

func TestFileWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flag")
	c := File{Path: path}
	events, stop := watch(t, c)
	wantEvent(t, events, c, false) // the first look
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	wantEvent(t, events, c, true)
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	wantEvent(t, events, c, false)
	if err := os.Rename(path+".old", path); err != nil {
		t.Fatal(err)
	}
	wantEvent(t, events, c, true)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	wantEvent(t, events, c, false)
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestFileWatchWithoutDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	c := File{Path: filepath.Join(dir, "flag")}
	if err := c.Watch(t.Context(), func() {}); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("watching in a directory that does not exist: %v", err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	events := make(chan struct{}, 100)
	done := make(chan error, 1)
	go func() { done <- c.Watch(t.Context(), func() { events <- struct{}{} }) }()
	<-events
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil || !strings.Contains(err.Error(), "directory is gone") {
		t.Errorf("the directory went away: %v", err)
	}
}

func FuzzInotify(f *testing.F) {
	event := func(mask, size uint32, name string) []byte {
		b := binary.NativeEndian.AppendUint32(nil, 1)
		b = binary.NativeEndian.AppendUint32(b, mask)
		b = binary.NativeEndian.AppendUint32(b, 0)
		return append(binary.NativeEndian.AppendUint32(b, size), name...)
	}
	f.Add(event(unix.IN_CREATE, 8, "flag\x00\x00\x00\x00"))
	f.Add(append(event(unix.IN_CREATE, 8, "other\x00\x00\x00"), event(unix.IN_DELETE, 8, "flag\x00\x00\x00\x00")...))
	f.Add(event(unix.IN_Q_OVERFLOW, 0, ""))
	f.Add(event(unix.IN_IGNORED, 0, ""))
	f.Add(event(unix.IN_CREATE, 1<<31, "flag")) // a length beyond the end
	f.Fuzz(func(t *testing.T, b []byte) {
		if ours, gone := parseInotify(b, "flag"); gone && !ours {
			t.Errorf("%x: the directory is gone and the file not affected", b)
		}
	})
}

// sleeper starts a process under a name of its own, which ends with end.
func sleeper(t *testing.T, name string) (pid int, end func()) { return sleeperAs(t, name, name) }

// sleeperAs is sleeper with another title on the command line.
func sleeperAs(t *testing.T, name, title string) (pid int, end func()) {
	t.Helper()
	path, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	program := filepath.Join(t.TempDir(), name)
	out, err := os.OpenFile(program, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "1000")
	cmd.Args[0] = title
	return background(t, cmd)
}

// scriptSleeper starts a script of this name, which is a process of that name
// too.
func scriptSleeper(t *testing.T, name string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\nread x\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path)
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	background(t, cmd)
}

// background starts a process that ends with end, or the test.
func background(t *testing.T, cmd *exec.Cmd) (pid int, end func()) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	end = func() {
		if !ended {
			ended = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(end)
	return cmd.Process.Pid, end
}

// procName is a process name that nothing else on this machine has.
func procName(t *testing.T, prefix string) string {
	t.Helper()
	return prefix + strconv.Itoa(os.Getpid())
}

func TestProcess(t *testing.T) {
	name := procName(t, "hc")
	long := procName(t, "healthcheck-test-")
	pid, _ := sleeper(t, name)
	sleeper(t, name)
	sleeper(t, long)
	titled, scripted := procName(t, "healthcheck-titled-"), procName(t, "healthcheck-script-")
	sleeperAs(t, titled, "idle")
	scriptSleeper(t, scripted)
	deadPID, end := sleeper(t, "hc-dead")
	end()
	zombie := exec.Command("/bin/true")
	if err := zombie.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = zombie.Wait() })
	waitFor(t, "a zombie", func() bool {
		st, err := process.StatOf(zombie.Process.Pid)
		return err == nil && st.Ended()
	})
	pidFile := func(text string) string {
		path := filepath.Join(t.TempDir(), "pid")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	running := pidFile(strconv.Itoa(pid) + "\n")
	runCheckCases(t, []checkCase{
		{name: "by name", checker: Process{Name: name}},
		{name: "two of that name", checker: Process{Name: name, Min: 2}},
		{name: "not three of that name", checker: Process{Name: name, Min: 3}, want: "2 processes, want at least 3"},
		{name: "no such name", checker: Process{Name: name + "x"}, want: "0 processes"},
		{name: "long name", checker: Process{Name: long}},
		{name: "long name, title written over", checker: Process{Name: titled}},
		{name: "long name of a script", checker: Process{Name: scripted}},
		{name: "long name, same beginning", checker: Process{Name: long + "x"}, want: "0 processes"},
		{name: "by PID file", checker: Process{PIDFile: running}},
		{name: "PID file and name", checker: Process{PIDFile: running, Name: name}},
		{name: "PID file of another program", checker: Process{PIDFile: running, Name: "nginx"}, want: "does not run"},
		{name: "stale PID file", checker: Process{PIDFile: pidFile(strconv.Itoa(deadPID))}, want: "does not run"},
		{name: "zombie", checker: Process{PIDFile: pidFile(strconv.Itoa(zombie.Process.Pid))}, want: "does not run"},
		{name: "no PID file", checker: Process{PIDFile: "/no/such/file"}, want: "no PID file"},
		{name: "empty PID file", checker: Process{PIDFile: pidFile("")}, want: "no process number"},
		{name: "PID file with junk", checker: Process{PIDFile: pidFile("junk")}, want: `no process number: "junk"`},
		{name: "PID file with more lines", checker: Process{PIDFile: pidFile(" " + strconv.Itoa(pid) + " \n/var/lib/data\n")}},
		{name: "PID file is a FIFO", checker: Process{PIDFile: makeFIFO(t)}, want: "not a regular file"},
		{name: "oversized PID file", checker: Process{PIDFile: pidFile(strings.Repeat("9", 100000))}, want: "no process number"},
	})
	for _, c := range []Process{{}, {Name: "x", Min: -1}, {PIDFile: "/x", Min: 2}} {
		if c.Validate() == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
}

// makeFIFO returns the path of a FIFO that nobody writes to: to open it for
// reading takes for ever.
func makeFIFO(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFileOfOtherKinds(t *testing.T) {
	something := regexp.MustCompile(".")
	runCheckCases(t, []checkCase{
		{name: "a FIFO exists", checker: File{Path: makeFIFO(t)}},
		{name: "a FIFO has no content", checker: File{Path: makeFIFO(t), Content: something}, want: "not a regular file"},
		{name: "a device has no content", checker: File{Path: "/dev/zero", Content: something}, want: "not a regular file"},
	})
}

// TestFIFOHoldsUpNobody: neither the watch nor the end of a Monitor waits until a process
// number is written into a FIFO.
func TestFIFOHoldsUpNobody(t *testing.T) {
	m, stop := startMonitor(t, Config{Checker: Process{PIDFile: makeFIFO(t)}, Interval: 10 * time.Millisecond})
	waitFor(t, "a few probes", func() bool { return m.Status().Probes > 3 })
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// TestProcessWatch: the end of a process is an event, and so is its return.
func TestProcessWatch(t *testing.T) {
	c := Process{Name: procName(t, "hw")}
	_, endFirst := sleeper(t, c.Name)
	_, endSecond := sleeper(t, c.Name)
	events, stop := watch(t, c)
	endFirst()
	wantEvent(t, events, c, true) // there is another one
	endSecond()
	wantEvent(t, events, c, false)
	sleeper(t, c.Name)
	wantEvent(t, events, c, true)
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// TestProcessWatchTooLate: a process that ends before the watch begins, but
// after a probe has seen it, is an event too.
func TestProcessWatchTooLate(t *testing.T) {
	c := Process{Name: procName(t, "hl")}
	_, end := sleeper(t, c.Name)
	end()
	events, stop := watch(t, c)
	wantEvent(t, events, c, false)
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// TestMonitorHearsOfExit: with an interval of an hour, the end of a process is
// known at once.
func TestMonitorHearsOfExit(t *testing.T) {
	name := procName(t, "hm")
	_, end := sleeper(t, name)
	m, stop := startMonitor(t, Config{Checker: Process{Name: name}, Interval: time.Hour, FastInterval: 10 * time.Millisecond, Fall: 2})
	waitFor(t, "up", func() bool { return m.Status().State == Up })
	end()
	waitFor(t, "down", func() bool { return m.Status().State == Down })
	sleeper(t, name)
	waitFor(t, "up again", func() bool { return m.Status().State == Up })
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// TestTitles: which command lines have a name as their title.
func TestTitles(t *testing.T) {
	for cmdline, want := range map[string]bool{
		"/usr/sbin/a-long-program-name\x00-d\x00":               true,
		"a-long-program-name":                                   true,
		"a-long-program-name: worker process":                   true,
		"/bin/sh\x00/usr/bin/a-long-program-name\x00":           true,
		"/usr/bin/vi\x00-R\x00/usr/bin/a-long-program-name\x00": false,
		"a-long-program-name2\x00":                              false,
		"a-long-program-names: worker process":                  false,
		"/usr/sbin/a-long-program-name/another\x00":             false,
		"": false,
	} {
		if got := isTitled([]byte(cmdline), "a-long-program-name"); got != want {
			t.Errorf("%q: %v, want %v", cmdline, got, want)
		}
	}
}

func FuzzPID(f *testing.F) {
	for _, seed := range []string{"1", " 42 \nx", "", "-1", "0", "99999999999", "1x"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if pid, err := parsePID(text); err == nil && pid <= 0 {
			t.Errorf("%q gives %d", text, pid)
		}
	})
}
