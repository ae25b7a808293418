package lb

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestAccessLogReopensUnderLoad: while requests go on the file is moved away and reopened, again
// and again. Each request has one whole line, in one of the files.
func TestAccessLogReopensUnderLoad(t *testing.T) {
	const clients, each = 4, 300
	b := webBackend(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	dir := t.TempDir()
	path := filepath.Join(dir, "access.log")
	l := openAccessLog(t, AccessLogConfig{Path: path})
	var recorded atomic.Int32
	s := planeSite(t, HandlerConfig{Record: func(r Record) { l.Record(r); recorded.Add(1) }}, []Backend{b})
	var load sync.WaitGroup
	for c := range clients {
		load.Go(func() {
			client := newReader(t, strings.TrimPrefix(s.url, "http://"))
			for i := range each {
				if _, got, err := client.ask(t, fmt.Sprintf("GET /%d-%d HTTP/1.1\r\nHost: x\r\n\r\n", c, i)); err != nil || got != "hello" {
					t.Errorf("%q, %v", got, err)
					return
				}
			}
		})
	}
	over := make(chan struct{})
	go func() { load.Wait(); close(over) }()
	moved := 0
	for more := true; more; moved++ {
		if err := os.Rename(path, fmt.Sprint(path, ".", moved)); err != nil {
			t.Fatal(err)
		}
		if err := l.Reopen(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-over:
			more = false
		case <-time.After(5 * time.Millisecond): // there are some lines for the next file
		}
	}
	t.Logf("the file was moved %d times", moved)
	waitFor(t, "the record of each request", func() bool { return recorded.Load() == clients*each }) // the client may be ahead
	if !l.Flush(bound) {
		t.Error("lines wait in vain")
	}
	if moved < 2 {
		t.Errorf("the file was moved %d times", moved)
	}
	files, _ := filepath.Glob(path + "*")
	seen := make(map[string]int)
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(content)) {
			if fields := strings.Fields(line); len(fields) != 12 || !strings.HasSuffix(line, "\n") {
				t.Errorf("%s: a line %q", file, line)
			} else {
				seen[fields[6]]++
			}
		}
	}
	for c := range clients {
		for i := range each {
			if n := seen[fmt.Sprintf("/%d-%d", c, i)]; n != 1 {
				t.Errorf("request %d of client %d has %d lines", i, c, n)
			}
		}
	}
	if l.Lost() != 0 {
		t.Errorf("%d lines are lost", l.Lost())
	}
}
