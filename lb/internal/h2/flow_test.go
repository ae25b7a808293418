package h2

import (
	"io"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// TestFlowControl: a body goes as far as the server allows, and no further, whether the
// bound is that of the stream, of the connection, or of frames.
func TestFlowControl(t *testing.T) {
	const size = 300 << 10
	var most atomic.Int64
	c := start(t, Config{}, func(s *script) {
		s.SetMaxReadFrameSize(1 << 20)
		var open, got int64 = 1000, 0
		s.next(http2.FrameHeaders)
		for got < size {
			f, ok := s.next(http2.FrameData).(*http2.DataFrame)
			if !ok {
				return
			}
			most.Store(max(most.Load(), int64(f.Length)))
			got += int64(f.Length)
			if open -= int64(f.Length); open < 0 {
				s.head(1, true, ":status", "500")
			}
			if open == 0 {
				open = 20000
				s.WriteWindowUpdate(1, 15000)
				s.WriteWindowUpdate(0, uint32(f.Length)+15000)
				s.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 6000})
				s.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000})
				s.WriteWindowUpdate(1, 5000)
				s.WriteWindowUpdate(0, 5000)
			}
		}
		s.head(1, true, ":status", "200")
		s.next(255)
	}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000})
	s := open(t, c)
	if err := s.WriteHead(get(), false); err != nil {
		t.Fatal(err)
	}
	if err := s.Write(make([]byte, size), true); err != nil {
		t.Error(err)
	}
	got, err := answer(s)
	if got != ":status=200 " || err != nil || most.Load() > maxFrame {
		t.Errorf("%q, %v, frames of up to %d", got, err, most.Load())
	}
}

// TestServerThatTakesNothing: a body that no server takes ends with a timeout.
func TestServerThatTakesNothing(t *testing.T) {
	c := start(t, Config{WriteTimeout: 50 * time.Millisecond}, func(s *script) { s.next(255) })
	s := open(t, c)
	_ = s.WriteHead(get(), false)
	if err := s.Write(make([]byte, 1<<20), true); !isTimeout(err) {
		t.Errorf("%v, want a timeout", err)
	}
}

// TestDuplex: request and response may go on side by side for as long as one likes, and the
// server may end its side first, with a reset that is no error.
func TestDuplex(t *testing.T) {
	c := start(t, Config{}, func(s *script) {
		s.next(http2.FrameHeaders)
		s.head(1, false, ":status", "200")
		for range 3 {
			f, _ := s.next(http2.FrameData).(*http2.DataFrame)
			s.WriteData(1, false, f.Data())
		}
		s.head(1, true, "grpc-status", "0")
		s.WriteRSTStream(1, http2.ErrCodeNo)
		s.next(255)
	})
	s := open(t, c)
	_ = s.WriteHead(get(), false)
	if _, err := s.ReadHead(); err != nil {
		t.Fatal(err)
	}
	asked := 0
	s.Awaiting = func() error { asked++; return nil }
	for _, p := range []string{"one", "two", "three"} {
		if err := s.Write([]byte(p), false); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(p))
		if _, err := io.ReadFull(s, got); err != nil || string(got) != p {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if rest, err := io.ReadAll(s); len(rest) > 0 || err != nil || len(s.Trailer()) != 1 {
		t.Errorf("%q, %v, %v", rest, err, s.Trailer())
	}
	for err := error(nil); err != errStopped; time.Sleep(time.Millisecond) {
		if err = s.Write([]byte("more"), false); err != nil && err != errStopped {
			t.Fatal(err)
		}
	}
	if asked > 4 {
		t.Errorf("asked %d times", asked)
	}
}
