package lb

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab/labtest"
	"github.com/havip/havip/internal/quietlog"
)

// FuzzHandler throws the bytes of a client and of a backend at a Handler. Whatever
// they are, the process lives, nothing panics, and the client gets an answer or the
// end of its connection.
func FuzzHandler(f *testing.F) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	for _, request := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /a HTTP/1.1\r\nHost: x\r\n\r\nHEAD /b HTTP/1.0\r\n\r\n", // pipelined
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel", // cut
		"PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
		// Trailers: announced, not announced, with names that are none.
		"POST / HTTP/1.1\r\nHost: x\r\nTrailer: X-Foo\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Foo: bar\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Foo: bar\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nTrailer: a b\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Foo: bar\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n", // bad chunk
		"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nframe",
		"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n",
		"GET x:foo HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET http://y/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /a%2Fb|c?%zz HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET http:///x HTTP/1.1\r\nHost: x\r\n\r\n",
		"OPTIONS http://y HTTP/1.1\r\nHost: x\r\nMax-Forwards: 1\r\n\r\n",
		"TRACE / HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\n\r\n",
		"RPC / HTTP/1.1\r\nHost: [::1]:80\r\nX_Forwarded_For: y\r\n\r\n",
	} {
		f.Add([]byte(request), []byte(ok))
	}
	for _, response := range []string{
		"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", // cut
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\nContent-Length: 7\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n",
		"HTTP/1.0 200 OK\r\n\r\nuntil the end",
		"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ok,
		"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello",
		"HTTP/1.1 000 Nothing\r\n\r\n",
		ok + ok, // twice
		"",
	} {
		f.Add([]byte("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"), []byte(response))
	}
	t := newFuzzFront(f)
	f.Fuzz(func(tt *testing.T, request, response []byte) {
		if len(request)+len(response) > 4<<10 {
			return
		}
		t.once(tt, request, response)
	})
}

// FuzzRequestTarget: what net/http takes for a target reaches a backend as it was sent, or
// not at all. In absolute form that goes for what follows the authority.
func FuzzRequestTarget(f *testing.F) {
	for _, target := range []string{
		"/", "*", "/a%2Fb|c", "/x%2f..%2fadmin<", "/a??b", "/?", "//a", "/#", "/%41?%zz", "/\xff", "http://y", "http://y?", "http://y/a%2F|?b",
		"http:///x", "HTTP://u@y/", "http:x", "https://[fe80::1%25eth0]/", "x:y", "/a b", "/\x7f",
	} {
		f.Add("GET", target)
		f.Add("OPTIONS", target)
	}
	f.Fuzz(func(t *testing.T, method, sent string) {
		u, err := url.ParseRequestURI(sent)
		if err != nil {
			return
		}
		for _, major := range []int{1, 2} {
			got, ok := requestTarget(method, sent, major, u)
			if !ok {
				continue
			}
			want := sent
			if scheme, rest, absolute := strings.Cut(sent, "://"); absolute && sent[0] != '/' {
				if !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") || major == 2 {
					t.Errorf("%q: passed as %q", sent, got)
				}
				want = rest[strings.IndexAny(rest+"/", "/?"):]
				if method == "OPTIONS" && want == "" {
					want = "*"
				} else if !strings.HasPrefix(want, "/") {
					want = "/" + want
				}
			}
			if got != want || strings.ContainsAny(got, " \r\n\t#") {
				t.Errorf("%q: passed as %q, want %q", sent, got, want)
			}
		}
	})
}

// FuzzAuthority: what is taken for a host, and maybe a port, has no other part of a URL.
func FuzzAuthority(f *testing.F) {
	for _, authority := range []string{"x", "x:80", "x:", "[::1]:80", "[::1]x", "a@b", "a/b", "%41", "a:b", "[::ffff:192.0.2.1]", "[fe80::1%25eth0]", "[fe80::1%eth0]", ":80", ""} {
		f.Add(authority)
	}
	f.Fuzz(func(t *testing.T, authority string) {
		if !validAuthority(authority) || strings.Contains(authority, "%") { // net/url decodes some of these
			return
		}
		u, err := url.Parse("http://" + authority + "/a")
		if err != nil || u.Host != authority || u.User != nil || u.Path != "/a" || u.Hostname() == "" {
			t.Errorf("%q: %+v, %v", authority, u, err)
		}
	})
}

// fuzzFront is a server with a Handler and its backend. Both listen on Unix
// sockets: there are not enough ports for so many connections.
type fuzzFront struct {
	path     string
	response atomic.Pointer[[]byte]
	panicked atomic.Pointer[string]
	handler  *Handler
}

func newFuzzFront(f *testing.F) *fuzzFront {
	dir, err := os.MkdirTemp("", "lb") // f.TempDir is too long a path
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { os.RemoveAll(dir) })
	t := &fuzzFront{path: filepath.Join(dir, "front")}
	backend, err := net.Listen("unix", filepath.Join(dir, "back"))
	if err != nil {
		f.Fatal(err)
	}
	labtest.Serve(f, backend, t.answer)
	ln, err := net.Listen("unix", t.path)
	if err != nil {
		f.Fatal(err)
	}
	t.handler = newHandler(f, HandlerConfig{
		Logger: slog.New(quietlog.Unblocked(slog.NewTextHandler(t, &slog.HandlerOptions{Level: slog.LevelError}))),
		Pool:   newPool(f, PoolConfig{Backends: []Backend{{Address: "unix:" + backend.Addr().String()}}}),
	})
	srv := &http.Server{Handler: t.handler, ErrorLog: log.New(t, "", 0)}
	go srv.Serve(fromTCP{ln})
	f.Cleanup(func() { srv.Close() })
	return t
}

// answer answers whatever comes first on a connection, and hangs up.
func (t *fuzzFront) answer(c net.Conn) {
	_ = c.SetDeadline(time.Now().Add(bound))
	if _, err := c.Read(make([]byte, 4<<10)); err != nil {
		return
	}
	_, _ = c.Write(*t.response.Load())
	_ = c.(*net.UnixConn).CloseWrite()
	_, _ = io.Copy(io.Discard, c)
}

func (t *fuzzFront) once(tt *testing.T, request, response []byte) {
	t.response.Store(&response)
	c, err := net.Dial("unix", t.path)
	if err != nil {
		tt.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(bound))
	go func() { _, _ = c.Write(request) }()
	// The end of what the client sends means that it has left: not before there is an
	// answer, or there will be none for what has been sent.
	leave := time.AfterFunc(5*time.Millisecond, func() { _ = c.(*net.UnixConn).CloseWrite() })
	defer leave.Stop()
	if _, err := c.Read(make([]byte, 4<<10)); err == nil {
		leave.Reset(0)
		_, err = io.Copy(io.Discard, c)
		if isTimeout(err) {
			tt.Error("no end of the connection")
		}
	} else if isTimeout(err) { // A reset will do
		tt.Error("neither an answer nor the end of the connection")
	}
	waitFor(tt, "the end of the request", func() bool { return t.handler.Stats().Active == 0 })
	if p := t.panicked.Load(); p != nil {
		tt.Error(*p)
	}
}

// Write gets what net/http and the Handler log.
func (t *fuzzFront) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("panic")) {
		s := string(b)
		t.panicked.Store(&s)
	}
	return len(b), nil
}

// fromTCP is a listener whose connections seem to come from an IP address.
type fromTCP struct{ net.Listener }

func (l fromTCP) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return fromTCPConn{c}, err
}

type fromTCPConn struct{ net.Conn }

func (fromTCPConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} }

func (c fromTCPConn) CloseWrite() error {
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return fmt.Errorf("no half-close")
}
