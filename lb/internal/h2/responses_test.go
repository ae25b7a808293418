package h2

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

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
			s := open(t, c)
			err := s.WriteHead(get(), true)
			for tt.name == "too many informational" { // of which nobody has read one
				c.mu.Lock()
				over := s.err != nil
				c.mu.Unlock()
				if over {
					break
				}
				time.Sleep(time.Millisecond)
			}
			got := ""
			if err == nil {
				got, err = answer(s)
			}
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%q, %v; want %q, an error with %q", got, err, tt.want, tt.err)
			}
			if s.Unprocessed() {
				t.Error("it counts as not processed")
			}
		})
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
