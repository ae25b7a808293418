package lb

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// nastyEnd is how a client ends what it has to say.
type nastyEnd int

const (
	leaves     nastyEnd = iota // closes the connection
	resets                     // the same by a reset
	halfCloses                 // and reads on
	reads                      // says no more, and reads until the end
)

// nastyClients say something to a backend that echoes the body of a request. Clients that
// read get want: the status lines of all answers, parted by |.
var nastyClients = []struct {
	name string
	says string
	ends nastyEnd
	want string
}{
	{"leaves without a word", "", leaves, ""},
	{"half-closes without a word", "", halfCloses, ""},
	{"resets without a word", "", resets, ""},
	{"leaves in the request line", "GET /", leaves, ""},
	{"half-closes in the request line", "GET /", halfCloses, ""},
	{"leaves in the header", "GET / HTTP/1.1\r\nHost: x\r\nX-A", leaves, ""},
	{"resets in the header", "GET / HTTP/1.1\r\nHost: x\r\nX-A", resets, ""},
	{"half-closes before the empty line", "GET / HTTP/1.1\r\nHost: x\r\n", halfCloses, ""},
	{"leaves before the body", "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n", leaves, ""},
	{"leaves in the body", "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhalf", leaves, ""},
	{"resets in the body", "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhalf", resets, ""},
	{"leaves in a chunk", "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf", leaves, ""},
	{"leaves between chunks", "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", leaves, ""},
	{"leaves in the size of a chunk", "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n4", leaves, ""},
	{"leaves after the last chunk", "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n", leaves, ""},
	{"leaves in the trailer", "PUT / HTTP/1.1\r\nHost: x\r\nTrailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\nX-T", leaves, ""},
	{"leaves before 100 (Continue)", "PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n", leaves, ""},
	{"resets before 100 (Continue)", "PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n", resets, ""},
	{"leaves with the answer on its way", aGet, leaves, ""},
	{"resets with the answer on its way", aGet, resets, ""},
	{"leaves with many answers on their way", strings.Repeat(aGet, 50), leaves, ""},
	{"resets with many answers on their way", strings.Repeat(aGet, 50), resets, ""},

	{"half-closes after its request", aGet, halfCloses, "200 OK"},
	{"half-closes after its body", aPost, halfCloses, "200 OK"},
	{"half-closes after many requests", strings.Repeat(aGet, 5), halfCloses, "200 OK|200 OK|200 OK|200 OK|200 OK"},
	{"half-closes in the second request", aGet + "GET / HT", halfCloses, "200 OK"},
	{"says more than the length of its body", strings.Replace(aPost, "abc", "abcdef", 1) + "\r\n\r\n", reads, "200 OK|400 Bad Request"},
	{"body does not come", "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhalf", reads, "408 Request Timeout"},
	{"rest of a chunk does not come", "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf", reads, "408 Request Timeout"},
	{"body does not come after 100 (Continue)", "PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 8\r\n\r\n", reads, "100 Continue|408 Request Timeout"},
	{"size of a chunk is no number", "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", reads, "400 Bad Request"},
	{"second chunk is longer than its size", "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nbc\r\n0\r\n\r\n", reads, "400 Bad Request"},
	{"speaks TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", reads, "400 Bad Request"},
	{"answers", anOK, reads, "400 Bad Request"},
	{"speaks SMTP", "EHLO mail.test\r\n", reads, "400 Bad Request"},
	{"one bad request after a good one", aGet + "GET\r\n\r\n" + aGet, reads, "200 OK|400 Bad Request"},
	{"lengths that differ, after a good one", aGet + "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n" + aGet, reads, "200 OK|400 Bad Request"},
}

