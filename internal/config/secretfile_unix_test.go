//go:build unix

package config

import (
	"path/filepath"
	"syscall"
	"testing"
)

// TestReadSecretFIFO: a FIFO that nobody writes to is refused, not waited for.
func TestReadSecretFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := readSecretFile(path)
	checkSecret(t, path, got, err, "", "not a regular file")
}
