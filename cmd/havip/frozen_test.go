package main

import (
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestFrozen: a process that has a socket, but does not run, keeps no command waiting for
// longer than patience, however long its work may take.
func TestFrozen(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket) // nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var asking sync.WaitGroup
	defer asking.Wait()
	for _, args := range [][]string{
		{"status"}, {"events"}, {"explain"}, {"resign", "VI_1"}, {"maintenance", "on"}, {"priority", "VI_1", "90"}, {"drain", "web", "a"},
		{"weight", "web", "a", "2"}, {"check", "now", "a"}, {"reload"}, {"reload", "--dry-run"}, {"alarm", "test", "ops"}, {"log", "level", "info"},
	} {
		asking.Go(func() { // all at once: each takes as long as patience
			began := time.Now()
			o := havip(t.Context(), append(args, "--socket", socket)...)
			if took := time.Since(began); o.code != 1 || !strings.Contains(o.err, "in time: it may be frozen") || took > 3*patience {
				t.Errorf("%v after %v: %+v, want code 1, and that it may be frozen", args, took, o)
			}
		})
	}
}
