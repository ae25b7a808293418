package lb

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"testing"
)

func TestUpgrade(t *testing.T) {
	s, h := front(t, HandlerConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil || req.Header.Get("Upgrade") != "websocket" || req.Header.Get("X-Forwarded-For") == "" {
			io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
			return
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\nhello ")
		got, _ := io.ReadAll(r) // until the client's half is closed,
		c.Write(bytes.ToUpper(got))
	}))
	c := dialTest(t, s.Listener.Addr().String())
	// The first frame comes right behind the request.
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\nearly ")
	br := bufio.NewReader(c)
	res, err := http.ReadResponse(br, nil)
	if err != nil || res.StatusCode != 101 || res.Header.Get("Sec-Websocket-Accept") != "x" || res.Header.Get("Upgrade") != "websocket" {
		t.Fatalf("%+v, %v", res, err)
	}
	io.WriteString(c, "late")
	c.CloseWrite()
	got, err := io.ReadAll(br)
	if string(got) != "hello EARLY LATE" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	waitFor(t, "the pick to be returned", func() bool { return h.pool().Status().Backends[0].Active == 0 })
}

func TestShutdownCutsTunnelsAtItsDeadline(t *testing.T) {
	onlyNetHTTP(t, "a plane ends with its Serve")
	s, h := front(t, HandlerConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		io.Copy(c, r)
	}))
	c := dialTest(t, s.Listener.Addr().String())
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
	br := bufio.NewReader(c)
	if _, err := http.ReadResponse(br, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan bool)
	go func() { h.Shutdown(ctx); close(done) }()
	io.WriteString(c, "ping")
	if _, err := io.ReadFull(br, make([]byte, 4)); err != nil {
		t.Fatalf("the tunnel is dead before the deadline: %v", err)
	}
	cancel()
	<-done
	if _, err := br.ReadByte(); err == nil {
		t.Error("the tunnel is alive after the deadline")
	}
}
