package admin

import (
	"context"
	"crypto/tls"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/havip/havip/internal/quietlog"
)

// Bounds of one listener: whatever clients do there, those of the other one have all of
// theirs.
const (
	maxClients    = 256 // connections; further ones are told so
	maxPerAddress = 64  // of them of one TCP address, or of a user of the socket who may not steer
	maxStreams    = 64  // of them streams of events
	maxReaders    = 48  // of these of those who may not steer
	// maxRefused is how many connections beyond these are told so at the same time. Any
	// further one is closed at once.
	maxRefused = 64
)

// Bounds of one connection.
const (
	maxHeader     = 16 << 10
	maxBody       = 64 << 10
	headerTimeout = 5 * time.Second  // TLS handshake included
	readTimeout   = 10 * time.Second // of a whole request
	writeTimeout  = 20 * time.Second // of a whole answer
	idleTimeout   = time.Minute
	// endTimeout is for requests to finish when a listener ends.
	endTimeout = time.Second
)

// gate is a listener that is served.
type gate struct {
	s      *Server
	l      *listener
	at     place
	server *http.Server
	failed chan struct{} // closed when nothing is accepted any more

	ctx     context.Context // of streams: ends before the connections do
	cancel  context.CancelFunc
	streams atomic.Int64
	work    chan struct{} // has room for those that may make an answer at the same time

	mu      sync.Mutex // guards what follows; a leaf
	clients map[*client]struct{}
	sources map[string]int // connections by client.source
}

// client is a connection.
type client struct {
	net.Conn
	gate    *gate
	peer    peer   // on the socket
	address string // on TCP: without the port
	source  string // who is held to maxPerAddress; empty: nobody
	refused bool   // there are too many: all it gets is this answer
	idle    time.Time
	once    sync.Once
}

// serve begins to accept connections.
func (s *Server) serve(l *listener, at place) *gate {
	g := &gate{s: s, l: l, at: at, failed: make(chan struct{}), work: make(chan struct{}, maxWork), clients: map[*client]struct{}{}, sources: map[string]int{}}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.server = &http.Server{
		Handler: s, MaxHeaderBytes: maxHeader, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, IdleTimeout: idleTimeout,
		ErrorLog:                     log.New(complaints{s.log}, "", 0),
		DisableGeneralOptionsHandler: true,
		Protocols:                    new(http.Protocols), // HTTP/2 would be more to attack, and nobody here needs it
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, clientKey{}, clientOf(c))
		},
		ConnState: g.noteState,
	}
	g.server.Protocols.SetHTTP1(true)
	go func() {
		defer close(g.failed)
		_ = g.server.Serve(accepting{l, g}) // which door.run notices
	}()
	return g
}

// dead reports whether the gate accepts nothing any more.
func (g *gate) dead() bool {
	select {
	case <-g.failed:
		return true
	default:
		return false
	}
}

// end closes the listener, and after endTimeout what is still connected.
func (g *gate) end() {
	g.l.close()
	g.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	if g.server.Shutdown(ctx) != nil {
		g.server.Close()
	}
	<-g.failed
}

type clientKey struct{}

// clientOf is the connection below TLS.
func clientOf(c net.Conn) *client {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return c.(*client)
}

// accepting hands connections to the HTTP server.
type accepting struct {
	*listener
	g *gate
}

func (a accepting) Close() error { a.close(); return nil }

// Accept encrypts if the settings of this moment want that.
func (a accepting) Accept() (net.Conn, error) {
	for {
		c, err := a.Listener.Accept()
		if err != nil {
			return nil, err
		}
		k := a.g.admit(c)
		switch set := a.g.s.settings.Load(); {
		case k == nil:
			c.Close()
		case k.address != "" && set.files != nil:
			return tls.Server(k, set.files.serverConfig(a.g.s.log)), nil
		default:
			return k, nil
		}
	}
}

// admit counts a connection; nil: it can only be closed. One too many takes the place of
// the connection that has been idle for longest.
func (g *gate) admit(c net.Conn) *client {
	k := &client{Conn: c, gate: g, peer: peerOf(c)}
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		k.address = a.AddrPort().Addr().Unmap().String()
		k.source = guessKey(k.address)
	} else if !socketAccess(k.peer, g.s.settings.Load().Group).steers {
		k.source = fmt.Sprint("user ", k.peer.uid)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	all, own, most := len(g.clients), g.sources[k.source], maxPerAddress
	if k.source == "" {
		most = maxClients
	}
	if all >= maxClients+maxRefused || own >= most+maxRefused/4 {
		return nil
	}
	if all >= maxClients || own >= most {
		k.refused = !g.makeRoom(k.source, own >= most)
	}
	g.clients[k] = struct{}{}
	g.sources[k.source]++
	return k
}

// makeRoom ends the connection that has been idle for longest, of one source or of all.
// g.mu is held.
func (g *gate) makeRoom(source string, own bool) bool {
	var oldest *client
	for k := range g.clients {
		if !k.idle.IsZero() && (!own || k.source == source) && (oldest == nil || k.idle.Before(oldest.idle)) {
			oldest = k
		}
	}
	if oldest == nil {
		return false
	}
	oldest.idle = time.Time{}
	go oldest.Close() // which takes g.mu
	return true
}

// Close counts the connection out.
func (k *client) Close() error {
	k.once.Do(func() {
		k.gate.mu.Lock()
		defer k.gate.mu.Unlock()
		delete(k.gate.clients, k)
		if k.gate.sources[k.source]--; k.gate.sources[k.source] == 0 {
			delete(k.gate.sources, k.source)
		}
	})
	return k.Conn.Close()
}

// noteState keeps since when a connection is idle.
func (g *gate) noteState(c net.Conn, state http.ConnState) {
	k := clientOf(c)
	g.mu.Lock()
	defer g.mu.Unlock()
	k.idle = time.Time{}
	if state == http.StateIdle {
		k.idle = time.Now()
	}
}

// complaints are those of the HTTP server: what clients do wrong below HTTP.
type complaints struct{ log *slog.Logger }

// complaintLimit: clients cause them at will.
var complaintLimit = quietlog.Limit{Every: 10 * time.Second, Burst: 5}

func (c complaints) Write(line []byte) (int, error) {
	c.log.Debug("admin: connection", "err", string(line), complaintLimit.By(nil))
	return len(line), nil
}
