package lb

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	_ "github.com/havip/havip/internal/xconnect" // as in havip itself
)

// socketBackend takes WebSockets, and has f treat what follows the handshake.
func socketBackend(t *testing.T, f func(net.Conn, *bufio.Reader)) (Backend, <-chan *http.Request) {
	t.Helper()
	asked := make(chan *http.Request, 10)
	return rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		asked <- req
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: chat\r\n\r\nhello ",
			acceptOf(req.Header.Get("Sec-WebSocket-Key")))
		f(c, r)
	}), asked
}

// connect asks for a tunnel on stream 1, and sends early behind that.
func (c *client2) connect(early string, fields ...string) {
	c.t.Helper()
	head := append([]string{":method", "CONNECT", ":scheme", "https", ":path", "/chat?a=b", ":authority", "x"}, fields...)
	if err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: c.fields(head...)}); err != nil {
		c.t.Fatal(err)
	}
	if early != "" {
		if err := c.WriteData(1, false, []byte(early)); err != nil {
			c.t.Fatal(err)
		}
	}
}

// rest reads the data of stream 1 to its end, or until it is want, and says how it ended.
func (c *client2) rest(want string) (data, end string) {
	c.t.Helper()
	for want == "" || data != want {
		f, err := c.ReadFrame()
		if err != nil {
			return data, err.Error()
		}
		switch f := f.(type) {
		case *http2.DataFrame:
			data += string(f.Data())
			if f.StreamEnded() {
				return data, "END_STREAM"
			}
		case *http2.RSTStreamFrame:
			return data, "RST_STREAM"
		}
	}
	return data, ""
}

// socketFronts are HTTP/2 by TLS and by prior knowledge.
func socketFronts(t *testing.T, f func(t *testing.T, serve func(HandlerConfig, ...Backend) (*client2, *Handler))) {
	t.Run("TLS", func(t *testing.T) {
		f(t, func(cfg HandlerConfig, bs ...Backend) (*client2, *Handler) {
			s, h := front2(t, cfg, bs...)
			return dial2(t, s.Listener.Addr().String()), h
		})
	})
	t.Run("prior knowledge", func(t *testing.T) {
		f(t, func(cfg HandlerConfig, bs ...Backend) (*client2, *Handler) {
			p, ln := newHTTP(t, HTTPConfig{HandlerConfig: cfg, ShutdownTimeout: -1}, bs...), listenTest(t)
			serveHTTP(t, p, ln)
			return newClient2(t, dialTest(t, ln.Addr().String())), p.handler
		})
	})
}

// The server says that it takes WebSockets (RFC 8441 §3).
func TestSocketIsAnnounced(t *testing.T) {
	socketFronts(t, func(t *testing.T, serve func(HandlerConfig, ...Backend) (*client2, *Handler)) {
		c, _ := serve(HandlerConfig{}, webBackend(t, name("ok")))
		for {
			f, err := c.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			if s, ok := f.(*http2.SettingsFrame); ok && !s.IsAck() {
				if v, _ := s.Value(http2.SettingEnableConnectProtocol); v != 1 {
					t.Errorf("ENABLE_CONNECT_PROTOCOL is %d", v)
				}
				return
			}
		}
	})
}

// A WebSocket over HTTP/2 is one of HTTP/1.1 for the backend, and passes both ways until either
// side ends.
func TestSocketOverHTTP2(t *testing.T) {
	socketFronts(t, func(t *testing.T, serve func(HandlerConfig, ...Backend) (*client2, *Handler)) {
		records := make(chan Record, 1)
		heard := make(chan string, 1)
		b, asked := socketBackend(t, func(c net.Conn, r *bufio.Reader) {
			got, err := io.ReadAll(r)
			heard <- fmt.Sprint(string(got), " ", err)
			_, _ = io.WriteString(c, "bye")
		})
		c, _ := serve(HandlerConfig{Record: func(r Record) { records <- r }}, b)
		long := strings.Repeat("0123456789abcdef", 1000)
		c.connect("early ", ":protocol", "websocket", "sec-websocket-version", "13", "sec-websocket-key", "mine", "origin", "o")
		if got := c.answer(1); got != "200" {
			t.Fatalf("answer %s", got)
		}
		req := <-asked
		if got := fmt.Sprint(req.Method, req.RequestURI, req.Host, req.Header["Upgrade"], req.Header["Connection"], len(req.Header["Sec-Websocket-Key"]),
			req.Header["Sec-Websocket-Version"], req.Header["Origin"], req.ContentLength, req.TransferEncoding); got != "GET/chat?a=bx[websocket] [Upgrade] 1 [13] [o] 0 []" || req.Header.Get("Sec-Websocket-Key") == "mine" {
			t.Errorf("the backend gets %s: %+v", got, req.Header)
		}
		if data, end := c.rest("hello "); data != "hello " {
			t.Errorf("%q, %s", data, end)
		}
		_ = c.WriteData(1, false, []byte(long))
		_ = c.WriteData(1, true, []byte("end"))
		var got string
		select {
		case got = <-heard:
		case <-time.After(bound):
		}
		if got != "early "+long+"end <nil>" {
			t.Errorf("the backend reads %d bytes: %.20q", len(got), got)
		}
		if data, end := c.rest(""); data != "bye" || end != "END_STREAM" {
			t.Errorf("at the end %q, %s", data, end)
		}
		if r := (&wsPair{records: records}).record(t); r.Status != 200 || r.Received != int64(len("early end")+len(long)) || r.Sent != int64(len("hello bye")) || r.Reason != "" {
			t.Errorf("%+v", r)
		}
	})
}

