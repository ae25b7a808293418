package h2

import (
	"io"
	"net"
	"testing"

	"golang.org/x/net/http2"
)

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
