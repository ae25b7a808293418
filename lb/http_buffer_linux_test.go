package lb

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/lb/internal/h1"
)

// environ returns a file that read(2) reads but sendfile(2) does not, as there are file systems:
// what a program has for an environment. It has more than size bytes.
func environ(t *testing.T, size int) (path string) {
	t.Helper()
	c := exec.Command("sleep", "60")
	c.Env = []string{"A=" + strings.Repeat("a", size)}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	path = fmt.Sprintf("/proc/%d/environ", c.Process.Pid)
	waitFor(t, "the program to have its environment", func() bool {
		b, err := os.ReadFile(path)
		return err == nil && len(b) > size
	})
	return path
}

// descriptorIn returns the descriptor of the one file in a folder that this process has open.
func descriptorIn(t *testing.T, folder string) (fd int) {
	t.Helper()
	waitFor(t, "a file in "+folder, func() bool {
		all, _ := filepath.Glob("/proc/self/fd/*")
		for _, link := range all {
			if to, _ := os.Readlink(link); strings.HasPrefix(to, folder+"/") {
				_, err := fmt.Sscan(filepath.Base(link), &fd)
				return err == nil
			}
		}
		return false
	})
	return fd
}

// TestFileThatCannotBeSent: where sendfile(2) does not work a body is copied, and one that cannot
// be read any more is no failure of the backend, nor does anybody wait for the rest.
func TestFileThatCannotBeSent(t *testing.T) {
	const size = 100 << 10
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, fd int)
		want  int
	}{
		{"the file system has no sendfile", func(t *testing.T, fd int) { putFile(t, environ(t, size), fd) }, 200},
		{"and the file is shorter than it was", func(t *testing.T, fd int) { putFile(t, environ(t, size/2), fd) }, 502},
		{"the file is shorter than it was", func(t *testing.T, fd int) {
			if err := unix.Ftruncate(fd, size/2); err != nil {
				t.Fatal(err)
			}
		}, 502},
	} {
		for _, f := range bufferFronts() {
			got, goOn := make(chan string, 2), make(chan struct{})
			b := webBackend(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == "GET" {
					<-goOn
					return
				}
				content, _ := io.ReadAll(r.Body)
				got <- string(content)
			})
			b.MaxConns = 1
			s := f.serve(t, HandlerConfig{Timeout: bound, Pool: newPool(t, PoolConfig{Backends: []Backend{b}, Queue: 1, QueueTimeout: bound})})
			s.begin(t, aGet)
			// The body waits for its backend, and nobody touches the file meanwhile.
			c := s.begin(t, fmt.Sprintf("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\nA=%s", size, strings.Repeat("a", size-2)))
			waitFor(t, f.name+": the request to wait", func() bool { return s.handler.pool().Status().Queued == 1 })
			tt.spoil(t, descriptorIn(t, s.folder))
			start := time.Now()
			close(goOn)
			res, err := http.ReadResponse(c.r, nil)
			if err != nil {
				t.Fatalf("%s, %s: %v", f.name, tt.name, err)
			}
			if res.StatusCode != tt.want || time.Since(start) > bound/2 {
				t.Errorf("%s, %s: status %d after %v, want %d", f.name, tt.name, res.StatusCode, time.Since(start), tt.want)
			}
			if content := <-got; tt.want == 200 && content != "A="+strings.Repeat("a", size-2) {
				t.Errorf("%s, %s: the backend gets %d bytes", f.name, tt.name, len(content))
			}
			if st := s.handler.pool().Status().Backends[0]; st.Failures != 0 {
				t.Errorf("%s, %s: the backend is blamed", f.name, tt.name)
			}
		}
	}
}

// putFile makes a descriptor one of another file.
func putFile(t *testing.T, path string, fd int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Dup3(int(f.Fd()), fd, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
}

// TestReadsOfABodyAreBounded: what follows a body is not read far ahead, however much there is.
func TestReadsOfABodyAreBounded(t *testing.T) {
	p := make([]byte, scratchSize)
	for _, tt := range []struct {
		name string
		in   string // of a chunk
		left int64
		head int
		want int
	}{
		{"much is left", "", 1 << 40, 100, scratchSize},
		{"little is left", "", 10, 100, 10 + headSize - 100},
		{"behind a long head", "", 10, 2 * headSize, 10 + leastAhead},
		{"in a large chunk", "100000\r\n", h1.Chunked, 100, scratchSize},
		{"in a small chunk", "10\r\n", h1.Chunked, 100, 16 + headSize - 100},
		{"between chunks", "", h1.Chunked, 100, headSize - 100},
	} {
		c := &httpConn{t: new(httpTurn)}
		c.t.body = tt.head
		c.t.up.begin(tt.left, false)
		if _, _, err := c.t.up.take(nil, []byte(tt.in), 1<<10); err != nil {
			t.Fatal(err)
		}
		if got := len(c.roomForBody(p)); got != tt.want {
			t.Errorf("%s: %d bytes, want %d", tt.name, got, tt.want)
		}
	}
}

// TestParkedConnectionsKeepLittle: whatever memory the request before has needed.
func TestParkedConnectionsKeepLittle(t *testing.T) {
	for _, size := range []int{headSize, headSize + 1, 8 * headSize} {
		c := &httpConn{in: append(make([]byte, 0, size), "GET /"...)}
		c.l = new(httpLoop)
		if c.park(); cap(c.in) > 100 || string(c.in) != "GET /" {
			t.Errorf("%d bytes of memory become %d for %q", size, cap(c.in), c.in)
		}
	}
}

// TestTrailersOfBothBodies: those of a response that ends before its request is sent are not the
// request's.
func TestTrailersOfBothBodies(t *testing.T) {
	var turn httpTurn
	take := func(s *bodyStream, trailer string) {
		s.begin(h1.Chunked, false)
		if _, _, err := s.take(nil, []byte("0\r\n"+trailer+"\r\n\r\n"), 1<<10); err != nil || !s.over {
			t.Fatal(s.over, err)
		}
		if err := turn.parseTrailer(s, 1<<10, 10); err != nil {
			t.Fatal(err)
		}
	}
	take(&turn.up, "X-Up: 1")
	take(&turn.down, "X-Down: 2")
	for name, s := range map[string]*bodyStream{"X-Up": &turn.up, "X-Down": &turn.down} {
		if fields := s.section.Fields; len(fields) != 1 || fields[0].Name != name {
			t.Errorf("%s: %v", name, fields)
		}
	}
	turn.up.begin(h1.Chunked, false)
	if fields := turn.up.section.Fields; len(fields) != 0 || !bytes.Equal(turn.up.trailer, nil) {
		t.Errorf("another body begins with %v, %q", fields, turn.up.trailer)
	}
}
