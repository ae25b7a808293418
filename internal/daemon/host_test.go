package daemon

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/lab"
)

// TestThisHost: the loopback interface is there with its address, and what is said of
// a program has its path once.
func TestThisHost(t *testing.T) {
	h, err := ThisHost()
	if err != nil {
		t.Fatal(err)
	}
	loopback := false
	for _, addresses := range h.Interfaces {
		loopback = loopback || slices.Contains(addresses, netip.MustParseAddr("127.0.0.1"))
	}
	if !loopback {
		t.Errorf("no interface has 127.0.0.1: %v", h.Interfaces)
	}
	if err := h.Program(config.Program{Path: "/bin/true"}); err != nil {
		t.Errorf("/bin/true: %v", err)
	}
	err = h.Program(config.Program{Path: "/no/such/program"})
	if err == nil || strings.Contains(err.Error(), "/no/such/program") || !strings.Contains(err.Error(), "no such file") || errors.Is(err, healthcheck.ErrCannotRun) {
		t.Errorf("a missing program: %v", err)
	}
}

// TestLookUpGroup: a group that is missing is named with what makes it.
func TestLookUpGroup(t *testing.T) {
	for name, want := range map[string]string{"4711": "<nil>", "no-such-group-here": "groupadd --system no-such-group-here"} {
		if got := fmt.Sprint(lookUpGroup(name)); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// TestLookAtFolder: a folder that is missing is named with what makes it.
func TestLookAtFolder(t *testing.T) {
	dir := t.TempDir()
	file, missing := filepath.Join(dir, "file"), filepath.Join(dir, "missing")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{dir: "<nil>", missing: "no directory " + missing + ": mkdir -p " + missing, file: file + " is no directory"} {
		if got := fmt.Sprint(lookAtFolder(path)); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// TestLookAtFIFO: what is in the way of a FIFO is found without making one.
func TestLookAtFIFO(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	there, missing := filepath.Join(dir, "there"), filepath.Join(dir, "missing")
	f, err := openFIFO(there)
	if err != nil {
		lab.Lacking(t, err.Error()) // not on this system
	}
	defer f.Close()
	for path, want := range map[string]string{
		there: "<nil>", missing: "<nil>", file: "not a FIFO", filepath.Join(missing, "x"): "mkdir -p " + missing, filepath.Join(file, "x"): "not a directory",
	} {
		if got := fmt.Sprint(lookAtFIFO(path)); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	if _, err := os.Lstat(missing); err == nil {
		t.Error("it was made")
	}
}
