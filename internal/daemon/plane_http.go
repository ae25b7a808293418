package daemon

import (
	"context"
	"errors"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/havip/havip/lb"
)

// httpPlane proxies requests. Settings of requests are the handler's. Settings of
// connections are in a front: where they change, another front takes the new
// connections, and the front of before goes when it has no connections any more.
type httpPlane struct {
	handler *lb.Handler

	failed chan error // of a front whose listener has failed; has room for one

	mu       sync.Mutex // guards what follows; nothing waits while it is held
	cfg      planeConfig
	socket   io.Closer      // what the fronts share; nil: the plane does not serve
	accepted *lb.Listener   // of the first front: limits hold for all fronts together; nil: there was none
	front    *front         // which takes new connections
	fronts   map[*front]int // how many connections each has, and one more while it accepts
}

func newHTTPPlane(c planeConfig) (*httpPlane, error) {
	h, err := lb.NewHandler(c.handler())
	if err != nil {
		return nil, err
	}
	return &httpPlane{handler: h, cfg: c, failed: make(chan error, 1), fronts: map[*front]int{}}, nil
}

func (p *httpPlane) Stats() lb.Stats {
	s := p.handler.Stats()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.accepted != nil {
		conns := p.accepted.Stats()
		s.Refused, s.Paused = conns.Refused, conns.Paused
	}
	return s
}

// reconfigure changes the handler and the limits in any case, and the front only if a
// setting that is its own differs: idle connections of clients would have to move
// otherwise.
func (p *httpPlane) reconfigure(c planeConfig) error {
	if err := p.handler.Reconfigure(c.handler()); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cfg = c
	if p.accepted != nil {
		if err := p.accepted.Reconfigure(c.listener()); err != nil {
			return err
		}
	}
	if p.socket == nil || p.front.frontConfig == frontConfigOf(c) {
		return nil
	}
	// The new front accepts before the old front stops: connections of the backlog
	// wait for no reload.
	old := p.front
	if err := p.openFront(); err != nil {
		return err
	}
	old.listener.Close()
	return nil
}

// current is the configuration that counts now.
func (p *httpPlane) current() planeConfig {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cfg
}

// serve opens the first front. When ctx has ended, the fronts take the connections that
// have come until then and no new ones, and those under way have the shutdown timeout of
// the configuration that counts then.
func (p *httpPlane) serve(ctx context.Context, socket io.Closer, _ reopener) error {
	select {
	case <-p.failed: // of fronts that served an earlier socket together: one error was enough
	default:
	}
	p.mu.Lock()
	p.socket = socket
	err := p.openFront()
	if err != nil {
		p.socket = nil // without a front there is nothing to reconfigure
	}
	p.mu.Unlock()
	if err == nil {
		select {
		case err = <-p.failed:
		case <-ctx.Done():
		}
	}
	p.mu.Lock()
	p.socket = nil
	fronts := slices.Collect(maps.Keys(p.fronts))
	p.mu.Unlock()
	if err == nil {
		finishAccepting(fronts)
	}
	socket.Close()
	for _, f := range fronts {
		f.listener.Close()
		<-f.stopped
	}
	if err != nil {
		return err
	}
	drain, cancel := context.WithTimeout(context.Background(), p.current().service.Front.ShutdownTimeout)
	defer cancel()
	var ends []func()
	for _, f := range fronts {
		ends = append(ends, func() { f.end(drain) })
	}
	together(ends)
	// The servers know upgraded connections no more, the handler does.
	p.handler.Shutdown(drain)
	return nil
}

// The clients of the backlog have connections already, but limits may leave no room for
// them: acceptWithin bounds the wait. lastRequest is how long connections without a
// request stay, for requests that are on their way: the answer says that it is the last
// one.
const acceptWithin, lastRequest = time.Second, time.Second

// finishAccepting accepts what is in the backlog.
func finishAccepting(fronts []*front) {
	for _, f := range fronts {
		f.leaving.Store(true)
		f.listener.Finish()
	}
	late := time.After(acceptWithin)
	for _, f := range fronts {
		select {
		case <-f.stopped:
		case <-late:
			return
		}
	}
}

// front is an http.Server. A server cannot change its timeouts and bounds while it serves:
// that takes another front.
type front struct {
	frontConfig
	server   *http.Server
	endTwo   func()        // has clients of HTTP/2 leave in order (GOAWAY)
	listener *lb.Listener  // on a socket of its own
	leaving  atomic.Bool   // connections end with their present requests
	stopped  chan struct{} // closed when no more connections are accepted
	over     chan struct{} // closed when it has no connections either
}

// end ends a front that accepts no more when its connections have finished, or drain has
// ended. Connections that were accepted get an answer, however late their request comes:
// http.Server's Shutdown would close them when it reads the request.
func (f *front) end(drain context.Context) {
	soon, cancel := context.WithTimeout(drain, lastRequest)
	defer cancel()
	f.await(soon)
	f.server.SetKeepAlivesEnabled(false) // closes idle connections of HTTP/1
	f.endTwo()
	f.await(drain)
	f.server.Close()
}

