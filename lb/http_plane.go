package lb

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/havip/havip/internal/inet"
)

// HTTP serves the connections of a listener, and proxies their requests to a pool as
// [Handler] does: it is a Handler and all that belongs before it. Make one with [NewHTTP].
// All methods may be called concurrently.
//
// On Linux the connections of a *net.TCPListener that bring HTTP/1 are in event loops, one
// for each processor, with TLS too: an idle connection costs no goroutine and next to no
// memory. What is said of GOMAXPROCS at [TCP] holds here as well. net/http has the others:
// HTTP/2, with TLS or by prior knowledge; other listeners and systems; and all connections
// whose requests want a Key, a Dial, a ModifyResponse or an ErrorHandler, or backends of
// HTTP/2. Such a setting may come and go: a connection is moved between two requests.
//
// The listener brings connections without TLS, which is HTTPConfig's.
type HTTP struct {
	handler  *Handler
	settings atomic.Pointer[httpSettings] // for new connections
	gate     gate                         // counts connections; the handler counts requests
	serving  atomic.Bool
	leaving  atomic.Bool // connections end with their present requests

	changing sync.Mutex // serializes changes of settings; it comes before the Handler's

	mu     sync.Mutex // guards what follows; nothing waits while it is held
	front  *httpFront // which takes new connections; nil: none is there
	fronts map[*httpFront]struct{}
}

// NewHTTP returns an HTTP that does not serve yet.
func NewHTTP(cfg HTTPConfig) (*HTTP, error) {
	return configured(&HTTP{handler: new(Handler), fronts: make(map[*httpFront]struct{})}, cfg)
}

// Reconfigure makes requests that begin from now on, and connections that are accepted from
// now on, use cfg. No connection moves or ends because of that. On error nothing changes.
func (p *HTTP) Reconfigure(cfg HTTPConfig) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("lb: HTTP: %w", err)
	}
	p.changing.Lock()
	defer p.changing.Unlock()
	cfg.Buffering = cmp.Or(cfg.Buffering, BufferingOn)
	if err := p.handler.Reconfigure(cfg.HandlerConfig); err != nil {
		return err
	}
	p.gate.configure(ListenerConfig{AcceptProxy: cfg.AcceptProxy, Limits: cfg.Limits, Logger: cfg.Logger})
	p.settings.Store(newHTTPSettings(cfg, p.gate.settings.Load(), p.settings.Load()))
	return nil
}

// Stats returns what p has done since it was made. Active and Accepted count requests,
// Paused connections, and Refused both.
func (p *HTTP) Stats() Stats {
	s, conns := p.handler.Stats(), p.gate.counters.stats()
	s.Refused += conns.Refused
	s.Paused = conns.Paused
	return s
}

// Serve accepts connections until ctx ends, then closes ln and lets requests finish within
// ShutdownTimeout. Every answer then says that it is the last one of its connection. It
// returns when all connections have ended: nil after ctx ended, the listener's error
// otherwise. It closes ln whatever it returns. At the same time p serves one listener only:
// ErrServing. It may serve another one after that.
func (p *HTTP) Serve(ctx context.Context, ln net.Listener) error {
	return p.ServeNext(ctx, ln, func(_ context.Context, err error) (net.Listener, error) { return nil, err })
}

// ServeNext is Serve, but where accepting fails for good, connections stay, and p goes on
// with the listener that next returns. next gets the error, and ln is closed by then. An
// error of next ends p as an error of the listener ends Serve.
func (p *HTTP) ServeNext(ctx context.Context, ln net.Listener, next func(context.Context, error) (net.Listener, error)) error {
	if tcp, ok := ln.(*net.TCPListener); ln == nil || ok && tcp == nil {
		return errors.New("lb: HTTP: listener nil: want one")
	}
	defer ln.Close()
	if !p.serving.CompareAndSwap(false, true) {
		return fmt.Errorf("lb: HTTP on %s: %w", ln.Addr(), ErrServing)
	}
	defer p.serving.Store(false)
	p.handler.sessions.open()
	p.leaving.Store(false)
	// Connections outlive ctx; connecting stops with it only at the deadline.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	err := p.serveListener(ctx, work, ln)
	ln.Close()
	for err != nil && ctx.Err() == nil {
		if ln, err = next(ctx, err); err != nil {
			break
		}
		err = p.serveListener(ctx, work, ln)
		ln.Close()
	}
	if ctx.Err() != nil {
		err = nil
	}
	drain, cancel := context.WithTimeout(context.Background(), max(p.settings.Load().ShutdownTimeout, 0))
	defer cancel()
	defer context.AfterFunc(drain, stop)()
	p.drain(drain)
	return err
}

