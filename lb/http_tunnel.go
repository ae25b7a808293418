package lb

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// tunnel hands the connection over to the protocol that client and backend
// have agreed on, a WebSocket for instance.
func (x *exchange) tunnel(res *http.Response, pick Pick) {
	backend, ok := res.Body.(io.ReadWriteCloser)
	asked, got := x.header.Get("Upgrade"), upgradeOf(res.Header)
	if !ok || asked == "" || !strings.EqualFold(asked, got) {
		res.Body.Close()
		pick.Done(Failure)
		x.fail(fmt.Errorf("backend %s: switched to protocol %q, asked for %q", pick.Backend(), got, asked))
		return
	}
	defer pick.Done(Success)
	client, buffered, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		backend.Close()
		x.fail(fmt.Errorf("taking over the client's connection: %w", err))
		return
	}
	s := &session{client: &hijacked{client, buffered.Reader}, idle: x.h.TunnelTimeout}
	s.attach(backend, pick.member.server)
	if !x.h.tunnels.add(s) {
		s.abort()
		return
	}
	defer x.h.tunnels.remove(s)
	// The response as it came, with what was negotiated about the protocol.
	x.set(res.Header, x.h.ResponseHeaders, pick.Backend(), addrString(addrPort(x.source).Addr()))
	res.Body = nil
	if res.Write(client) != nil {
		s.abort()
		return
	}
	s.relay()
	x.record.Received, x.record.Sent = s.up.Load(), s.down.Load()
}

// hijacked is a connection taken over from net/http, with what it had read.
type hijacked struct {
	net.Conn
	r *bufio.Reader
}

func (h *hijacked) Read(p []byte) (int, error) { return h.r.Read(p) }

func (h *hijacked) CloseWrite() error {
	if cw, ok := h.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return nil
}

// NetConn returns the connection itself, as that of tls.Conn does.
func (h *hijacked) NetConn() net.Conn { return h.Conn }
