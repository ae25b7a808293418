package lb

import (
	"context"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// httpFront is an http.Server. A server cannot change its timeouts and bounds while it serves:
// that takes another front, and the front of before goes when it has no connections any
// more.
type httpFront struct {
	frontConfig
	plane  *HTTP
	server *http.Server
	endTwo func()        // has clients of HTTP/2 leave in order (GOAWAY)
	conns  chan net.Conn // for the server
	closed chan struct{} // the server takes no more
	once   sync.Once     // closes it

	uses int // connections, and those that are on their way; plane.mu guards it
}

// frontConfig is what a front does with connections.
type frontConfig struct {
	header, idle time.Duration
	maxHeader    int // bytes; see maxHeaderBytes
	maxStreams   int // on a connection of HTTP/2
}

// newFrontConfig picks what a front needs.
func newFrontConfig(c *HTTPConfig) frontConfig {
	return frontConfig{header: c.HeaderTimeout, idle: c.IdleTimeout, maxHeader: maxHeaderBytes(&c.HandlerConfig), maxStreams: c.MaxStreams}
}

// maxHeaderBytes is how much of a header a front reads: what the handler accepts, and no
// more than needs be. The handler counts again, as HTTP/1.1 would: HTTP/2 adds 32 bytes to
// each field, and browsers make a field of each cookie there (RFC 9113 §6.5.2, §8.2.3).
func maxHeaderBytes(c *HandlerConfig) int {
	return int(c.MaxHeader) + 32*c.MaxFields + maxCookies*(len("cookie")+32)
}

// maxCookies is how many cookies browsers keep for a site.
const maxCookies = 180

// maxFrame is the size of the frames of HTTP/2 that a front takes, each of which it holds in
// memory: the least that it may want (RFC 9113 §4.2). net/http would take 1 MB.
const maxFrame = 16 << 10

// useFront returns the front for new connections, with one use more: the plane lasts until
// the connection that it is for has ended, or [httpFront.leave] is called.
func (p *HTTP) useFront() *httpFront {
	cfg := p.settings.Load().front
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := p.front; old == nil || old.frontConfig != cfg {
		p.front = p.newFront(cfg)
		p.fronts[p.front] = struct{}{}
		if old != nil && old.uses == 0 {
			p.forget(old)
		}
	}
	f := p.front
	f.countUse(1)
	return f
}

// newFront returns a front that serves.
func (p *HTTP) newFront(cfg frontConfig) *httpFront {
	f := &httpFront{frontConfig: cfg, plane: p, conns: make(chan net.Conn), closed: make(chan struct{})}
	f.server = &http.Server{
		Handler:           f.lastAnswers(p.handler),
		ReadHeaderTimeout: f.header,
		IdleTimeout:       f.idle,
		MaxHeaderBytes:    f.maxHeader,
		Protocols:         frontProtocols(),
		HTTP2:             &http.HTTP2Config{MaxReadFrameSize: maxFrame, MaxConcurrentStreams: f.maxStreams},
		ErrorLog:          log.New(debugLog{p}, "", 0),
		// OPTIONS * is the backends' to answer.
		DisableGeneralOptionsHandler: true,
		ConnState: func(c net.Conn, s http.ConnState) {
			if head := headOf(c); head != nil {
				switch s {
				case http.StateIdle: // between two requests
					head.restart()
				case http.StateClosed:
					f.noteGarbage(c, head)
				}
			}
			// An upgraded connection leaves the front: from then on it is the handler's.
			if s == http.StateClosed || s == http.StateHijacked {
				f.leave()
			}
		},
	}
	f.endTwo = separateHTTP2(f.server)
	TrackConns(f.server)
	go func() { _ = f.server.Serve(f) }()
	return f
}

// frontProtocols are those that clients may speak: HTTP/2 by ALPN and, without TLS, by prior
// knowledge (RFC 9113 §3.3). The way by an Upgrade is none: RFC 9113 has given it up.
func frontProtocols() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return p
}

// separateHTTP2 has s serve HTTP/2 by the means of another server, whose Shutdown end calls:
// that of s would drop late requests of HTTP/1.
func separateHTTP2(s *http.Server) (end func()) {
	two := &http.Server{IdleTimeout: s.IdleTimeout, HTTP2: s.HTTP2, Protocols: s.Protocols}
	_ = two.Serve(noListener{}) // sets TLSNextProto
	s.TLSNextProto = two.TLSNextProto
	return func() { _ = two.Shutdown(context.Background()) } // has no connections of its own
}

// noListener is closed already.
type noListener struct{}

func (noListener) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (noListener) Close() error              { return nil }
func (noListener) Addr() net.Addr            { return &net.TCPAddr{} }

// lastAnswers has each answer of a plane that ends say that it is the last one of its
// connection. By HTTP/2 it makes the server refuse further requests in order (GOAWAY).
func (f *httpFront) lastAnswers(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.isGarbage(w, r) {
			return
		}
		if f.plane.leaving.Load() {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
}

// give has the server serve c, which is a use of f already.
func (f *httpFront) give(c net.Conn) {
	c = hear(c)
	select {
	case f.conns <- c:
	case <-f.closed:
		c.Close()
		f.leave()
	}
}

// Accept, Close and Addr make f the listener of its server.
func (f *httpFront) Accept() (net.Conn, error) {
	select {
	case c := <-f.conns:
		return c, nil
	case <-f.closed:
		return nil, net.ErrClosed
	}
}

// Close has the server take no more connections.
func (f *httpFront) Close() error {
	f.once.Do(func() { close(f.closed) })
	return nil
}

// Addr says nothing: f takes connections of several listeners.
func (f *httpFront) Addr() net.Addr { return &net.TCPAddr{} }

// countUse adds n to the uses of f. The plane lasts as long as there are any. plane.mu is
// held.
func (f *httpFront) countUse(n int) {
	before := f.uses
	f.uses += n
	switch sessions := &f.plane.handler.sessions; {
	case before == 0:
		sessions.add(f)
	case f.uses == 0:
		sessions.remove(f)
	}
}

// leave ends a use of f, and f if it was the last one and another front takes new
// connections.
func (f *httpFront) leave() {
	p := f.plane
	p.mu.Lock()
	defer p.mu.Unlock()
	f.countUse(-1)
	if f.uses == 0 && f != p.front {
		p.forget(f)
	}
}

// forget ends a front without connections. p.mu is held.
func (p *HTTP) forget(f *httpFront) {
	delete(p.fronts, f)
	_ = f.Close()
}

// dropFronts ends the fronts of a plane without connections.
func (p *HTTP) dropFronts() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.front = nil
	for f := range p.fronts {
		p.forget(f)
	}
}

// endIdle also lets connections end that are idle later.
func (f *httpFront) endIdle() {
	f.server.SetKeepAlivesEnabled(false) // closes idle connections of HTTP/1
	f.endTwo()
}

// cut closes all connections. Those of backends that are gone are the requests' to end.
func (f *httpFront) cut(gone servers) {
	if gone == nil {
		go f.server.Close() // which waits for locks
	}
}

// debugLog takes what http.Server says about clients.
type debugLog struct{ p *HTTP }

func (d debugLog) Write(b []byte) (int, error) {
	_, log := d.p.acceptRules()
	log.Debug(string(b[:max(len(b)-1, 0)]))
	return len(b), nil
}
