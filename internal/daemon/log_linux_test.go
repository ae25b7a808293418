package daemon

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/havip/havip/internal/config"
)

// TestLog has the form and the level that the configuration asks for, also for
// what says that lines were lost.
func TestLog(t *testing.T) {
	for format, isLine := range map[string]func(string) bool{
		"text": func(line string) bool { return strings.HasPrefix(line, "time=") },
		"json": func(line string) bool { return json.Valid([]byte(line)) },
	} {
		w := &gate{}
		l, err := NewLog(w, config.Log{Level: "warn", Format: format})
		if err != nil {
			t.Fatal(err)
		}
		l.Info("unheard")
		l.With("router", "VI_1").Warn("heard")
		flush(t, l)
		w.closed = true
		l.Warn("lost")
		flush(t, l)
		w.closed = false
		if err := l.SetLevel("info"); err != nil {
			t.Fatal(err)
		}
		l.Info("heard")
		flush(t, l)
		var words []string
		for line := range strings.Lines(w.String()) {
			if !isLine(line) {
				t.Errorf("%s: line %q", format, line)
			}
			for _, word := range []string{"unheard", "heard", "lost"} {
				if strings.Contains(line, word) {
					words = append(words, word)
					break
				}
			}
		}
		if got := strings.Join(words, " "); got != "heard lost heard" {
			t.Errorf("%s: said %q:\n%s", format, got, w.String())
		}
	}
	if _, err := NewLog(&bytes.Buffer{}, config.Log{Level: "loud"}); err == nil {
		t.Error("there is no level loud")
	}
}

// gate is a buffer that may be closed.
type gate struct {
	bytes.Buffer
	closed bool
}

func (g *gate) Write(p []byte) (int, error) {
	if g.closed {
		return 0, os.ErrClosed
	}
	return g.Buffer.Write(p)
}

// TestOutliveReader: a reader of the log that has gone does not end this process,
// and a program that it starts is still ended by its own.
func TestOutliveReader(t *testing.T) {
	OutliveReader()
	if err := syscall.Kill(os.Getpid(), syscall.SIGPIPE); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("grep", "SigIgn", "/proc/self/status").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, mask, _ := strings.Cut(string(out), ":")
	ignored, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	if ignored&(1<<(syscall.SIGPIPE-1)) != 0 {
		t.Errorf("a program starts with SIGPIPE ignored: %s", out)
	}
}
