package lb

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/havip/havip/internal/lab/labtest"
	"github.com/havip/havip/internal/quietlog"
)

// Where a file would be larger than half of what is left beside it, its body goes on as it comes. Nothing
// of it is lost, and the log says which bound that is.
func TestBodiesBeyondTheRoomForThem(t *testing.T) {
	const total = 1 << 20
	large := numbered(3 << 20)
	for _, f := range bufferFronts() {
		for _, chunks := range []bool{false, true} {
			var log labtest.Log
			b := labtest.Record(t, labtest.Answers(anOK))
			s := f.serve(t, HandlerConfig{Rules: Rules{BufferTotal: total}, Logger: slog.New(quietlog.Unblocked(slog.NewTextHandler(&log, nil)))},
				Backend{Address: b.Address})
			head, frame, end := fmt.Sprintf("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", len(large)), "", ""
			if chunks {
				head, frame, end = inOnePut("", ""), fmt.Sprintf("%x\r\n", len(large)), "\r\n0\r\n\r\n"
			}
			c := newReader(t, s.address)
			io.WriteString(c, head+frame)
			_, _ = c.Write(large[:2<<20])
			var got strings.Builder
			waitFor(t, f.name+": the backend to get what has come", func() bool {
				got.WriteString(b.Bytes())
				return got.Len() > 2<<20
			})
			if n := s.handler.settings.Load().bodies.used.Load(); n > total/3 {
				t.Errorf("%s: the file of one body has %d bytes of %d", f.name, n, total)
			}
			_, _ = c.Write(large[2<<20:])
			io.WriteString(c, end+aGet)
			f.answers(t, c, head)
			r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(b.Requests()[0])))
			if err != nil {
				t.Fatal(err)
			}
			if content, err := io.ReadAll(r.Body); !bytes.Equal(content, large) || err != nil || (r.ContentLength < 0) != chunks {
				t.Errorf("%s, chunks %v: length %d, %d bytes, %v", f.name, chunks, r.ContentLength, len(content), err)
			}
			if lines := log.Lines("level=WARN", "buffered=", "allow bodies more", "total=1048576", errStoreShare.Error()); len(lines) != 1 {
				t.Errorf("%s: %q", f.name, log.String())
			}
			waitFor(t, "the file to be closed", func() bool { return s.handler.settings.Load().bodies.used.Load() == 0 })
		}
	}
}

// A request that is under way when settings change ends by those with which it began, and by
// what has become of its backends.
func TestReloadWhileABodyIsBuffered(t *testing.T) {
	for _, f := range bufferFronts() {
		s := f.serve(t, HandlerConfig{}, webBackend(t, name("old")))
		old := s.handler.pool()
		one := s.begin(t, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n"+fiveKB[:3000])
		two := s.begin(t, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n"+fiveKB[:3000])
		cfg := HandlerConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{webBackend(t, name("new"))}}),
			Rules: Rules{Buffering: BufferingOn, BufferFolder: t.TempDir()}}
		if err := s.reconfigure(cfg); err != nil {
			t.Fatal(err)
		}
		io.WriteString(one, fiveKB[3000:]+aGet)
		for _, want := range []string{"old", "new"} {
			if got, content := one.status(t); got != 200 || content != want {
				t.Errorf("%s: %d %q, want %s", f.name, got, content, want)
			}
		}
		// Its pool has other backends by now.
		if err := old.Reconfigure(PoolConfig{Backends: []Backend{webBackend(t, name("other"))}}); err != nil {
			t.Fatal(err)
		}
		io.WriteString(two, fiveKB[3000:])
		if got, content := two.status(t); got != 200 || content != "other" {
			t.Errorf("%s: %d %q, want other", f.name, got, content)
		}
		waitFor(t, "the files to be closed", func() bool { return s.handler.settings.Load().bodies.used.Load() == 0 })
	}
}

// The settings of buffering have bounds.
func TestBufferingSettings(t *testing.T) {
	p := newPool(t, PoolConfig{Backends: backends(1)})
	for field, r := range map[string]Rules{
		"Buffering":    {Buffering: 3},
		"BufferMemory": {BufferMemory: 1000},
		"BufferTotal":  {BufferTotal: 1000},
		"BufferFolder": {BufferFolder: "bodies"},
	} {
		if err := (HandlerConfig{Pool: p, Rules: r}).Validate(); err == nil || !strings.HasPrefix(err.Error(), field+": ") {
			t.Errorf("%s: %v", field, err)
		}
	}
	if b := (HTTPConfig{}).WithDefaults().Buffering; b != BufferingOn {
		t.Errorf("in HTTP it is %v by default", b)
	}
	if b := (HandlerConfig{}).WithDefaults().Buffering; b != BufferingOff {
		t.Errorf("in a Handler it is %v by default", b)
	}
	if info, err := os.Stat(defaultBufferFolder); err != nil || !info.IsDir() {
		t.Errorf("the default folder: %v", err)
	}
}

// A client that leaves in the middle of its body leaves no file behind.
func TestLeavingClientLeavesNoBody(t *testing.T) {
	for _, f := range bufferFronts() {
		s := f.serve(t, HandlerConfig{}, echo(t))
		used := s.handler.settings.Load().bodies.used
		for range 5 {
			c := s.begin(t, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n"+fiveKB[:3000])
			waitFor(t, "the file", func() bool { return used.Load() > 0 })
			reset(c.Conn)
			waitFor(t, f.name+": the request to end", func() bool { return s.handler.Stats().Active == 0 && used.Load() == 0 })
		}
		if st := s.handler.pool().Status().Backends[0]; st.Connects != 0 {
			t.Errorf("%s: %d connections to the backend", f.name, st.Connects)
		}
	}
}
