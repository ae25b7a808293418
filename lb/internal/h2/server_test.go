package h2

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
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
