package lb

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"
)

// Opcodes of WebSocket (RFC 6455 §5.2), with wsFin for the last frame of a message.
const (
	wsContinuation, wsText, wsBinary, wsClose, wsPing, wsPong = 0x0, 0x1, 0x2, 0x8, 0x9, 0xa

	wsFin = 0x80
)

// wsFrame appends a masked frame, as clients send it (RFC 6455 §5.3). first is the first byte:
// wsFin, reserved bits, opcode.
func wsFrame(b []byte, first byte, payload []byte) []byte {
	b = append(b, first)
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	mask := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	b = append(b, mask[:]...)
	for i, c := range payload {
		b = append(b, c^mask[i%4])
	}
	return b
}

// wsMessages are what a client may say, by name: what a test suite of WebSocket implementations
// tries. A proxy passes all of it on as it is, what is wrong included: who speaks WebSocket
// judges that.
func wsMessages() map[string][]byte {
	all := make(map[string][]byte)
	text := func(n int) []byte { return bytes.Repeat([]byte("*"), n) }
	for _, n := range []int{0, 1, 125, 126, 127, 128, 65535, 65536, 1 << 20} {
		all[fmt.Sprint("text of ", n)] = wsFrame(nil, wsFin|wsText, text(n))
		all[fmt.Sprint("binary of ", n)] = wsFrame(nil, wsFin|wsBinary, bytes.Repeat([]byte{0xfe}, n))
	}
	fragments := wsFrame(nil, wsText, []byte("frag"))
	fragments = wsFrame(fragments, wsFin|wsPing, []byte("between"))
	fragments = wsFrame(fragments, wsContinuation, nil)
	fragments = wsFrame(fragments, wsFin|wsPong, nil)
	all["fragments with control frames between"] = wsFrame(fragments, wsFin|wsContinuation, []byte("ment"))
	all["a continuation of nothing"] = wsFrame(nil, wsFin|wsContinuation, []byte("x"))
	all["pings of all lengths"] = func() (b []byte) {
		for n := range 126 {
			b = wsFrame(b, wsFin|wsPing, text(n))
		}
		return b
	}()
	all["a ping that is too long"] = wsFrame(nil, wsFin|wsPing, text(126))
	all["a ping in fragments"] = wsFrame(nil, wsPing, text(3))
	for bits := byte(0x10); bits <= 0x70; bits += 0x10 {
		all[fmt.Sprintf("reserved bits %#x", bits)] = wsFrame(nil, wsFin|bits|wsText, text(7))
	}
	for _, op := range []byte{3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf} {
		all[fmt.Sprintf("reserved opcode %#x", op)] = wsFrame(nil, wsFin|op, text(7))
	}
	for _, bad := range []string{"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80\x65", "\xff", "\xf4\x90\x80\x80", "κόσμε"} {
		all[fmt.Sprintf("text %q", bad)] = wsFrame(nil, wsFin|wsText, []byte(bad))
	}
	for _, code := range []uint16{0, 999, 1000, 1001, 1005, 1006, 1015, 3000, 4999, 65535} {
		all[fmt.Sprint("close ", code)] = wsFrame(nil, wsFin|wsClose, append(binary.BigEndian.AppendUint16(nil, code), "bye"...))
	}
	all["a close without a code"] = wsFrame(nil, wsFin|wsClose, nil)
	all["a close of one byte"] = wsFrame(nil, wsFin|wsClose, []byte{3})
	all["a length that is not the shortest"] = append([]byte{wsFin | wsText, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0}, 'x')
	all["what looks like requests"] = []byte(aGet + "\r\n\r\n" + aLastGet + "\x16\x03\x01PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	return all
}

const (
	wsRequest = "GET /chat HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
	wsSwitch  = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)

// wsOpen asks for a WebSocket, with early behind the request in the same write.
func wsOpen(t *testing.T, c net.Conn, early []byte) *bufio.Reader {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(bound))
	if _, err := c.Write(append([]byte(wsRequest), early...)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != 101 || res.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("%+v, %v", res, err)
	}
	return r
}

// wsEcho answers with what comes, and greets before.
func wsEcho(greeting string) func(net.Conn, *bufio.Reader) {
	return func(c net.Conn, r *bufio.Reader) {
		if req, err := http.ReadRequest(r); err != nil || req.Header.Get("Upgrade") != "websocket" {
			io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
			return
		}
		io.WriteString(c, wsSwitch+greeting)
		io.Copy(c, r)
	}
}

