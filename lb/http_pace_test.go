package lb

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// A client may fall behind the least rate by MinRateGrace, and no further, however fast it was
// before.
func TestPace(t *testing.T) {
	cfg := &HandlerConfig{ClientTimeout: time.Minute, Rules: Rules{MinRate: 100, MinRateGrace: 10 * time.Second}}
	type step struct {
		waited time.Duration
		n      int
	}
	for _, tt := range []struct {
		name  string
		steps []step
		want  time.Duration // for which the client may be awaited then
	}{
		{"at the beginning", nil, 10 * time.Second},
		{"at the rate", []step{{time.Second, 100}, {3 * time.Second, 300}}, 10 * time.Second},
		{"behind the rate", []step{{4 * time.Second, 100}}, 7 * time.Second},
		{"a byte now and then", []step{{3 * time.Second, 1}, {3 * time.Second, 1}, {3 * time.Second, 1}}, time.Second + 30*time.Millisecond},
		{"fast once, silent now", []step{{0, 1 << 30}, {6 * time.Second, 0}}, 4 * time.Second},
		{"too slow", []step{{11 * time.Second, 10}}, leastWait},
	} {
		var p pace
		cfg.patience(&p)
		for _, s := range tt.steps {
			cfg.notePace(&p, s.waited, s.n)
		}
		if got := cfg.patience(&p); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
		if cfg.isSlow(&p, tt.want-1) != (tt.want == leastWait) || !cfg.isSlow(&p, tt.want) {
			t.Errorf("%s: it is not slow when that has passed, or before", tt.name)
		}
	}
	if got := (&HandlerConfig{ClientTimeout: time.Minute}).patience(new(pace)); got != time.Minute {
		t.Errorf("without a rate: %v", got)
	}
}

// upload sends a body of a length in pieces of a size, with pauses, and returns the status of the
// answer.
func (s *trapSite) upload(t *testing.T, length, piece int, pause time.Duration) int {
	t.Helper()
	over := make(chan struct{})
	var sending sync.WaitGroup
	defer sending.Wait()
	defer close(over)
	send := func(w io.WriteCloser) {
		for sent := 0; sent < length; sent += piece {
			select {
			case <-over:
				return
			case <-time.After(pause):
			}
			if _, err := w.Write(make([]byte, min(piece, length-sent))); err != nil {
				return
			}
		}
		if s.client != nil {
			w.Close()
		}
	}
	if s.client == nil {
		c := newReader(t, strings.TrimPrefix(s.url, "http://"))
		fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", length)
		sending.Go(func() { send(c.Conn) })
		status, _ := c.status(t)
		return status
	}
	pr, pw := io.Pipe()
	defer pr.Close()
	sending.Go(func() { send(pw) })
	client := *s.client
	client.Timeout = bound
	res, err := client.Post(s.url, "text/plain", pr)
	if err != nil {
		t.Error(err)
		return 0
	}
	res.Body.Close()
	return res.StatusCode
}