// Of the handshake of HTTP/1.1 the client of HTTP/2 sees nothing (RFC 8441 §5).
func TestSocketHandshakeIsTheBackends(t *testing.T) {
	b, _ := socketBackend(t, func(net.Conn, *bufio.Reader) {})
	s, _ := front2(t, HandlerConfig{}, b)
	c := dial2(t, s.Listener.Addr().String())
	c.connect("", ":protocol", "websocket")
	for {
		f, err := c.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if m, ok := f.(*http2.MetaHeadersFrame); ok {
			got := ""
			for _, f := range m.RegularFields() {
				if f.Name != "date" {
					got += f.Name + ": " + f.Value + "; "
				}
			}
			if got != "sec-websocket-protocol: chat; " {
				t.Errorf("the client gets %s", got)
			}
			break
		}
	}
	// The backend has ended: the client is told, though it has not.
	if data, end := c.rest(""); data != "hello " || end != "END_STREAM" {
		t.Errorf("%q, %s", data, end)
	}
}

// What is no WebSocket is answered, and never taken for one.
func TestSocketRefused(t *testing.T) {
	ws := []string{":protocol", "websocket"}
	with := func(accept string) string {
		return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" + accept + "\r\n"
	}
	for _, tt := range []struct {
		name     string
		fields   []string
		response string
		protocol BackendProtocol
		want     string
		reason   string
	}{
		{"another protocol", []string{":protocol", "connect-udp"}, anOK, BackendHTTP1, "501", `protocol "connect-udp", want websocket`},
		{"in other letters", []string{":protocol", "WebSocket"}, anOK, BackendHTTP1, "501", `protocol "WebSocket", want websocket`},
		{"backends of HTTP/2", ws, anOK, BackendHTTP2, "501", "want backends of HTTP/1.1"},
		{"a length", append(ws, "content-length", "5"), anOK, BackendHTTP1, "400", "Bad Request"},
		{"the backend refuses", ws, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", BackendHTTP1, "403", ""},
		{"the backend redirects", ws, "HTTP/1.1 307 x\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", BackendHTTP1, "307", ""},
		{"the backend knows no WebSockets", ws, anOK, BackendHTTP1, "502", "status 200 instead of 101"},
		{"a wrong answer to the key", ws, with("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), BackendHTTP1, "502", "does not answer the key"},
		{"no answer to the key", ws, with(""), BackendHTTP1, "502", "does not answer the key"},
		{"another protocol of the backend", ws, strings.Replace(with(""), "websocket", "other", 1), BackendHTTP1, "502", "switched to protocol"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			records := make(chan Record, 1)
			s, _ := front2(t, HandlerConfig{Record: func(r Record) { records <- r }, BackendProtocol: tt.protocol},
				rawBackend(t, func(c net.Conn, r *bufio.Reader) {
					_, _ = http.ReadRequest(r)
					_, _ = io.WriteString(c, tt.response)
					_, _ = r.ReadByte()
				}))
			c := dial2(t, s.Listener.Addr().String())
			c.connect("", tt.fields...)
			if got := c.answer(1); got != tt.want {
				t.Errorf("answer %s, want %s", got, tt.want)
			}
			if r := (&wsPair{records: records}).record(t); !strings.Contains(r.Reason, tt.reason) || tt.reason == "" && r.Reason != "" {
				t.Errorf("reason %q, want %q", r.Reason, tt.reason)
			}
		})
	}
	// Without :protocol it is a tunnel to anywhere, which a proxy for backends has none of.
	s, _ := front2(t, HandlerConfig{}, webBackend(t, name("ok")))
	c := dial2(t, s.Listener.Addr().String())
	_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: c.fields(":method", "CONNECT", ":authority", "x:1")})
	if got := c.answer(1); got != "405" {
		t.Errorf("a plain CONNECT: %s", got)
	}
}

// What ends a WebSocket out of order is a reset for the other side, and has its reason.
func TestSocketEndsOutOfOrder(t *testing.T) {
	for _, tt := range []struct {
		name, reason string
		end          func(*client2, *Handler)
	}{
		{"the client resets", "reset", func(c *client2, _ *Handler) { _ = c.WriteRSTStream(1, http2.ErrCodeCancel) }},
		{"the client is gone", "reset", func(c *client2, _ *Handler) { c.conn.Close() }},
		{"nothing moves", "idle", func(*client2, *Handler) {}},
		{"the time of Shutdown is over", "cut", func(_ *client2, h *Handler) { h.sessions.cut(nil) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			records, ended := make(chan Record, 1), make(chan error, 1)
			b, _ := socketBackend(t, func(_ net.Conn, r *bufio.Reader) {
				_, err := r.ReadByte()
				ended <- err
			})
			cfg := HandlerConfig{Record: func(r Record) { records <- r }}
			if tt.reason == "idle" {
				cfg.TunnelTimeout = 50 * time.Millisecond
			}
			s, h := front2(t, cfg, b)
			c := dial2(t, s.Listener.Addr().String())
			c.connect("", ":protocol", "websocket")
			if data, end := c.rest("hello "); data != "hello " {
				t.Fatalf("%q, %s", data, end)
			}
			tt.end(c, h)
			select {
			case err := <-ended:
				if err == io.EOF {
					t.Error("for the backend it is an end in order")
				}
			case <-time.After(bound):
				t.Error("the backend is not told")
			}
			if r := (&wsPair{records: records}).record(t); r.Reason != tt.reason || r.Status != 200 {
				t.Errorf("%+v, want reason %q", r, tt.reason)
			}
			if tt.reason == "idle" || tt.reason == "cut" {
				// With the time of a plane, its connections are over, too.
				if _, end := c.rest(""); end != "RST_STREAM" && !(tt.reason == "cut" && *onEngine) {
					t.Errorf("the client sees %s", end)
				}
			}
		})
	}
}