// Whatever the two sides of a WebSocket say passes as it is, in one write with the heads, in
// many small ones, and with TLS in front.
func TestWebSocketPassesEverything(t *testing.T) {
	plain, _ := front(t, HandlerConfig{}, rawBackend(t, wsEcho("hello")))
	secure := listeningTLS(t, shell{}, rawBackend(t, wsEcho("hello")))
	for name, message := range wsMessages() {
		for _, way := range []string{"behind the request", "in pieces", "TLS"} {
			t.Run(name+", "+way, func(t *testing.T) {
				var c net.Conn
				if way == "TLS" {
					c = tls.Client(dialTest(t, secure), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
				} else {
					c = dialTest(t, plain.Listener.Addr().String())
				}
				var early []byte
				rest := message
				if way == "behind the request" {
					early, rest = message, nil
				}
				sent := make(chan error, 1)
				r := wsOpen(t, c, early)
				go func() {
					for len(rest) > 0 {
						n := len(rest)
						if way == "in pieces" {
							n = min(n, 1+rand.IntN(1+len(message)/40))
						}
						if _, err := c.Write(rest[:n]); err != nil {
							sent <- err
							return
						}
						rest = rest[n:]
					}
					sent <- nil
				}()
				got := make([]byte, len("hello")+len(message))
				if n, err := io.ReadFull(r, got); err != nil || string(got) != "hello"+string(message) {
					t.Errorf("%d of %d bytes came back as they were sent, or not: %v", n, len(got), err)
				}
				if err := <-sent; err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// Each side ends for itself: what the other one still says arrives. A reset is no end in order.
func TestWebSocketEnds(t *testing.T) {
	ended := make(chan string, 1)
	backend := rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		io.WriteString(c, wsSwitch)
		word := make([]byte, 4)
		io.ReadFull(r, word)
		switch string(word) {
		case "stop": // the backend ends first, and hears the rest
			c.(*net.TCPConn).CloseWrite()
			rest, err := io.ReadAll(r)
			ended <- fmt.Sprintf("%s %v", rest, err)
		case "hear": // the client does
			rest, err := io.ReadAll(r)
			ended <- fmt.Sprintf("%s %v", rest, err)
			io.WriteString(c, "still here")
		case "kill": // the backend resets
			reset(c)
		default: // the client resets
			_, err := io.ReadAll(r)
			ended <- fmt.Sprint(err != nil)
		}
	})
	for _, tt := range []struct{ say, then, hears, backend string }{
		{"stop", "late", "", "late <nil>"},
		{"hear", "last", "still here", "last <nil>"},
		{"kill", "", "error", ""},
		{"wait", "reset", "", "true"},
	} {
		t.Run(tt.say, func(t *testing.T) {
			var records = make(chan Record, 1)
			s, _ := front(t, HandlerConfig{Record: func(r Record) { records <- r }}, backend)
			c := dialTest(t, s.Listener.Addr().String())
			r := wsOpen(t, c, nil)
			io.WriteString(c, tt.say)
			if tt.then == "reset" {
				reset(c)
			} else {
				if tt.say == "stop" {
					if _, err := r.ReadByte(); err != io.EOF {
						t.Errorf("the backend's end is %v here", err)
					}
				}
				if tt.say != "kill" { // a write, even of nothing, would be told of the reset in the read's place
					io.WriteString(c, tt.then)
					c.CloseWrite()
				}
				got, err := io.ReadAll(r)
				switch {
				case tt.hears == "error" && !errors.Is(err, syscall.ECONNRESET):
					t.Errorf("%q and %v, want a reset", got, err)
				case tt.hears != "error" && (string(got) != tt.hears || err != nil):
					t.Errorf("%q, %v, want %q", got, err, tt.hears)
				}
			}
			if tt.backend != "" {
				if got := <-ended; got != tt.backend {
					t.Errorf("the backend heard %q, want %q", got, tt.backend)
				}
			}
			if rec := <-records; rec.Status != 101 || (rec.Reason == "") != (tt.hears != "error" && tt.then != "reset") {
				t.Errorf("%+v", rec)
			}
		})
	}
}

// A tunnel outlives a change of settings, and its own timeout ends it when nothing moves.
func TestWebSocketOutlivesReload(t *testing.T) {
	b := rawBackend(t, wsEcho(""))
	records := make(chan Record, 1)
	cfg := HandlerConfig{Record: func(r Record) { records <- r }, TunnelTimeout: 2 * time.Second}
	s, h := front(t, cfg, b)
	c := dialTest(t, s.Listener.Addr().String())
	r := wsOpen(t, c, nil)
	cfg.Pool, cfg.TunnelTimeout = h.pool(), time.Hour
	if err := h.Reconfigure(cfg); err != nil {
		t.Fatal(err)
	}
	message := wsFrame(nil, wsFin|wsText, []byte("still open"))
	c.Write(message)
	got := make([]byte, len(message))
	if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, message) {
		t.Fatalf("%q, %v", got, err)
	}
	_ = c.SetDeadline(time.Now().Add(bound))
	if _, err := r.ReadByte(); err == nil {
		t.Error("the tunnel goes on for longer than its timeout")
	}
	if rec := <-records; rec.Reason != "idle" || rec.Received != int64(len(message)) || rec.Sent != int64(len(message)) {
		t.Errorf("%+v, want %d bytes each way", rec, len(message))
	}
}
