package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/lab/labtest"
	"github.com/havip/havip/vrrp"
)

// keeping is a daemon that has not begun, with a folder for its state.
func keeping(t *testing.T, folder string) *Daemon {
	t.Helper()
	d, err := New(&config.Config{}, nil, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	d.KeepState(folder)
	return d
}

// A maintenance outlives its process, with its time and its reason, until it is ended.
func TestMaintenanceOutlivesARestart(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "made", "on demand")
	first := keeping(t, folder)
	if first.Maintenance() != nil {
		t.Fatal("a maintenance from nowhere")
	}
	if warning, err := first.SetMaintenance(true, "new disks"); warning != "" || err != nil {
		t.Fatal(warning, err)
	}
	began := first.Maintenance().Since
	if _, err := first.SetMaintenance(true, "and new fans"); err != nil {
		t.Fatal(err)
	}
	second := keeping(t, folder)
	m := second.Maintenance()
	if m == nil || !m.Since.Equal(began) || m.Reason != "and new fans" || !m.Lasting {
		t.Fatalf("after a restart: %+v, want one since %v", m, began)
	}
	if warning, err := second.SetMaintenance(false, ""); warning != "" || err != nil || second.Maintenance() != nil {
		t.Fatal(warning, err, second.Maintenance())
	}
	if m := keeping(t, folder).Maintenance(); m != nil {
		t.Errorf("ended, and back: %+v", m)
	}
	if names, err := os.ReadDir(folder); err != nil || len(names) != 0 {
		t.Errorf("left in the folder: %v, %v", names, err)
	}
	if _, err := second.SetMaintenance(true, "two\nlines"); err == nil || second.Maintenance() != nil {
		t.Errorf("a reason of two lines: %v, %+v", err, second.Maintenance())
	}
}

// That the note is there is what counts, whatever is in it.
func TestDamagedNoteIsAMaintenance(t *testing.T) {
	write := func(text string) func(string) error {
		return func(path string) error { return os.WriteFile(path, []byte(text), 0o600) }
	}
	for _, tc := range []struct {
		name string
		make func(path string) error
		on   bool
	}{
		{"nothing", func(string) error { return nil }, false},
		{"empty, as after a loss of power", write(""), true},
		{"half of it", write(`{"since":"2026-11-2`), true},
		{"without a time", write(`{}`), true},
		{"of another kind", write(`[1]`), true},
		{"too long", write(`{"since":"2026-11-27T00:00:00Z","reason":"` + strings.Repeat("x", 2*maxNote) + `"}`), true},
		{"a folder", func(path string) error { return os.Mkdir(path, 0o700) }, true},
		{"a FIFO that nobody writes to", func(path string) error { return syscall.Mkfifo(path, 0o600) }, true},
		{"a link to nowhere", func(path string) error { return os.Symlink("nowhere", path) }, true},
		{"something else in the place of the folder", func(path string) error {
			folder := filepath.Dir(path)
			return errors.Join(os.Remove(folder), os.WriteFile(folder, nil, 0o600))
		}, false},
	} {
		folder := t.TempDir()
		if err := tc.make(filepath.Join(folder, maintenanceFile)); err != nil {
			t.Fatal(err)
		}
		m := keeping(t, folder).Maintenance()
		if (m != nil) != tc.on {
			t.Errorf("%s: %+v, want a maintenance: %v", tc.name, m, tc.on)
		}
		if m != nil && (m.Since.IsZero() || time.Since(m.Since) > time.Hour) {
			t.Errorf("%s: since %v", tc.name, m.Since)
		}
	}
}

// Where it cannot be noted down a maintenance takes effect all the same, and says so.
func TestMaintenanceThatDoesNotLast(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for folder, want := range map[string]string{file: "not a directory", "": "admin.state is off"} {
		d := keeping(t, folder)
		warning, err := d.SetMaintenance(true, "")
		if m := d.Maintenance(); err != nil || m == nil || m.Lasting || !strings.Contains(warning, "a restart ends it") || !strings.Contains(warning, want) {
			t.Errorf("%q: %+v, %q, %v", folder, m, warning, err)
		}
		if _, err := d.SetMaintenance(false, ""); err != nil || d.Maintenance() != nil {
			t.Errorf("%q: does not end: %v", folder, err)
		}
	}
}

// A note that cannot be removed is told of for as long as it is there.
func TestNoteStays(t *testing.T) {
	folder := t.TempDir()
	inside := filepath.Join(folder, maintenanceFile, "inside") // root, too, cannot remove a folder with something in it
	if err := os.MkdirAll(inside, 0o700); err != nil {
		t.Fatal(err)
	}
	d := keeping(t, folder)
	if d.Maintenance() == nil || d.NoteStays() {
		t.Fatal("want a maintenance, whose note has to stay")
	}
	warning, err := d.SetMaintenance(false, "")
	if err != nil || !strings.Contains(warning, "a restart begins it again") || !d.NoteStays() {
		t.Errorf("%q, %v, stays %v", warning, err, d.NoteStays())
	}
	if err := os.Remove(inside); err != nil {
		t.Fatal(err)
	}
	if warning, err := d.SetMaintenance(false, ""); err != nil || warning != "" || d.NoteStays() {
		t.Errorf("removed now: %q, %v, stays %v", warning, err, d.NoteStays())
	}
}

