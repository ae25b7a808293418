package healthcheck

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
)

// maxResponseHeader bounds the header of a response, in bytes.
const maxResponseHeader = 64 << 10

// http1 makes one HTTP/1.1 exchange over a connection of its own, without
// net/http's transport: that would cost two goroutines, and it writes to the
// process's log when a server speaks out of turn. The connection ends with the
// response's body or with ctx.
func http1(ctx context.Context, req *http.Request, config *tls.Config) (*http.Response, error) {
	conn, release, err := dial(ctx, "tcp", hostPort(req))
	if err != nil {
		return nil, err
	}
	if req.URL.Scheme == "https" {
		if conn, err = handshake(ctx, conn, hostPort(req), config); err != nil {
			release()
			return nil, err
		}
	}
	resp, err := http1Over(conn, req)
	if err != nil {
		release()
		return nil, err
	}
	resp.Body = &bodyOf{body: resp.Body, close: func(complete bool) {
		if complete {
			awaitClose(ctx, conn) // req.Close has asked the server for it
		}
		release()
	}}
	return resp, nil
}

// bodyOf is a response's body; closing the body ends the connection.
type bodyOf struct {
	body  io.Reader
	ended bool // the body was read to its end
	close func(complete bool)
}

func (b *bodyOf) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	b.ended = b.ended || err == io.EOF
	return n, err
}

func (b *bodyOf) Close() error {
	b.close(b.ended)
	return nil
}

func http1Over(conn net.Conn, req *http.Request) (*http.Response, error) {
	req.Close = true
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	limited := &io.LimitedReader{R: conn, N: maxResponseHeader}
	r := bufio.NewReader(limited)
	for {
		resp, err := http.ReadResponse(r, req)
		switch {
		case limited.N <= 0:
			return nil, fmt.Errorf("response header exceeds %d bytes", maxResponseHeader)
		case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
			return nil, errors.New("closed without a response")
		case err != nil:
			return nil, err
		}
		// An informational response comes before the real one (RFC 9110 §15.2).
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			limited.N = 1 << 62 // the reader of the body has a bound of its own
			return resp, nil
		}
	}
}

// http2 makes one HTTP/2 exchange over a connection of its own, encrypted or
// not as the request's URL says.
func http2(ctx context.Context, req *http.Request, config *tls.Config) (*http.Response, error) {
	t := &http.Transport{
		DialContext: func(_ context.Context, network, address string) (net.Conn, error) {
			conn, err := connect(ctx, network, address) // the transport's own context outlives the request
			if err != nil {
				return nil, err
			}
			unbind := bindDeadline(ctx, conn)
			return &polite{conn, sync.OnceValue(func() error {
				unbind() // the check may have ended, and closeInOrder has a bound of its own
				closeInOrder(context.Background(), conn)
				return conn.Close()
			})}, nil
		},
		TLSClientConfig:        config.Clone(),
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxResponseHeader,
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetHTTP2(true)
	t.Protocols.SetUnencryptedHTTP2(true)
	t.Protocols.SetHTTP1(config != nil && slices.Contains(config.NextProtos, "http/1.1"))
	context.AfterFunc(ctx, t.CloseIdleConnections)
	return t.RoundTrip(req)
}

// polite is a connection that ends in order. Close may be called while another goroutine
// reads, and more than once.
type polite struct {
	net.Conn
	close func() error
}

func (p *polite) Close() error { return p.close() }

// hostPort is where a request's URL leads.
func hostPort(req *http.Request) string {
	return net.JoinHostPort(req.URL.Hostname(), cmp.Or(req.URL.Port(), req.URL.Scheme)) // a scheme is the name of its port
}

// handshake turns conn into TLS. Unless config says otherwise, the certificate must be
// for the host of address.
func handshake(ctx context.Context, conn net.Conn, address string, config *tls.Config) (*tls.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	config = cmp.Or(config, new(tls.Config)).Clone()
	config.ServerName = cmp.Or(config.ServerName, host)
	c := tls.Client(conn, config)
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return c, nil
}
