package lb

import (
	"context"
	"maps"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/havip/havip/internal/words"
)

// Reuse says for which requests a connection to a backend is used that was kept after
// another request.
type Reuse uint8

// The ways. Whatever it is, a connection that NTLM or Negotiate has authenticated serves
// the client that it belongs to, and nobody else: see [TrackConns].
const (
	// ReuseSafe is for all requests. One that cannot be repeated, a POST for instance,
	// gets a connection that was used a moment ago, or a new one: a backend may close an
	// older one just when the request comes.
	ReuseSafe Reuse = iota
	// ReuseNever is for none.
	ReuseNever
	// ReuseAlways is for all requests alike, as nginx does.
	ReuseAlways
)

var reuses = []string{"safe", "never", "always"}

// String returns "safe", "never" or "always".
func (r Reuse) String() string { return words.Of(reuses, r) }

// MarshalText implements encoding.TextMarshaler.
func (r Reuse) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Reuse) UnmarshalText(text []byte) error { return words.Parse(reuses, text, r) }

// TrackConns lets the Handlers behind s know the connections of clients: it sets
// s.ConnContext and s.ConnState, which call what they were before. It is called before s
// serves.
//
// Where NTLM or Negotiate has authenticated a connection to a backend, that connection
// belongs to the client's connection: requests of the client go to this backend and on
// this connection, nobody else gets it, and it is closed when the client's is closed. A
// Handler that does not know the client's connection uses the connection to the backend
// for no other request. Such logins fail there, as they do over HTTP/2, which mixes the
// requests of a connection.
//
// A client of HTTP/1 may close its half of the connection when its request is out, and gets
// its response, if s serves a [Listener] without TLS. It may get the first byte early: that
// shows whether the client has closed the whole connection.
//
// A request that waits for a backend leaves the pool's queue when its client has left. If the
// client is not known, that is noticed only of a request that has been read to its end.
func TrackConns(s *http.Server) {
	t := &connTracker{conns: make(map[net.Conn]*clientConn)}
	connContext, connState := s.ConnContext, s.ConnState
	s.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if connContext != nil {
			ctx = connContext(ctx, c)
		}
		return context.WithValue(ctx, clientConnKey{}, t.track(c))
	}
	s.ConnState = func(c net.Conn, state http.ConnState) {
		switch state {
		case http.StateIdle:
			if p, ok := c.(*proxiedConn); ok {
				p.endResponse()
			}
		case http.StateClosed, http.StateHijacked:
			t.forget(c)
		}
		if connState != nil {
			connState(c, state)
		}
	}
}

// connTracker knows the connections of a server.
type connTracker struct {
	mu    sync.Mutex
	conns map[net.Conn]*clientConn
}

func (t *connTracker) track(c net.Conn) *clientConn {
	o := &clientConn{conn: c}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conns[c] = o
	return o
}

// forget gives up what belongs to c, which ends or is no connection of the server any
// more.
func (t *connTracker) forget(c net.Conn) {
	t.mu.Lock()
	o := t.conns[c]
	delete(t.conns, c)
	t.mu.Unlock()
	if o != nil {
		o.end()
	}
}

type clientConnKey struct{}

// clientConn is a client's connection. Connections to backends may belong to it.
type clientConn struct {
	conn      net.Conn
	requests  atomic.Int64 // that have begun
	following atomic.Int32 // requests under way that use present, or one before it

	// mu guards what follows. It is taken before idleConns.mu.
	mu      sync.Mutex
	present context.Context // nil before the first request; see presence
	leave   context.CancelFunc
	ended   bool
	bound   map[*idleConns]destination // where the latest connection leads that is authenticated for it
	owned   []owned                    // where those lead that began with a header about it
}

// clientConnOf returns the connection that brought r and nothing but requests that follow
// one another; nil if there is none, or it is not known.
func clientConnOf(r *http.Request) *clientConn {
	if r.ProtoMajor != 1 {
		return nil
	}
	return ownerOf(r)
}

// ownerOf returns the connection that brought r, maybe with requests beside it; nil if it is
// not known.
func ownerOf(r *http.Request) *clientConn {
	o, _ := r.Context().Value(clientConnKey{}).(*clientConn)
	return o
}

// boundTo returns where the connection leads that o has authenticated among those of i; zero:
// nowhere. o may be nil.
func (o *clientConn) boundTo(i *idleConns) destination {
	if o == nil {
		return destination{}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bound[i]
}

// keep keeps a connection for the requests of o, in place of the one before. It closes the
// connection if nobody knows the client, o is nil then, or the client has left.
func (o *clientConn) keep(i *idleConns, u *upstream) {
	if o == nil {
		u.Close()
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		u.Close()
		return
	}
	u.to.owner, u.to.login = o, true
	i.drop(o.bound[i])
	maps.DeleteFunc(o.bound, func(i *idleConns, _ destination) bool { return i.isClosed() })
	if o.bound == nil {
		o.bound = make(map[*idleConns]destination)
	}
	o.bound[i] = u.to
	i.keepConn(u)
}

// end closes what belongs to o.
func (o *clientConn) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	for i, to := range o.bound {
		i.drop(to)
	}
	o.bound = nil
	for _, of := range o.owned {
		of.among.drop(of.to)
	}
	o.owned = nil
}