// What a node that gives its addresses away knows of those who may take them.
func TestAloneWarning(t *testing.T) {
	now := time.Now()
	heard := vrrp.Peer{Address: netip.MustParseAddr("192.168.31.241"), LastHeard: now.Add(-5 * time.Second)}
	for name, tt := range map[string]struct {
		peers []vrrp.Peer
		want  string
	}{
		"nobody was ever there": {nil, "no other router of VI_1 was heard, but a Backup is silent: if there is none, nobody has 192.168.31.250 now"},
		"one was, and left": {[]vrrp.Peer{heard},
			"192.168.31.241 of VI_1 left 5s ago, and was not heard since, but a Backup is silent: if it is not back, nobody has 192.168.31.250 now"},
	} {
		if got := aloneWarning("VI_1", []string{"192.168.31.250"}, tt.peers, now); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
	if got := aloneWarning("VI_1", nil, nil, now); !strings.HasSuffix(got, "nobody has its place now") {
		t.Errorf("without addresses: %q", got)
	}
}

// After a reload the note is where the file says.
func TestNoteMoves(t *testing.T) {
	old, next := t.TempDir(), t.TempDir()
	d := startFrom(t, &config.Config{}, slog.New(slog.DiscardHandler))
	d.KeepState(old)
	if _, err := d.SetMaintenance(true, "why not"); err != nil {
		t.Fatal(err)
	}
	d.KeepState(next)
	if _, err := os.Lstat(filepath.Join(old, maintenanceFile)); !os.IsNotExist(err) {
		t.Errorf("left in the folder of before: %v", err)
	}
	if m := keeping(t, next).Maintenance(); m == nil || m.Reason != "why not" {
		t.Errorf("in the next folder: %+v", m)
	}
	d.KeepState("")
	if m := d.Maintenance(); m == nil || m.Lasting {
		t.Errorf("without a folder: %+v", m)
	}
}

// A note that another process has left where a reload has the state from now on begins no
// maintenance now, but would at the next start: that is said.
func TestOldNoteInTheNextFolder(t *testing.T) {
	old, next := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(next, maintenanceFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	out := &labtest.Log{}
	d := startFrom(t, &config.Config{}, slog.New(slog.NewTextHandler(out, nil)))
	said := func() int { return strings.Count(out.String(), "the next start begins it") }
	for i, folder := range []string{old, "", next, next, old, next} {
		d.KeepState(folder)
		want := []int{0, 0, 1, 1, 1, 2}[i]
		d.log.Info("folder", "n", i)
		until(t, "the log has come so far", func() bool { return strings.Contains(out.String(), fmt.Sprintf("msg=folder n=%d", i)) })
		if said() != want || d.Maintenance() != nil {
			t.Errorf("%q: said %d times, want %d; %+v", folder, said(), want, d.Maintenance())
		}
	}
}

// Who reads the note finds the old one or the new one, and who is stopped in the middle
// leaves neither half.
func TestNoteIsWhole(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, maintenanceFile)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 200 {
			if err := writeDurably(path, fmt.Appendf(nil, `{"since":"2026-11-27T00:00:00Z","reason":"%d %s"}`, i, strings.Repeat("x", 1000))); err != nil {
				t.Error(err)
			}
		}
	}()
	for {
		if n, there, err := readNote(path); there && (err != nil || !strings.HasSuffix(n.Reason, "x")) {
			t.Fatalf("%+v, %v", n, err)
		}
		select {
		case <-done:
			if info, err := os.Lstat(path); err != nil || info.Mode().Perm()&fs.FileMode(0o022) != 0 {
				t.Errorf("%v, %v", info, err)
			}
			return
		default:
		}
	}
}

// FuzzNote: whatever is in the note, reading it ends, and gives a time.
func FuzzNote(f *testing.F) {
	f.Add([]byte(`{"since":"2026-11-27T12:00:00Z","reason":"new disks"}`)) // as it is written
	f.Add([]byte(`{"since":"0001-01-01T00:00:00Z"}`))                      // the zero time
	f.Add([]byte(`{"since":5}`))                                           // of another type
	f.Add([]byte{})                                                        // empty
	f.Fuzz(func(t *testing.T, text []byte) {
		n := maintenanceNote{Since: time.Unix(1, 0)}
		if err := n.parse(text); err != nil && n != (maintenanceNote{Since: time.Unix(1, 0)}) || n.Since.IsZero() {
			t.Errorf("%+v, %v", n, err)
		}
	})
}
