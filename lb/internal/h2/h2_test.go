package h2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// bound is how long a test waits for what must happen.
const bound = 20 * time.Second

// script is a server that does what a test says.
type script struct {
	t *testing.T
	net.Conn
	*http2.Framer
	enc   *hpack.Encoder
	block bytes.Buffer
}

// serve runs a server on the other end of a connection that is not begun.
func serve(t *testing.T, run func(s *script)) net.Conn {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close(); server.Close() })
	_ = server.SetDeadline(time.Now().Add(bound))
	s := &script{t: t, Conn: server, Framer: http2.NewFramer(server, server)}
	s.enc = hpack.NewEncoder(&s.block)
	go run(s)
	return nc
}

// start is serve with a Conn, for which the server has these settings.
func start(t *testing.T, cfg Config, run func(s *script), settings ...http2.Setting) *Conn {
	t.Helper()
	nc := serve(t, func(s *script) {
		_ = s.WriteSettings(settings...)
		if s.begin() {
			run(s)
		}
	})
	c, err := NewConn(t.Context(), nc, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// begin reads the beginning of the connection.
func (s *script) begin() bool {
	preface := make([]byte, len(http2.ClientPreface))
	_, err := io.ReadFull(s.Conn, preface)
	return err == nil && string(preface) == http2.ClientPreface
}

// next returns the next frame of a kind; nil: the connection has ended.
func (s *script) next(kind http2.FrameType) http2.Frame {
	for {
		f, err := s.ReadFrame()
		if err != nil {
			return nil
		}
		if f.Header().Type == kind {
			return f
		}
	}
}

// head writes a head of these names and values.
func (s *script) head(id uint32, end bool, fields ...string) {
	s.block.Reset()
	for f := range slices.Chunk(fields, 2) {
		_ = s.enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	_ = s.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: s.block.Bytes(), EndHeaders: true, EndStream: end})
}

// get are the fields of a request.
func get(more ...string) []hpack.HeaderField {
	fields := []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "x"}, {Name: ":path", Value: "/"}}
	for f := range slices.Chunk(more, 2) {
		fields = append(fields, hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	return fields
}

// open takes a stream that is closed at the end of the test, and gives up after a while.
func open(t *testing.T, c *Conn) *Stream {
	t.Helper()
	s, err := c.Open()
	if err != nil {
		t.Fatal(err)
	}
	s.SetReadDeadline(time.Now().Add(bound))
	t.Cleanup(s.Close)
	return s
}

// ask sends a request without a body, and returns what has come: heads, body and trailer.
func ask(t *testing.T, c *Conn) (string, *Stream, error) {
	t.Helper()
	s := open(t, c)
	if err := s.WriteHead(get(), true); err != nil {
		return "", s, err
	}
	got, err := answer(s)
	return got, s, err
}

func answer(s *Stream) (string, error) {
	var got strings.Builder
	for status := "1"; status[0] == '1'; {
		head, err := s.ReadHead()
		if err != nil {
			return got.String(), err
		}
		status = head[0].Value
		for _, f := range head {
			fmt.Fprintf(&got, "%s=%s ", f.Name, f.Value)
		}
	}
	body, err := io.ReadAll(s)
	fmt.Fprintf(&got, "%s", body)
	for _, f := range s.Trailer() {
		fmt.Fprintf(&got, " %s=%s", f.Name, f.Value)
	}
	return got.String(), err
}

// TestResponses: what a server answers arrives as it was sent, and what RFC 9113 forbids does
// not arrive.
func TestResponses(t *testing.T) {
	long := strings.Repeat("a", 100<<10)
	for _, tt := range []struct {
		name   string
		answer func(s *script)
		want   string
		err    string // a part of it; empty: none
	}{
		{"head only", func(s *script) { s.head(1, true, ":status", "200", "grpc-status", "5") }, ":status=200 grpc-status=5 ", ""},
		{"body and trailer", func(s *script) {
			s.head(1, false, ":status", "200", "b", "1", "a", "2", "b", "3")
			s.WriteData(1, false, []byte("he"))
			s.WriteDataPadded(1, false, []byte("llo"), make([]byte, 9))
			s.head(1, true, "grpc-status", "0")
		}, ":status=200 b=1 a=2 b=3 hello grpc-status=0", ""},
		{"informational", func(s *script) {
			s.head(1, false, ":status", "103", "link", "x")
			s.head(1, false, ":status", "204")
			s.WriteData(1, true, nil)
		}, ":status=103 link=x :status=204 ", ""},
		{"length", func(s *script) {
			s.head(1, false, ":status", "200", "content-length", "2")
			s.WriteData(1, true, []byte("ok"))
		}, ":status=200 content-length=2 ok", ""},
		{"unknown frames and settings in between", func(s *script) {
			s.WriteRawFrame(77, 1, 0, []byte("?"))
			s.WriteSettings(http2.Setting{ID: 77, Val: 1})
			s.head(1, true, ":status", "200")
		}, ":status=200 ", ""},
		{"no status", func(s *script) { s.head(1, true, "a", "b") }, "", "without a status"},
		{"bad status", func(s *script) { s.head(1, true, ":status", "20") }, "", `status "20"`},
		{"101", func(s *script) { s.head(1, false, ":status", "101") }, "", "101"},
		{"ends with a 103", func(s *script) { s.head(1, true, ":status", "103") }, "", "ends with a 103"},
		{"too many informational", func(s *script) {
			for range maxHeads + 1 {
				s.head(1, false, ":status", "103")
			}
		}, strings.Repeat(":status=103 ", maxHeads), "too many informational"},
		{"connection", func(s *script) { s.head(1, true, ":status", "200", "connection", "close") }, "", "connection"},
		{"transfer-encoding", func(s *script) { s.head(1, true, ":status", "200", "transfer-encoding", "chunked") }, "", "transfer-encoding"},
		{"upper case", func(s *script) { s.head(1, true, ":status", "200", "Server", "x") }, "", "PROTOCOL_ERROR"},
		{"end of line in a value", func(s *script) { s.head(1, true, ":status", "200", "a", "b\r\nc: d") }, "", "PROTOCOL_ERROR"},
		{"header too long", func(s *script) {
			s.block.Reset()
			_ = s.enc.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
			for range 2 {
				_ = s.enc.WriteField(hpack.HeaderField{Name: "a", Value: long})
			}
			b := s.block.Bytes()
			_ = s.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b[:16000]})
			for b = b[16000:]; len(b) > 16000; b = b[16000:] {
				_ = s.WriteContinuation(1, false, b[:16000])
			}
			_ = s.WriteContinuation(1, true, b)
		}, "", "HTTP/2: "},
		{"two lengths", func(s *script) { s.head(1, true, ":status", "200", "content-length", "1", "content-length", "2") }, "", "content-length"},
		{"no number", func(s *script) { s.head(1, true, ":status", "200", "content-length", "+1") }, "", "content-length"},
		{"too short", func(s *script) {
			s.head(1, false, ":status", "200", "content-length", "3")
			s.WriteData(1, true, []byte("ok"))
		}, ":status=200 content-length=3 ok", "shorter"},
		{"too long", func(s *script) {
			s.head(1, false, ":status", "200", "content-length", "2")
			s.WriteData(1, false, []byte("ok"))
			s.WriteData(1, true, []byte("!"))
		}, ":status=200 content-length=2 ok", "longer"},
		{"nothing of a length", func(s *script) { s.head(1, true, ":status", "200", "content-length", "3") }, "", "shorter"},
		{"body of a 304", func(s *script) {
			s.head(1, false, ":status", "304")
			s.WriteData(1, true, []byte("ok"))
		}, ":status=304 ", "where there is none"},
		{"body without a head", func(s *script) { s.WriteData(1, true, []byte("ok")) }, "", "without a header"},
		{"second head", func(s *script) {
			s.head(1, false, ":status", "200")
			s.head(1, false, ":status", "200")
		}, ":status=200 ", "second header"},
		{"status in the trailer", func(s *script) {
			s.head(1, false, ":status", "200")
			s.head(1, true, ":status", "200")
		}, ":status=200 ", `trailer ":status"`},
		{"broken off", func(s *script) {
			s.head(1, false, ":status", "200")
			s.WriteData(1, false, []byte("half"))
			s.Conn.(*net.TCPConn).CloseWrite()
		}, ":status=200 half", "unexpected EOF"},
		{"reset", func(s *script) {
			s.head(1, false, ":status", "200")
			s.WriteRSTStream(1, http2.ErrCodeInternal)
		}, ":status=200 ", "INTERNAL_ERROR"},
		{"push", func(s *script) {
			s.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, EndHeaders: true})
		}, "", "PROTOCOL_ERROR"},
		{"stream that nobody has begun", func(s *script) { s.head(3, true, ":status", "200") }, "", "PROTOCOL_ERROR"},
		{"stream of the server", func(s *script) { s.head(2, true, ":status", "200") }, "", "PROTOCOL_ERROR"},
		{"more than was allowed", func(s *script) {
			s.head(1, false, ":status", "200")
			for range 300 << 10 / maxFrame {
				s.WriteData(1, false, make([]byte, maxFrame))
			}
		}, "", "more has come"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := start(t, Config{}, func(s *script) {
				if s.next(http2.FrameHeaders) != nil {
					tt.answer(s)
					s.next(255) // until the end
				}
			})
			if tt.name == "more than was allowed" {
				s := open(t, c)
				_ = s.WriteHead(get(), true)
				for _, err := s.ReadHead(); err == nil; time.Sleep(time.Millisecond) {
					c.mu.Lock()
					err = s.err
					c.mu.Unlock()
				}
				c.mu.Lock()
				defer c.mu.Unlock()
				if s.err == nil || !strings.Contains(s.err.Error(), tt.err) || len(s.body) > c.cfg.Window {
					t.Errorf("%v, %d bytes are kept", s.err, len(s.body))
				}
				return
			}
			got, s, err := ask(t, c)
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%q, %v; want %q, an error with %q", got, err, tt.want, tt.err)
			}
			if s.Unprocessed() {
				t.Error("it counts as not processed")
			}
		})
	}
}

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

