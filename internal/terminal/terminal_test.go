package terminal

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestNoTerminal: a file and a pipe are as wide as the text, and have no color.
func TestNoTerminal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, w := range []io.Writer{f, &strings.Builder{}} {
		if Width(w) != 0 || Color(w, func(string) string { return "" }) {
			t.Errorf("%T is a terminal", w)
		}
	}
	if CanWatch(f, f) {
		t.Error("a file can be watched on")
	}
}

// full accepts so many writes.
type full struct{ n int }

func (f *full) Write(p []byte) (int, error) {
	if f.n--; f.n < 0 {
		return 0, errors.New("full")
	}
	return len(p), nil
}

// TestRepeat prints at each interval, and at once when something has changed, but not
// more often than the pause permits.
func TestRepeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var at []time.Duration
		changed := make(chan struct{}, 1)
		w := Watch{Interval: 2 * time.Second, Changed: changed, Fetch: func(context.Context) Show {
			at = append(at, time.Since(began))
			if len(at) == 2 {
				changed <- struct{}{}
			}
			return func(width int) string { return "text" }
		}}
		if err := w.Repeat(t.Context(), &full{3}); err == nil {
			t.Error("no error of the writer")
		}
		want := []time.Duration{0, 2 * time.Second, 2*time.Second + pause, 4*time.Second + pause}
		for i := range want {
			if i >= len(at) || at[i] != want[i] {
				t.Fatalf("fetched at %v, want %v", at, want)
			}
		}
	})
}
