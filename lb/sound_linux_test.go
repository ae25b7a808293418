package lb

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestQuickResponseToHalfClosedClientIsOneWrite: no byte goes ahead of a response that does
// not take long. Some clients take what they read first for the whole status line.
func TestQuickResponseToHalfClosedClientIsOneWrite(t *testing.T) {
	address, _ := listening(t, HandlerConfig{}, webBackend(t, func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(soundAfter / 5) // the client's end comes first
		io.WriteString(w, "ok")
	}))
	const tries = 20 // on a slow machine most responses are not quick
	for range tries {
		c := dialTest(t, address)
		io.WriteString(c, aGet)
		_ = c.CloseWrite()
		first := make([]byte, 1024)
		n, err := c.Read(first)
		if err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(c)
		if all := string(first[:n]) + string(rest); err != nil || !strings.HasPrefix(all, "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(all, "\r\n\r\nok") {
			t.Fatalf("%q, %v", all, err)
		}
		if len(rest) == 0 {
			return
		}
	}
	t.Errorf("none of %d responses came in one piece", tries)
}

// TestSoundDoesNotWait: the byte that goes ahead is left out where a client takes nothing:
// there would be no bound for the wait.
func TestSoundDoesNotWait(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_ = dialTest(t, ln.Addr().String()).SetReadBuffer(4096)
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p := &proxiedConn{prefaced: prefaced{Conn: c}}
	const tries = 20 // the kernel may find some more room later
	for range tries {
		for taken := 1; taken > 0; {
			_ = p.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
			taken, _ = p.Write(make([]byte, 1<<20))
		}
		_ = p.SetWriteDeadline(time.Time{})
		p.ahead = false
		p.endResponse()
		done := make(chan bool)
		go func() { p.sound(); close(done) }()
		select {
		case <-done:
		case <-time.After(bound):
			t.Fatal("it waits")
		}
		if !p.ahead {
			return
		}
	}
	t.Errorf("a byte went out in each of %d tries", tries)
}

// TestNothingGoesAheadOfAResponseUnderWay: a middleware may write a response of its own, and
// ask the Handler for a part of it.
func TestNothingGoesAheadOfAResponseUnderWay(t *testing.T) {
	b, got, release, _ := held(t, anOK)
	h := newHandler(t, HandlerConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{b}})})
	c := newReader(t, serving(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "before ")
		_ = http.NewResponseController(w).Flush()
		part := httptest.NewRecorder()
		h.ServeHTTP(part, r)
		io.WriteString(w, part.Body.String()+" after")
	})}))
	io.WriteString(c, aGet)
	<-got
	_ = closeWrite(c.Conn)
	time.Sleep(3 * soundAfter)
	release <- true
	res, err := http.ReadResponse(c.r, nil)
	if got := body(t, res, err); got != "before ok after" {
		t.Errorf("%q", got)
	}
}

// TestIdleConnectionGetsNoByte: the end of a connection without a request is just that.
func TestIdleConnectionGetsNoByte(t *testing.T) {
	address, _ := listening(t, HandlerConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		io.WriteString(c, anOK)
	}))
	for _, request := range []string{"", aGet} {
		c := newReader(t, address)
		if request != "" {
			if _, got, err := c.ask(t, request); err != nil || got != "ok" {
				t.Fatalf("%q, %v", got, err)
			}
		}
		_ = closeWrite(c.Conn)
		if rest := everything(t, c); rest != "" {
			t.Errorf("%q", rest)
		}
	}
}

// TestByteAheadIsWrittenOnce: it is the first of the next write, and what is written there
// counts as a whole. A second one does not come.
func TestByteAheadIsWrittenOnce(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client := dialTest(t, ln.Addr().String())
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	p := &proxiedConn{prefaced: prefaced{Conn: c}}
	p.sound()
	p.sound()
	for _, piece := range []string{"", "HTTP/1.1 ", "200"} {
		if n, err := p.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Errorf("%q: %d bytes written, %v", piece, n, err)
		}
	}
	p.sound() // a response is under way
	c.Close()
	if got, err := io.ReadAll(client); err != nil || string(got) != "HTTP/1.1 200" {
		t.Errorf("%q, %v", got, err)
	}
}
