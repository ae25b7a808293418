package lb

import (
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/havip/havip/internal/lab/labtest"
)

// exchanged sends a request whose connection ends with it, and returns what client and
// backend have got, byte by byte.
func exchanged(t *testing.T, request, response string) (client, backend string) {
	t.Helper()
	rec := labtest.Record(t, func(c net.Conn, _ string) {
		io.WriteString(c, response)
		c.Close()
	})
	s, _ := front(t, HandlerConfig{}, Backend{Address: rec.Address})
	c := newReader(t, s.Listener.Addr().String())
	io.WriteString(c, request)
	return everything(t, c), rec.Bytes()
}

const aLastGet = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

// TestUpgradeRequired: a client learns from a 426 which protocol it should use (RFC 9110
// §15.5.22). Other responses offer protocols that are not passed on.
func TestUpgradeRequired(t *testing.T) {
	const required = "HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n"
	for _, tt := range []struct {
		name, response, request string
		want                    bool
	}{
		{"426", required, aLastGet, true},
		{"426 to HTTP/1.0", required, "GET / HTTP/1.0\r\n\r\n", false},
		{"200", strings.Replace(required, "426 Upgrade Required", "200 OK", 1), aLastGet, false},
		// Its connection ends with it, and that is more important.
		{"426 after chunks", required, "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", true},
	} {
		got, _ := exchanged(t, tt.request, tt.response)
		if strings.Contains(got, "\r\nUpgrade: websocket\r\n") != tt.want {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
	s, _ := front(t, HandlerConfig{}, Backend{Address: labtest.Record(t, labtest.Answers(required)).Address})
	c := newReader(t, s.Listener.Addr().String())
	for range 2 { // on a connection that stays
		if res, _, err := c.ask(t, aGet); err != nil || res.Header.Get("Upgrade") != "websocket" || res.Header.Get("Connection") != "Upgrade" {
			t.Errorf("%+v, %v", res, err)
		}
	}
	// The connection ends: Connection says both.
	got, _ := exchanged(t, "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", required)
	if !strings.Contains(got, "\r\nConnection: close\r\n") || !strings.Contains(got, "\r\nConnection: Upgrade\r\n") || !strings.Contains(got, "\r\nUpgrade: websocket\r\n") {
		t.Errorf("after chunks: %q", got)
	}
	s, _ = front2(t, HandlerConfig{}, Backend{Address: labtest.Record(t, labtest.Answers(required)).Address})
	res, err := s.Client().Get(s.URL)
	if body(t, res, err); res.StatusCode != 426 || res.Header.Get("Upgrade") != "" { // RFC 9113 §8.2.2
		t.Errorf("HTTP/2: %+v", res)
	}
}

// TestSwitchHasNoLength: a 101 carries no Content-Length, whatever the method of the
// request (RFC 9110 §8.6), and nothing else that the backend did not send.
func TestSwitchHasNoLength(t *testing.T) {
	const switched = "HTTP/1.1 101 Changing\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
	for _, method := range []string{"GET", "POST"} {
		for _, length := range []string{"", "Content-Length: 0\r\n", "Trailer: x\r\n"} {
			got, _ := exchanged(t, method+" / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
				strings.TrimSuffix(switched, "\r\n")+length+"\r\nbye")
			if got != switched+"bye" {
				t.Errorf("%s: %q, want %q", method, got, switched+"bye")
			}
		}
	}
}

// TestConnectionNamesTE: TE is for the next server only, and Connection has to say so (RFC
// 9110 §10.1.4).
func TestConnectionNamesTE(t *testing.T) {
	for _, tt := range []struct{ header, want string }{
		{"TE: trailers\r\nConnection: TE, close\r\n", "connection: te|te: trailers"},
		{"TE: trailers\r\nConnection: TE, Upgrade, close\r\nUpgrade: x\r\n", "connection: te, upgrade|te: trailers|upgrade: x"},
		{"TE: gzip\r\nConnection: TE, close\r\n", ""},
	} {
		_, got := exchanged(t, "GET / HTTP/1.1\r\nHost: x\r\n"+tt.header+"\r\n", anOK)
		lines := slices.DeleteFunc(strings.Split(strings.ToLower(got), "\r\n"), func(line string) bool {
			name, _, _ := strings.Cut(line, ":")
			return name != "connection" && name != "te" && name != "upgrade"
		})
		slices.Sort(lines)
		if strings.Join(lines, "|") != tt.want {
			t.Errorf("%q: the backend got %q, want %q", tt.header, got, tt.want)
		}
	}
}

// TestDateIsAdded: a response that comes without a Date gets one (RFC 9110 §6.6.1). That of
// a backend stays.
func TestDateIsAdded(t *testing.T) {
	for date, want := range map[string]string{"": "\r\nDate: ", "Date: x\r\n": "\r\nDate: x\r\n"} {
		response := "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 2\r\n\r\nok"
		if got, _ := exchanged(t, aLastGet, response); strings.Count(got, "\r\nDate: ") != 1 || !strings.Contains(got, want) {
			t.Errorf("%q: %q", response, got)
		}
		s, _ := front2(t, HandlerConfig{}, Backend{Address: labtest.Record(t, labtest.Answers(response)).Address})
		res, err := s.Client().Get(s.URL)
		if body(t, res, err); len(res.Header["Date"]) != 1 || date != "" && res.Header.Get("Date") != "x" {
			t.Errorf("HTTP/2: %v", res.Header)
		}
	}
}

// TestNotModifiedKeepsItsHeader: a 304 tells about the response to a GET (RFC 9110 §8.6),
// and a 204 has nothing to tell.
func TestNotModifiedKeepsItsHeader(t *testing.T) {
	for _, tt := range []struct {
		response     string
		length, kind string
	}{
		{"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nContent-Type: a/b\r\n\r\n", "5", "a/b"},
		{"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", "", ""},
		{"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", "", ""},
	} {
		response := labtest.Answers(tt.response)
		s, _ := front(t, HandlerConfig{}, Backend{Address: labtest.Record(t, response).Address})
		s2, _ := front2(t, HandlerConfig{}, Backend{Address: labtest.Record(t, response).Address})
		c := newReader(t, s.Listener.Addr().String())
		for range 2 { // on one connection: there is no body that could be left there
			res, _, err := c.ask(t, aGet)
			if err != nil || res.Header.Get("Content-Length") != tt.length || res.Header.Get("Content-Type") != tt.kind {
				t.Errorf("%q: %+v, %v", tt.response, res, err)
			}
		}
		res, err := s2.Client().Get(s2.URL)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.Header.Get("Content-Length") != tt.length || res.Header.Get("Content-Type") != tt.kind {
			t.Errorf("HTTP/2: %q: %v", tt.response, res.Header)
		}
	}
}

// TestChunksOfHTTP10: a backend that is not allowed chunks, but sends them, means chunks.
// It cannot be trusted with another request on that connection (RFC 9112 §6.1).
func TestChunksOfHTTP10(t *testing.T) {
	for _, tt := range []struct {
		header, body string
		kept         bool
	}{
		{"Transfer-Encoding: chunked", "2\r\nok\r\n0\r\n\r\n", false},
		{"Transfer-Encoding: chunked\r\nContent-Length: 4", "2\r\nok\r\n0\r\n\r\n", false},
		{"Content-Length: 2", "ok", true},
		{"X: y", "ok", false},
	} {
		var conns sync.Map
		rec := labtest.Record(t, func(c net.Conn, _ string) {
			conns.Store(c.RemoteAddr().String(), true)
			io.WriteString(c, "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n"+tt.header+"\r\n\r\n"+tt.body)
			if tt.header == "X: y" {
				c.Close()
			}
		})
		s, _ := front(t, HandlerConfig{ModifyResponse: func(res *http.Response) error {
			if res.Proto != "HTTP/1.0" || res.ProtoAtLeast(1, 1) {
				t.Errorf("a response of %s", res.Proto)
			}
			return nil
		}}, Backend{Address: rec.Address})
		c := newReader(t, s.Listener.Addr().String())
		for range 2 {
			if _, got, err := c.ask(t, aGet); err != nil || got != "ok" {
				t.Errorf("%q: %q, %v", tt.header, got, err)
			}
		}
		n := 0
		conns.Range(func(any, any) bool { n++; return true })
		if kept := n == 1; kept != tt.kept {
			t.Errorf("%q: %d connections", tt.header, n)
		}
	}
}
