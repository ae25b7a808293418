package lb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// targeted is a record of a request for a target.
func targeted(target string) Record {
	r := aRecord()
	r.HTTP.Target = target
	return r
}

// linesIn waits until a file has what it should, in lines, and returns it.
func linesIn(t *testing.T, path string, lines int) string {
	t.Helper()
	var b []byte
	waitFor(t, fmt.Sprintf("%d lines in %s", lines, path), func() bool {
		b, _ = os.ReadFile(path)
		return bytes.Count(b, []byte("\n")) >= lines
	})
	return string(b)
}

func openAccessLog(t *testing.T, cfg AccessLogConfig) *AccessLog {
	t.Helper()
	l, err := NewAccessLog(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// TestAccessLogReopens as logrotate wants it: until Reopen lines go to the file that was moved
// away, and all go to the new one from then on. No line is lost, however many there are
// meanwhile.
func TestAccessLogReopens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web.log")
	l := openAccessLog(t, AccessLogConfig{Path: path, Format: AccessJSON})
	l.Record(targeted("/first"))
	linesIn(t, path, 1)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	l.Record(targeted("/moved"))
	linesIn(t, path+".1", 2)
	var writers sync.WaitGroup
	const each = 500
	for range 4 {
		writers.Go(func() {
			for range each {
				l.Record(targeted("/meanwhile"))
			}
		})
	}
	for range 5 {
		if err := l.Reopen(); err != nil {
			t.Error(err)
		}
	}
	writers.Wait()
	l.Record(targeted("/last"))
	if !l.Flush(bound) {
		t.Fatal("not written")
	}
	old, now := linesIn(t, path+".1", 2), linesIn(t, path, 1)
	if !strings.Contains(now, `"/last"`) || strings.Contains(old, `"/last"`) {
		t.Errorf("the new file ends in %q", now[max(0, len(now)-300):])
	}
	if n := strings.Count(old+now, `"/meanwhile"`); n != 4*each || l.Lost() != 0 {
		t.Errorf("%d lines, %d lost, want %d", n, l.Lost(), 4*each)
	}
	// A folder that has gone leaves what is open.
	if err := os.RemoveAll(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "want a file that can be written") {
		t.Errorf("no folder: %v", err)
	}
	if l.Record(targeted("/nowhere")); !l.Flush(bound) || l.Lost() != 0 {
		t.Error("what was open does not go on")
	}
	if err := l.Err(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("trouble with the file: %v", err)
	}
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the file", func() bool { return l.Err() == nil })
	if l.Record(targeted("/again")); !l.Flush(bound) || !strings.Contains(linesIn(t, path, 1), "/again") {
		t.Error("a folder that is back does not have the file")
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := l.Reopen(); err == nil {
		t.Error("a closed one is opened again")
	}
	l.Record(targeted("/late"))
}

func TestAccessLogThatCannotBeOpened(t *testing.T) {
	dir := t.TempDir()
	for name, cfg := range map[string]AccessLogConfig{
		"no folder":        {Path: filepath.Join(dir, "none", "web.log")},
		"a folder":         {Path: dir},
		"nothing":          {},
		"two places":       {Path: filepath.Join(dir, "x"), Writer: io.Discard},
		"no format":        {Writer: io.Discard, Format: 7},
		"a sample below 0": {Writer: io.Discard, Sample: -1},
		"a small buffer":   {Writer: io.Discard, Buffer: 1},
	} {
		if _, err := NewAccessLog(cfg); err == nil || !strings.Contains(err.Error(), "want") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAccessLogOfTwo: several may write to one file, and a FIFO, without tearing one another's
// lines. A FIFO needs no reader before.
func TestAccessLogOfTwo(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "file"), fifo} {
		const each = 300
		var got bytes.Buffer
		a, b := openAccessLog(t, AccessLogConfig{Path: path}), openAccessLog(t, AccessLogConfig{Path: path})
		var writers sync.WaitGroup
		for i, l := range []*AccessLog{a, b} {
			writers.Go(func() {
				for range each {
					l.Record(targeted("/" + strings.Repeat(string(rune('a'+i)), 300)))
				}
			})
		}
		writers.Wait()
		read := make(chan struct{})
		var reader *os.File
		if path == fifo {
			var err error
			if reader, err = os.OpenFile(path, os.O_RDONLY, 0); err != nil {
				t.Fatal(err)
			}
			go func() {
				defer close(read)
				chunk := make([]byte, 1000)
				for bytes.Count(got.Bytes(), []byte("\n")) < 2*each {
					n, err := reader.Read(chunk)
					if got.Write(chunk[:n]); err != nil {
						return
					}
				}
			}()
		}
		if a.Flush(bound); !b.Flush(bound) {
			t.Fatal("not written")
		}
		if path == fifo {
			<-read
			reader.Close()
		} else {
			got.WriteString(linesIn(t, path, 2*each))
		}
		for line := range strings.Lines(got.String()) {
			if !strings.Contains(line, "/"+strings.Repeat("a", 300)+" ") && !strings.Contains(line, "/"+strings.Repeat("b", 300)+" ") || !strings.HasSuffix(line, "\"curl/8\"\n") {
				t.Fatalf("%s: %q", path, line)
			}
		}
	}
}

// gateWriter is one that hangs until it is opened, and then takes all.
type gateWriter struct {
	opened chan struct{}
	bytes.Buffer
}

func (g *gateWriter) Write(p []byte) (int, error) {
	<-g.opened
	return g.Buffer.Write(p)
}

// TestAccessLogNeverWaits: where nobody takes the lines, no request waits. The lines that do
// not fit are counted, and the log is told once, and again when lines are taken.
func TestAccessLogNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told bytes.Buffer
		g := &gateWriter{opened: make(chan struct{})}
		l, err := NewAccessLog(AccessLogConfig{Writer: g, Buffer: 64 << 10, Logger: slog.New(slog.NewTextHandler(&told, nil))})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		const n = 3000
		for range n {
			l.Record(targeted("/"))
		}
		synctest.Wait()
		if d := time.Since(began); d != 0 {
			t.Errorf("it took %v", d)
		}
		if lost := l.Lost(); lost == 0 || lost >= n {
			t.Errorf("%d lost", lost)
		}
		if got := told.String(); strings.Count(got, "access log loses lines") != 1 || !strings.Contains(got, "fast enough") {
			t.Errorf("the log is told %q", got)
		}
		if l.Flush(time.Second) {
			t.Error("nobody has taken the lines")
		}
		if close(g.opened); !l.Flush(time.Minute) {
			t.Error("all lines are taken now")
		}
		if got := uint64(bytes.Count(g.Bytes(), []byte("\n"))); got+l.Lost() != n {
			t.Errorf("%d lines, %d lost of %d", got, l.Lost(), n)
		}
		synctest.Wait()
		if got := told.String(); strings.Count(got, "access log has its lines written again") != 1 {
			t.Errorf("the log is told %q", got)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

// fullDisk is a writer that takes some bytes, and then none until there is room.
type fullDisk struct {
	bytes.Buffer
	room int
}

func (d *fullDisk) Write(p []byte) (int, error) {
	n := min(d.room, len(p))
	d.room -= n
	d.Buffer.Write(p[:n])
	if n < len(p) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

// TestAccessLogOnFullDisk: what does not fit is lost and counted, a line that was written in
// part is ended before the next one, and the file is tried again.
func TestAccessLogOnFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told bytes.Buffer
		d := &fullDisk{room: 1000}
		l, err := NewAccessLog(AccessLogConfig{Writer: d, Logger: slog.New(slog.NewTextHandler(&told, nil))})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			l.Record(targeted(fmt.Sprintf("/%d", i)))
			synctest.Wait()
		}
		l.Flush(time.Minute)
		lost := l.Lost()
		d.room = 1 << 20
		l.Record(targeted("/room"))
		l.Flush(time.Minute)
		synctest.Wait()
		whole := 0
		for line := range strings.Lines(d.String()) {
			if strings.HasSuffix(line, "\"curl/8\"\n") && strings.HasPrefix(line, "192.0.2.1 ") && strings.Count(line, "192.0.2.1") == 1 {
				whole++
			}
		}
		if whole == 0 || uint64(whole)+lost != 21 || l.Lost() != lost {
			t.Errorf("%d whole lines, %d lost, of 21", whole, lost)
		}
		if !strings.HasSuffix(d.String(), "\"curl/8\"\n") || !strings.Contains(d.String(), "\n192.0.2.1 - bob") {
			t.Errorf("%q", d.String())
		}
		if got := told.String(); strings.Count(got, "loses lines") != 1 || !strings.Contains(got, "no space left") || strings.Count(got, "written again") != 1 {
			t.Errorf("the log is told %q", got)
		}
		l.Close()
	})
}

// TestAccessLogThatHangsIsReopened: a file that takes nothing any more, on a network that is
// gone, keeps nobody from going on with another one.
func TestAccessLogThatHangsIsReopened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	l := openAccessLog(t, AccessLogConfig{Path: path})
	waitFor(t, "the FIFO to be full", func() bool {
		for range 1000 {
			l.Record(targeted("/"))
		}
		return l.Lost() > 0
	})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	if got := linesIn(t, path, 100); !strings.HasPrefix(got, "192.0.2.1 - bob [") {
		t.Errorf("%.100q", got)
	}
}