// lastRequest is how long connections without a request stay at the end, for requests that
// are on their way: the answer says that it is the last one.
const lastRequest = time.Second

// drain waits until all connections have ended, and cuts what is left when ctx ends.
// Connections that were accepted get an answer, however late their request comes.
func (p *HTTP) drain(ctx context.Context) {
	p.leaving.Store(true)
	sessions := &p.handler.sessions
	soon, cancel := context.WithTimeout(ctx, lastRequest)
	defer cancel()
	if sessions.awaitEmpty(soon) != nil {
		for _, c := range sessions.list() {
			if c, ok := c.(idler); ok {
				c.endIdle()
			}
		}
	}
	sessions.drain(ctx)
	for _, last := range p.handler.settings.Load().all() {
		last.cutIdle()
	}
	p.dropFronts()
}

// idler has connections that may be idle.
type idler interface {
	// endIdle ends those that have had a request and wait for the next one.
	endIdle()
}

// acceptConns serves the connections of ln by net/http until ctx ends.
func (p *HTTP) acceptConns(ctx, work context.Context, ln net.Listener) error {
	l := newListener(ln, &p.gate)
	accepting, stop := context.WithCancel(ctx)
	var ending sync.WaitGroup
	defer ending.Wait()
	defer stop()
	ending.Go(func() {
		<-accepting.Done()
		p.leaving.Store(ctx.Err() != nil)
		l.Finish()
		time.AfterFunc(acceptWithin, func() { l.Close() })
	})
	for {
		c, err := l.Accept()
		switch {
		case err != nil && ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("lb: accept on %s: %w", ln.Addr(), err)
		}
		if cfg := p.settings.Load(); cfg.tls != nil {
			go p.secure(work, p.useFront(), c, cfg, nil)
		} else {
			p.useFront().give(c)
		}
	}
}

// secure shakes hands with the client of c, which is a use of f, and then has adopt go on, or
// f if adopt is nil, does not want to, or the client speaks HTTP/2.
func (p *HTTP) secure(work context.Context, f *httpFront, c net.Conn, cfg *httpSettings, adopt func(*tls.Conn) bool) {
	server := tlsServer(c, cfg.tls)
	if err := handshake(work, server, cfg.HeaderTimeout); err != nil {
		p.sayInsecure(c, cfg, err)
		c.Close()
		f.leave()
		return
	}
	if adopt != nil && server.ConnectionState().NegotiatedProtocol != "h2" && adopt(server) {
		f.leave()
		return
	}
	f.give(server)
}

// sayInsecure tells of a handshake that has failed. It answers a client that has sent a request
// of HTTP without TLS.
func (p *HTTP) sayInsecure(c net.Conn, cfg *httpSettings, err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) {
		return // the client has left without a word, or the plane ends
	}
	p.gate.counters.refused.Add(1)
	client := inet.AddrPort(c.RemoteAddr())
	cfg.gate.log.Warn("connection refused", "client", client, "err", err)
	status, reason, line := 0, fmt.Errorf("TLS handshake: %w", err), ""
	var plain tls.RecordHeaderError
	if errors.As(err, &plain) && plain.Conn != nil {
		line = firstLine(plain.RecordHeader[:])
		switch string(plain.RecordHeader[:]) {
		case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO":
			status, reason = http.StatusBadRequest, errPlainUnexpected
			_, _ = io.WriteString(plain.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
		}
	}
	p.handler.settings.Load().recordGarbage(&requestOrigin{client: client}, status, reason, line)
}

// acceptRules are the settings that accepting needs.
func (p *HTTP) acceptRules() (*Limits, *slog.Logger) {
	cfg := p.gate.settings.Load()
	return &cfg.Limits, cfg.log
}