// TestNastyClients: whatever a client does, no backend is blamed or kept, and the next client
// is served.
func TestNastyClients(t *testing.T) {
	for _, tt := range nastyClients {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // some wait
			cfg := HandlerConfig{}
			if strings.Contains(tt.want, "408") {
				cfg.ClientTimeout = time.Second
			}
			address, h := listening(t, cfg, webBackend(t, func(w http.ResponseWriter, r *http.Request) {
				content, err := io.ReadAll(r.Body)
				if err == nil {
					_, _ = w.Write(append(content, "ok"...))
				}
			}))
			c := newReader(t, address)
			io.WriteString(c, tt.says)
			switch tt.ends {
			case leaves, resets:
				if tt.ends == resets {
					_ = c.Conn.(*net.TCPConn).SetLinger(0)
				}
				c.Close()
			case halfCloses:
				_ = closeWrite(c.Conn)
				fallthrough
			case reads:
				got, err := io.ReadAll(c.r)
				lines := statusLines(string(got))
				if tt.ends == halfCloses { // it may be told that the last one was no request
					lines = strings.Trim(strings.TrimSuffix(lines, "400 Bad Request"), "|")
				}
				if err != nil && !errors.Is(err, syscall.ECONNRESET) || lines != tt.want {
					t.Errorf("%q, %v; want %q", got, err, tt.want)
				}
			}
			waitFor(t, "all to end", func() bool { return h.Stats().Active == 0 && h.pool().Status().Backends[0].Active == 0 })
			if n := h.pool().Status().Backends[0].Failures; n != 0 {
				t.Errorf("%d failures of the backend", n)
			}
			if got := rawStatusOf(t, address, aLastGet); got != 200 {
				t.Errorf("the next client gets %d", got)
			}
		})
	}
}

// rawStatusOf sends a request on a connection of its own, and returns the status.
func rawStatusOf(t *testing.T, address, request string) int {
	t.Helper()
	res, _, err := newReader(t, address).ask(t, request)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode
}

// TestClientsThatDoNotRead: a response that its client does not take is given up, and the
// backend gets its place back.
func TestClientsThatDoNotRead(t *testing.T) {
	for name, header := range map[string]string{"length": "Content-Length: 100000000", "chunks": "Transfer-Encoding: chunked", "until the end": "X: y"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var ended atomic.Bool
			address, h := listening(t, HandlerConfig{ClientTimeout: time.Second}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
				defer ended.Store(true)
				http.ReadRequest(r)
				io.WriteString(c, "HTTP/1.1 200 OK\r\n"+header+"\r\n\r\n")
				piece := strings.Repeat("x", 0x8000)
				if name == "chunks" {
					piece = "8000\r\n" + piece + "\r\n"
				}
				for range 100000000 / 0x8000 {
					if _, err := io.WriteString(c, piece); err != nil {
						return
					}
				}
			}))
			c := newReader(t, address)
			io.WriteString(c, aGet)
			res, err := http.ReadResponse(c.r, nil)
			if err != nil {
				t.Fatal(err)
			}
			waitFor(t, "the response to be given up", func() bool { return ended.Load() && h.Stats().Active == 0 })
			if st := h.pool().Status().Backends[0]; st.Failures != 0 || st.Active != 0 {
				t.Errorf("%+v", st)
			}
			if got, err := io.Copy(io.Discard, res.Body); err == nil {
				t.Errorf("after %d bytes the response looks complete", got)
			}
		})
	}
}

// TestByteByByte: a client with a slow line gets what others get, by the same bytes.
func TestByteByByte(t *testing.T) {
	const requests = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n" +
		"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" +
		"PUT /c HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"
	rec, b := record(t)
	address, h := listening(t, HandlerConfig{}, b)
	c := newReader(t, address)
	var writing sync.WaitGroup
	writing.Go(func() {
		for i := range len(requests) {
			if _, err := io.WriteString(pacedConn{c}, requests[i:i+1]); err != nil {
				t.Error(i, err)
				return
			}
		}
	})
	defer writing.Wait()
	if got := statusLines(everything(t, c)); got != "200 OK|200 OK|200 OK" {
		t.Errorf("%q", got)
	}
	want := "GET /a HTTP/1.1|Host: x||\nPOST /b HTTP/1.1|Host: x|Content-Length: 3||abc\nPUT /c HTTP/1.1|Host: x|Transfer-Encoding: chunked||abcd"
	if got := dechunked(briefly(rec)); got != want {
		t.Errorf("the backend got %q, want %q", got, want)
	}
	waitFor(t, "all to end", func() bool { return h.Stats().Active == 0 })
}

// dechunked joins requests by newlines. Of chunks, which may have been cut otherwise than
// they came, it leaves the content.
func dechunked(requests []string) string {
	for i, request := range requests {
		head, chunks, _ := strings.Cut(request, "||")
		if !strings.Contains(head, "|Transfer-Encoding: chunked") {
			continue
		}
		lines, content := strings.Split(chunks, "\r\n"), ""
		for j := 1; j < len(lines) && lines[j-1] != "0"; j += 2 {
			content += lines[j]
		}
		requests[i] = head + "||" + content
	}
	return strings.Join(requests, "\n")
}
