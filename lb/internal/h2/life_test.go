package h2

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// TestUnprocessed: whether a request may be sent again is what the server has said of it.
func TestUnprocessed(t *testing.T) {
	for _, tt := range []struct {
		name        string
		act         func(s *script)
		unprocessed [2]bool // of the first and the second stream
	}{
		{"refused", func(s *script) {
			s.WriteRSTStream(1, http2.ErrCodeRefusedStream)
			s.WriteRSTStream(3, http2.ErrCodeCancel)
		}, [2]bool{true, false}},
		{"GOAWAY before both", func(s *script) { s.WriteGoAway(0, http2.ErrCodeNo, nil) }, [2]bool{true, true}},
		{"GOAWAY between them", func(s *script) { s.WriteGoAway(1, http2.ErrCodeNo, nil); s.Close() }, [2]bool{false, true}},
		{"GOAWAY after a warning", func(s *script) {
			s.WriteGoAway(1<<31-1, http2.ErrCodeNo, nil)
			s.WriteGoAway(1, http2.ErrCodeEnhanceYourCalm, nil)
			s.Close()
		}, [2]bool{false, true}},
		{"the end without a word", func(s *script) { s.Close() }, [2]bool{false, false}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := start(t, Config{}, func(s *script) {
				s.next(http2.FrameHeaders)
				if s.next(http2.FrameHeaders) != nil {
					tt.act(s)
					s.next(255)
				}
			})
			var streams [2]*Stream
			for i := range streams {
				streams[i] = open(t, c)
				if err := streams[i].WriteHead(get(), true); err != nil {
					t.Fatal(err)
				}
			}
			for i, s := range streams {
				if _, err := s.ReadHead(); err == nil || isTimeout(err) || s.Unprocessed() != tt.unprocessed[i] {
					t.Errorf("stream %d: %v, unprocessed %v, want %v", i, err, s.Unprocessed(), tt.unprocessed[i])
				}
			}
		})
	}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// TestGoAway: requests that the server still answers are not disturbed, no further one begins,
// and the connection ends with them.
func TestGoAway(t *testing.T) {
	idle := make(chan struct{}, 9)
	c := start(t, Config{Idle: func() { idle <- struct{}{} }}, func(s *script) {
		s.next(http2.FrameHeaders)
		s.WriteGoAway(1, http2.ErrCodeNo, nil)
		s.WritePing(false, [8]byte{1})
		s.next(http2.FramePing)
		s.head(1, true, ":status", "200")
		s.next(255)
	})
	got, _, err := ask(t, c)
	if got != ":status=200 " || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := c.Open(); err != ErrFull {
		t.Errorf("a further stream: %v", err)
	}
	select {
	case <-c.done:
	case <-time.After(bound):
		t.Error("the connection goes on")
	}
	<-idle
}

// TestStreamLimit: there are never more streams than the server allows, and a stream that is
// over makes room.
func TestStreamLimit(t *testing.T) {
	c := start(t, Config{}, func(s *script) {
		for s.next(http2.FrameHeaders) != nil {
		}
	}, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 2})
	a, b := open(t, c), open(t, c)
	if _, err := c.Open(); err != ErrFull {
		t.Errorf("a third stream: %v", err)
	}
	_ = a.WriteHead(get(), true)
	a.Close()
	third := open(t, c)
	if _, err := c.Open(); err != ErrFull {
		t.Errorf("a fourth stream: %v", err)
	}
	b.Close()
	b.Close() // its place is given back once
	third.Close()
	if st := c.State(); st != (State{Streams: 0, Limit: 2, Usable: true}) {
		t.Errorf("%+v", st)
	}
	a, b = open(t, c), open(t, c)
	c.Retire()
	if _, err := c.Open(); err != ErrFull || c.Err() != nil {
		t.Errorf("a stream of a retired connection: %v, %v", err, c.Err())
	}
	a.Close()
	b.Close()
	if c.Err() == nil {
		t.Error("a retired connection goes on without streams")
	}
}

// TestPings: a server that is silent is asked for a sign of life, and is given up if it gives
// none. One that answers is left in peace for minutes: servers of gRPC want that.
func TestPings(t *testing.T) {
	cfg := Config{PingAfter: 20 * time.Millisecond, PingTimeout: 20 * time.Millisecond}
	c := start(t, cfg, func(s *script) { s.next(255) })
	if _, s, err := ask(t, c); !errors.Is(err, errLost) || s.Unprocessed() {
		t.Errorf("%v, want %v", err, errLost)
	}
	var pings atomic.Int32
	cfg.PingTimeout = bound
	c = start(t, cfg, func(s *script) {
		for {
			f, _ := s.next(http2.FramePing).(*http2.PingFrame)
			if f == nil {
				return
			}
			pings.Add(1)
			s.WritePing(true, f.Data)
		}
	})
	s := open(t, c)
	_ = s.WriteHead(get(), true)
	s.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	if _, err := s.ReadHead(); !isTimeout(err) || pings.Load() != 1 {
		t.Errorf("%v, %d pings, want one", err, pings.Load())
	}
}

// TestDoubt: where a request was given up without a sign of life, no further one begins until
// there is one.
func TestDoubt(t *testing.T) {
	answer := make(chan bool)
	c := start(t, Config{PingTimeout: time.Second}, func(s *script) {
		f, _ := s.next(http2.FramePing).(*http2.PingFrame)
		<-answer
		if f != nil {
			s.WritePing(true, f.Data)
		}
		s.next(255)
	})
	c.mu.Lock()
	c.life.heard = time.Time{}
	c.mu.Unlock()
	s := open(t, c)
	_ = s.WriteHead(get(), true)
	c.mu.Lock()
	s.started = time.Now().Add(-time.Minute)
	c.life.heard = s.started.Add(-time.Second)
	c.mu.Unlock()
	s.Close()
	if _, err := c.Open(); err != ErrFull {
		t.Errorf("%v, want %v", err, ErrFull)
	}
	answer <- true
	for end := time.Now().Add(bound); ; time.Sleep(time.Millisecond) {
		if s, err := c.Open(); err == nil {
			s.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatal("no further stream")
		}
	}
}

// TestNoHTTP2: who speaks something else, or nothing, is told apart at once: nothing was sent.
func TestNoHTTP2(t *testing.T) {
	for name, greeting := range map[string]string{
		"HTTP/1.1": "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
		"a ping":   "\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678",
		"the end":  "",
	} {
		nc := serve(t, func(s *script) { io.WriteString(s.Conn, greeting); s.begin(); s.Close() })
		if _, err := NewConn(t.Context(), nc, Config{}); err == nil || !strings.Contains(err.Error(), "does not speak HTTP/2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := NewConn(ctx, serve(t, func(s *script) { s.next(255) }), Config{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("silence: %v", err)
	}
}