// await waits until f is over, or ctx ends.
func (f *front) await(ctx context.Context) {
	select {
	case <-f.over:
	case <-ctx.Done():
	}
}

// frontConfig is what a front does with connections.
type frontConfig struct {
	header, idle time.Duration
	maxHeader    int // bytes; see maxHeaderBytes
}

// frontConfigOf picks what a front needs.
func frontConfigOf(c planeConfig) frontConfig {
	return frontConfig{header: c.service.Front.HeaderTimeout, idle: c.service.Front.IdleTimeout,
		maxHeader: maxHeaderBytes(c.service.HTTP.WithDefaults())}
}

// maxHeaderBytes is how much of a header a front reads: what the handler accepts, and no
// more than needs be. The handler counts again, as HTTP/1.1 would: HTTP/2 adds 32 bytes to
// each field, and browsers make a field of each cookie there (RFC 9113 §6.5.2, §8.2.3).
func maxHeaderBytes(c lb.HandlerConfig) int {
	return int(c.MaxHeader) + 32*c.MaxFields + maxCookies*(len("cookie")+32)
}

// maxCookies is how many cookies browsers keep for a site.
const maxCookies = 180

// maxFrame is the size of the frames of HTTP/2 that a front takes, each of which it holds in
// memory: the least that it may want (RFC 9113 §4.2). net/http would take 1 MB.
const maxFrame = 16 << 10

// listen returns a listener that counts together with those of the other fronts. p.mu is
// held.
func (p *httpPlane) listen() (*lb.Listener, error) {
	ln, err := duplicate(p.socket)
	if err != nil {
		return nil, err
	}
	if p.accepted != nil {
		return p.accepted.With(ln), nil
	}
	if p.accepted, err = lb.NewListener(ln, p.cfg.listener()); err != nil {
		ln.Close()
	}
	return p.accepted, err
}

// openFront lets a front of the current configuration take new connections. p.mu is
// held.
func (p *httpPlane) openFront() error {
	ln, err := p.listen()
	if err != nil {
		return err
	}
	f := &front{frontConfig: frontConfigOf(p.cfg), listener: ln, stopped: make(chan struct{}), over: make(chan struct{})}
	f.server = &http.Server{
		Handler:           f.lastAnswers(p.handler),
		ReadHeaderTimeout: f.header,
		IdleTimeout:       f.idle,
		MaxHeaderBytes:    f.maxHeader,
		HTTP2:             &http.HTTP2Config{MaxReadFrameSize: maxFrame},
		ErrorLog:          log.New(debugLog{p}, "", 0),
		// OPTIONS * is the backends' to answer.
		DisableGeneralOptionsHandler: true,
		ConnState: func(_ net.Conn, s http.ConnState) {
			if n := stateUses[s]; n != 0 {
				p.countUse(f, n)
			}
		},
	}
	f.endTwo = separateHTTP2(f.server)
	lb.TrackConns(f.server)
	p.front, p.fronts[f] = f, 1
	go p.runFront(f)
	return nil
}

// separateHTTP2 has s serve HTTP/2 by the means of another server, whose Shutdown end calls:
// that of s would drop late requests of HTTP/1.
func separateHTTP2(s *http.Server) (end func()) {
	two := &http.Server{IdleTimeout: s.IdleTimeout, HTTP2: s.HTTP2}
	_ = two.Serve(noListener{}) // sets TLSNextProto
	s.TLSNextProto = two.TLSNextProto
	return func() { _ = two.Shutdown(context.Background()) } // has no connections of its own
}

// noListener is closed already.
type noListener struct{}

func (noListener) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (noListener) Close() error              { return nil }
func (noListener) Addr() net.Addr            { return &net.TCPAddr{} }

// lastAnswers has each answer of a front that ends say that it is the last one of its
// connection. By HTTP/2 it makes the server refuse further requests in order (GOAWAY).
func (f *front) lastAnswers(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.leaving.Load() {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
}

// runFront serves until the listener of f is closed, or fails.
func (p *httpPlane) runFront(f *front) {
	err := f.server.Serve(f.listener)
	close(f.stopped)
	p.countUse(f, -1)
	// Where a front was replaced, or the plane ends, the listener was closed on
	// purpose. Anything else is for serve, which returns it.
	if !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
		select {
		case p.failed <- err:
		default:
		}
	}
}

// stateUses is what the states of a connection add to the uses of its front. An upgraded
// connection leaves the front: from then on it is the handler's.
var stateUses = map[http.ConnState]int{http.StateNew: 1, http.StateClosed: -1, http.StateHijacked: -1}

// countUse adds n to the uses of f, and forgets f when no use is left.
func (p *httpPlane) countUse(f *front, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fronts[f] += n; p.fronts[f] == 0 {
		delete(p.fronts, f)
		close(f.over)
	}
}

// debugLog takes what http.Server says about clients.
type debugLog struct{ p *httpPlane }

func (d debugLog) Write(b []byte) (int, error) {
	d.p.current().log.Debug(string(b[:max(len(b)-1, 0)]))
	return len(b), nil
}
