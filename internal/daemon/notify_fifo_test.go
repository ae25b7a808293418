//go:build unix

package daemon

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/havip/havip/internal/config"
)

// addFIFO makes the notifier write to a FIFO too, and opens it for reading.
func (n *tester) addFIFO(path string) *os.File {
	n.t.Helper()
	n.mu.Lock()
	n.reconfigureFIFO(path)
	n.mu.Unlock()
	reader, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { reader.Close() })
	return reader
}

// reads wants this from a FIFO.
func (n *tester) reads(reader *os.File, want string) {
	n.t.Helper()
	if err := reader.SetReadDeadline(time.Now().Add(60 * time.Second)); err != nil {
		n.t.Fatal(err)
	}
	got := make([]byte, len(want))
	if m, err := io.ReadFull(reader, got); err != nil || string(got) != want {
		n.t.Errorf("read %q (%v), want %q", got[:m], err, want)
	}
}

// TestFIFO: lines as Keepalived writes them, for whoever reads.
func TestFIFO(t *testing.T) {
	t.Parallel()
	n := startNotifier(t, time.Minute)
	path := filepath.Join(n.dir, "fifo")
	reader := n.addFIFO(path)
	n.send(instanceNotice(master))
	n.send(notice{state: "FAULT"})
	n.reads(reader, "INSTANCE \"VI_1\" MASTER 100\nINSTANCE \"VI_1\" FAULT 0\n")
	if info, err := os.Stat(path); err != nil || info.Mode() != os.ModeNamedPipe|0o600 {
		t.Errorf("the FIFO has mode %v (%v)", info.Mode(), err)
	}
	// Whoever reads may remove it and make it again.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	n.send(notice{state: "BACKUP"})
	n.reads(again, "INSTANCE \"VI_1\" BACKUP 0\n")

	file := filepath.Join(n.dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err := openFIFO(file); err == nil {
		f.Close()
		t.Error("an ordinary file is taken for a FIFO")
	}
	if err := os.Symlink(path, file+"2"); err != nil {
		t.Fatal(err)
	}
	if f, err := openFIFO(file + "2"); err == nil {
		f.Close()
		t.Error("a symbolic link is followed")
	}
}

// TestFIFOWithoutReader: nothing waits, the last line comes once somebody
// reads, and the end of the daemon does not wait for that.
func TestFIFOWithoutReader(t *testing.T) {
	t.Parallel()
	n := startNotifier(t, time.Minute)
	path := filepath.Join(n.dir, "fifo")
	reader := n.addFIFO(path)
	n.fill(path)
	for range 1 + maxNotify { // one of them may be being written
		n.send(notice{state: "BACKUP", priority: 100})
	}
	n.send(notice{state: "MASTER", priority: 100})
	if !strings.Contains(n.log.String(), "too slow") {
		t.Errorf("no word about lines that were not written: %s", n.log.String())
	}
	var got []byte
	buf := make([]byte, 64<<10)
	until(t, "the last line", func() bool {
		m, err := reader.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, buf[:m]...)
		return bytes.HasSuffix(got, []byte("INSTANCE \"VI_1\" MASTER 100\n"))
	})
	n.fill(path)
	n.send(notice{state: "STOP"})
	begin := time.Now()
	n.stop()
	if took := time.Since(begin); took > stopFIFO+30*time.Second {
		t.Errorf("the end took %v", took)
	}
	if log := n.log.String(); !strings.Contains(log, "state=STOP") && !strings.Contains(log, "the end is not told") {
		t.Errorf("no word about the end: %s", log)
	}
}

// fill writes to a FIFO until there is no room for a line.
func (n *tester) fill(path string) {
	n.t.Helper()
	fd, err := syscall.Open(path, syscall.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		n.t.Fatal(err)
	}
	defer syscall.Close(fd)
	for size := 4096; size > 0; size /= 2 {
		for err = nil; err == nil; {
			_, err = syscall.Write(fd, bytes.Repeat([]byte{'\n'}, size))
		}
		if err != syscall.EAGAIN {
			n.t.Fatal(err)
		}
	}
}

// TestFIFOLater: a FIFO whose directory is not there yet is an error of the log, and
// gets what was to be told when it is.
func TestFIFOLater(t *testing.T) {
	t.Parallel()
	n := startNotifier(t, time.Minute)
	dir := filepath.Join(n.dir, "later")
	path := filepath.Join(dir, "fifo")
	n.reconfigure(notifyConfig{Listeners: config.Listeners{NotifyFIFO: path}})
	if logged := n.log.String(); !strings.Contains(logged, "level=ERROR") || !strings.Contains(logged, "no such file or directory") {
		t.Errorf("logged %q", logged)
	}
	for _, s := range []string{"BACKUP", "MASTER"} {
		n.send(notice{state: s, priority: 100})
	}
	until(t, "it is tried again", func() bool { return strings.Contains(n.log.String(), "retry=") })
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var reader *os.File
	until(t, "there is a FIFO", func() (ok bool) {
		var err error
		// It is made before the notifier opens it: for reading alone that would be its end.
		reader, err = os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0)
		return err == nil
	})
	defer reader.Close()
	n.reads(reader, n.line(notice{state: "BACKUP", priority: 100})+n.line(notice{state: "MASTER", priority: 100}))
}

// TestFIFOErrorIsLoggedOnce: why a line waits is in the log once, however long that lasts.
func TestFIFOErrorIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		n := newNotifier(notifyConfig{kind: kindInstance, name: "VI_1"}, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
		f := &fifo{path: filepath.Join(t.TempDir(), "missing", "fifo")}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		f.tell(ctx, n, notice{state: "MASTER"})
		warnings := strings.Count(log.String(), `level=WARN msg="not written to the FIFO yet"`)
		if again := strings.Count(log.String(), `level=DEBUG msg="not written to the FIFO yet"`); warnings != 1 || again < 10 {
			t.Errorf("said %d times as a warning and %d times at debug, want 1 and many:\n%s", warnings, again, log.String())
		}
	})
}