// TestLeastRateOfBodies: a client that sends a byte now and then is ended, and a slow one that
// keeps to the rate is not.
func TestLeastRateOfBodies(t *testing.T) {
	for _, front := range trapFronts() {
		for _, buffering := range []Buffering{BufferingOff, BufferingOn} {
			for _, tt := range []struct {
				name          string
				rules         Rules
				length, piece int
				pause         time.Duration
				want          int
			}{
				{"trickling", Rules{MinRate: 1000, MinRateGrace: 300 * time.Millisecond}, 1 << 20, 1, 20 * time.Millisecond, 408},
				{"steady", Rules{MinRate: 10, MinRateGrace: 4 * time.Second}, 5000, 100, 100 * time.Millisecond, 200},
				{"any rate", Rules{}, 20, 1, 20 * time.Millisecond, 200},
			} {
				t.Run(fmt.Sprintf("%s/%s/buffering %v", front.name, tt.name, buffering), func(t *testing.T) {
					t.Parallel() // they wait
					records := make(chan Record, 1)
					tt.rules.Buffering, tt.rules.BufferFolder = buffering, t.TempDir()
					s := front.serve(t, HandlerConfig{Rules: tt.rules, ClientTimeout: 4 * time.Second, Record: func(r Record) { records <- r }},
						webBackend(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
					if got := s.upload(t, tt.length, tt.piece, tt.pause); got != tt.want {
						t.Errorf("status %d, want %d", got, tt.want)
					}
					if r := nextRecord(t, records); strings.Contains(r.Reason, errBodySlow.Error()) != (tt.want == 408) {
						t.Errorf("the record says %q", r.Reason)
					}
					if st := s.pool.Status().Backends[0]; st.Failures != 0 {
						t.Error("the backend is blamed")
					}
				})
			}
		}
	}
}

// TestSlowReadersAreEnded: a client that reads a byte now and then takes nothing, as far as its
// socket or its stream tell, so ClientTimeout is enough. A slow one that goes on reading is not
// ended.
func TestSlowReadersAreEnded(t *testing.T) {
	for _, front := range trapFronts() {
		for _, tt := range []struct {
			name    string
			timeout time.Duration // ClientTimeout
			piece   int
			pause   time.Duration
			ended   bool
		}{
			{"trickling", time.Second, 1, 50 * time.Millisecond, true},
			{"steady", 4 * time.Second, 256 << 10, 100 * time.Millisecond, false},
		} {
			t.Run(front.name+"/"+tt.name, func(t *testing.T) {
				t.Parallel() // they wait
				records := make(chan Record, 1)
				s := front.serve(t, HandlerConfig{ClientTimeout: tt.timeout, Record: func(r Record) { records <- r }},
					webBackend(t, func(w http.ResponseWriter, r *http.Request) {
						for p := make([]byte, 64<<10); r.Context().Err() == nil; {
							if _, err := w.Write(p); err != nil {
								return
							}
						}
					}))
				from := s.download(t)
				deadline := time.Now().Add(tt.timeout + time.Second)
				if tt.ended {
					deadline = time.Now().Add(bound)
				}
				for p := make([]byte, tt.piece); time.Now().Before(deadline) && len(records) == 0; time.Sleep(tt.pause) {
					_, _ = io.ReadFull(from, p)
				}
				if ended := len(records) > 0; ended != tt.ended {
					t.Errorf("ended: %v, want %v", ended, tt.ended)
				}
			})
		}
	}
}

// download begins to read a response.
func (s *trapSite) download(t *testing.T) io.Reader {
	t.Helper()
	if s.client == nil {
		c := newReader(t, strings.TrimPrefix(s.url, "http://"))
		io.WriteString(c, aGet)
		return c.Conn
	}
	res, err := s.client.Get(s.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res.Body
}

// passedBody brings a byte, and then the end of a deadline that passed meanwhile.
type passedBody struct{ reads int }

func (b *passedBody) Read(p []byte) (int, error) {
	if b.reads++; b.reads == 1 {
		return copy(p, "x"), nil
	}
	return 0, os.ErrDeadlineExceeded
}

func (*passedBody) Close() error { return nil }

// TestDeadlineThatHasPassed: a deadline of net/http may pass just when a piece of the body comes.
// The next read fails at once then, and the client is late all the same.
func TestDeadlineThatHasPassed(t *testing.T) {
	for name, tt := range map[string]struct {
		rules Rules
		want  string
	}{
		"time": {Rules{}, os.ErrDeadlineExceeded.Error()},
		"rate": {Rules{MinRate: 10, MinRateGrace: time.Second}, errBodySlow.Error()},
	} {
		for _, buffering := range []Buffering{BufferingOff, BufferingOn} {
			tt.rules.Buffering, tt.rules.BufferFolder = buffering, t.TempDir()
			var record Record
			h, err := NewHandler(HandlerConfig{Rules: tt.rules, Pool: newPool(t, PoolConfig{Backends: []Backend{rawBackend(t, discard)}}),
				Record: func(r Record) { record = r }})
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest(http.MethodPost, "/", &passedBody{})
			r.ContentLength = 5
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != http.StatusRequestTimeout || !strings.Contains(record.Reason, tt.want) {
				t.Errorf("%s, buffering %v: status %d, %q", name, buffering, w.Code, record.Reason)
			}
		}
	}
}
