package lb

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// exchange is one request on its way to a backend and back.
type exchange struct {
	h      *Handler
	w      http.ResponseWriter
	in     *http.Request
	client netip.AddrPort
	header http.Header // Of the request to the backend.
	body   *replayBody
	source net.Addr // Local address of the connection to the backend.
	pick   Pick     // Who answered; zero if nobody did.
	record Record
}

// newTransport keeps connections to backends for as long as they may be idle.
func (h *Handler) newTransport(idle time.Duration) *http.Transport {
	return &http.Transport{
		DialContext:            h.dial,
		TLSClientConfig:        h.BackendTLS,
		TLSHandshakeTimeout:    h.ConnectTimeout,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    1024,
		IdleConnTimeout:        idle,
		ResponseHeaderTimeout:  h.Timeout,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// dialError marks errors of connecting: nothing was sent.
type dialError struct{ error }

func (e dialError) Unwrap() error { return e.error }

func (h *Handler) dial(ctx context.Context, _, host string) (net.Conn, error) {
	d := net.Dialer{Timeout: h.ConnectTimeout, KeepAlive: -1}
	network, address := network(addressOf(host))
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, dialError{err}
	}
	u := &upstreamConn{Conn: c}
	u.timeout.Store(int64(h.Timeout))
	return u, nil
}

// hostOf is how a backend's address is written in a URL, and addressOf its
// reverse: http.Transport knows only host:port.
func hostOf(address string) string {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return hex.EncodeToString([]byte(path)) + ".unix:80"
	}
	return address
}

func addressOf(host string) string {
	if name, ok := strings.CutSuffix(host, ".unix:80"); ok {
		if path, err := hex.DecodeString(name); err == nil {
			return "unix:" + string(path)
		}
	}
	return host
}

// upstreamConn is a connection to a backend that times out when nothing moves,
// and counts what was sent.
type upstreamConn struct {
	net.Conn
	timeout atomic.Int64
	written atomic.Int64
}

func (c *upstreamConn) deadline() time.Time {
	return time.Now().Add(time.Duration(c.timeout.Load()))
}

func (c *upstreamConn) Read(p []byte) (int, error) {
	_ = c.Conn.SetReadDeadline(c.deadline())
	return c.Conn.Read(p)
}

// Write also gives a pending read more time: while an upload goes on, a
// backend need not answer.
func (c *upstreamConn) Write(p []byte) (int, error) {
	_ = c.Conn.SetDeadline(c.deadline())
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	return n, err
}

func (c *upstreamConn) CloseWrite() error {
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return errors.ErrUnsupported
}

// upstream finds the upstreamConn below a connection of the transport.
func upstream(c net.Conn) *upstreamConn {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn()
	}
	u, _ := c.(*upstreamConn)
	return u
}

// send gets a response from some backend. The caller must close its body and
// call the pick's Done.
func (x *exchange) send() (*http.Response, Pick, error) {
	flow := Flow{Client: x.client, Key: x.in.URL.Path}
	var last error
	for range x.h.Tries {
		pick, err := x.h.Pool.Acquire(x.in.Context(), &flow)
		if err != nil {
			if last != nil {
				err = last // More to the point than that nobody else is left.
			}
			return nil, Pick{}, err
		}
		res, sent, err := x.try(pick)
		if err == nil {
			return res, pick, nil
		}
		last = fmt.Errorf("backend %s: %w", pick.Backend(), err)
		if x.in.Context().Err() != nil || x.body.failed() != nil {
			pick.Done(Neutral)
			return nil, Pick{}, last
		}
		if sent == stale {
			pick.Done(Neutral)
		} else {
			pick.Done(Failure)
			x.record.Retries++
			x.h.log.Info("backend failed", "backend", pick.Backend(), "error", err)
		}
		if !x.body.replayable() || sent != unsent && !x.idempotent() {
			return nil, Pick{}, last
		}
	}
	return nil, Pick{}, last
}

// idempotent as nginx has it (proxy_next_upstream).
func (x *exchange) idempotent() bool {
	switch x.in.Method {
	case http.MethodPost, http.MethodPatch, "LOCK":
		return false
	}
	return true
}

// sending says how far an attempt that failed had come.
type sending int

const (
	unsent sending = iota // Not one byte went out.
	sent
	stale // Sent on a kept connection that the backend has ended: not a failure.
)

// try sends the request to one backend.
func (x *exchange) try(pick Pick) (*http.Response, sending, error) {
	out := x.request(pick)
	var conn atomic.Pointer[upstreamConn]
	var before atomic.Int64
	var reused atomic.Bool
	informational := &informational{w: x.w, open: true}
	defer informational.close()
	trace := &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) {
			u := upstream(i.Conn)
			conn.Store(u)
			before.Store(u.written.Load())
			reused.Store(i.Reused)
		},
		Got1xxResponse: informational.pass,
	}
	out = out.WithContext(httptrace.WithClientTrace(x.in.Context(), trace))
	out.Body = x.body.attempt(out)
	transport := x.h.fresh
	if x.idempotent() {
		transport = x.h.repeatable
	}
	res, err := transport.RoundTrip(out)
	u := conn.Load()
	if err == nil && res.StatusCode < 100 {
		res.Body.Close() // The server would panic.
		err = fmt.Errorf("status %d", res.StatusCode)
	}
	if err == nil {
		x.source = u.LocalAddr()
		if res.StatusCode == http.StatusSwitchingProtocols {
			u.timeout.Store(int64(x.h.TunnelTimeout))
		}
		return res, sent, nil
	}
	var de dialError
	switch {
	case errors.As(err, &de), u == nil, u.written.Load() == before.Load():
		return nil, unsent, err
	case reused.Load() && !isTimeout(err):
		return nil, stale, err
	}
	return nil, sent, err
}

// request makes the request for one attempt.
func (x *exchange) request(pick Pick) *http.Request {
	u := *x.in.URL
	u.Scheme, u.Host, u.User, u.Fragment = "http", hostOf(pick.Address()), nil, ""
	if x.h.BackendTLS != nil {
		u.Scheme = "https"
	}
	out := &http.Request{
		Method: x.in.Method, URL: &u, Host: x.in.Host, Header: x.header,
		ContentLength: x.in.ContentLength,
		Proto:         "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	if len(x.in.Trailer) > 0 {
		out.Trailer = make(http.Header, len(x.in.Trailer))
		for name := range x.in.Trailer {
			out.Trailer[name] = nil
		}
	}
	if strings.Contains(x.header.Get("Expect"), "100-continue") && x.body.replaying() {
		// The client has been told to continue: nobody waits any more.
		out.Header = x.header.Clone()
		out.Header.Del("Expect")
	}
	return out
}

// replaying tells whether some of the body was read before.
func (b *replayBody) replaying() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.read > 0
}

// informational passes 1xx responses on, as long as no final one was chosen.
type informational struct {
	mu   sync.Mutex
	w    http.ResponseWriter
	open bool
}

func (i *informational) pass(code int, header textproto.MIMEHeader) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	// 100 is sent by the server when the body is read.
	if !i.open || code == http.StatusContinue {
		return nil
	}
	h := i.w.Header()
	for name, values := range header {
		h[name] = values
	}
	i.w.WriteHeader(code)
	clear(h)
	return nil
}

func (i *informational) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.open = false
}
