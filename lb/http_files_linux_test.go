package lb

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// TestReadFilesOfOthers: a file that this user may not read is named, with the rule that wants it.
func TestReadFilesOfOthers(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "closed")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(folder, "file")
	if err := os.WriteFile(file, []byte(htpasswdText()), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := HandlerConfig{Rules: Rules{Sorry: &Page{File: file}, Auth: &BasicAuth{File: file}}}
	var err error
	asNobody(t, folder, func() { _, err = cfg.ReadFiles(nil) })
	for _, want := range []string{"Sorry.File: ", "Auth.File: ", file, "permission denied"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
}

// asNobody calls f on a thread that may not look into a folder: as another user if this one is
// root, and else without the right to.
func asNobody(t *testing.T, folder string, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		if err := os.Chmod(folder, 0); err != nil {
			t.Fatal(err)
		}
		defer os.Chmod(folder, 0o700)
		f()
		return
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its user
		err := syscall.Setfsuid(65534)
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