// TestRequestArrives: net/http's server gets a request as it was written, however large its
// header is.
func TestRequestArrives(t *testing.T) {
	long := strings.Repeat("x", 40<<10)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Protocols: new(http.Protocols), MaxHeaderBytes: 64 << 10, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %s %d %v %v %v", r.Method, r.Host, r.RequestURI, body, len(r.Header.Get("Long")), r.Header["A"], r.Trailer, err)
	})}
	web.Protocols.SetUnencryptedHTTP2(true)
	go web.Serve(ln)
	defer web.Close()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewConn(t.Context(), nc, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 3 {
		s := open(t, c)
		fields := append(get("a", "1", "long", long, "a", "2", "trailer", "sum"), hpack.HeaderField{Name: "cookie", Value: "c"})
		fields[0].Value, fields[3].Value = "PUT", "/%7e?q=%20"
		if err := errors.Join(s.WriteHead(fields, false), s.Write([]byte("hel"), false), s.Write([]byte("lo"), false),
			s.WriteTrailer([]hpack.HeaderField{{Name: "sum", Value: "7"}})); err != nil {
			t.Fatal(err)
		}
		got, err := answer(s)
		if want := "PUT x /%7e?q=%20 hello 40960 [1 2] map[Sum:[7]] <nil>"; err != nil || !strings.HasSuffix(got, want) {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
	s := open(t, c)
	if err := s.WriteHead(get("long", strings.Repeat("x", 1<<20)), true); err != ErrHeaderTooLarge || !s.Unprocessed() {
		t.Errorf("%v, want %v", err, ErrHeaderTooLarge)
	}
}

// FuzzServer: whatever a server sends, the client neither panics nor hangs, and keeps no more
// than it should.
func FuzzServer(f *testing.F) {
	const settings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	for _, seed := range []string{
		"", settings, "HTTP/1.1 200 OK\r\n\r\n",
		"\x00\x00\x01\x01\x05\x00\x00\x00\x01\x88",                                       // HEADERS, the end: 200
		"\x00\x00\x01\x01\x04\x00\x00\x00\x01\x88\x00\x00\x02\x00\x01\x00\x00\x00\x01ok", // and DATA
		"\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x07",                           // RST_STREAM: refused
		"\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",           // GOAWAY
		"\x00\x00\x04\x08\x00\x00\x00\x00\x01\x7f\xff\xff\xff",                           // WINDOW_UPDATE
		"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x7f\xff\xff\xff",                   // SETTINGS: a window
		"\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678",                                   // PING
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		for _, begun := range []bool{false, true} {
			c, err := fuzzed(t, sent, begun)
			if err != nil {
				continue
			}
			s, err := c.Open()
			if err == nil {
				_ = s.WriteHead(get(), true)
				if got, err := answer(s); len(got) > 2*c.cfg.Window {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				s.Close()
			}
			c.Close()
		}
	})
}

// fuzzed returns a Conn whose server sends these bytes, and closes the connection. begun: a
// request may have begun before.
func fuzzed(t *testing.T, sent []byte, begun bool) (*Conn, error) {
	ours, theirs := net.Pipe()
	go func() {
		if begun {
			f := http2.NewFramer(theirs, theirs)
			_, _ = io.CopyN(io.Discard, theirs, int64(len(http2.ClientPreface)))
			_, _ = f.ReadFrame()
			_, _ = f.ReadFrame()
			_ = f.WriteSettings()
			for {
				if fr, err := f.ReadFrame(); err != nil || fr.Header().Type == http2.FrameHeaders {
					break
				}
			}
		}
		go io.Copy(io.Discard, theirs)
		_, _ = theirs.Write(sent)
		theirs.Close()
	}()
	return NewConn(t.Context(), ours, Config{})
}
