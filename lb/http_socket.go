package lb

import (
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/havip/havip/lb/internal/h1"
)

// A client of HTTP/2 opens a WebSocket by an extended CONNECT: its stream is the connection
// (RFC 8441). Backends get what a client of HTTP/1.1 would send, a GET with an Upgrade, and
// so that is what the rules of requests see.

// connectProtocol returns the :protocol of an extended CONNECT, as net/http has it; empty:
// the request is none.
func connectProtocol(r *http.Request) string {
	if values := r.Header[":protocol"]; r.ProtoMajor == 2 && r.Method == http.MethodConnect && len(values) > 0 {
		return values[0]
	}
	return ""
}

const websocket = "websocket"

// readConnect makes of an extended CONNECT the request that it stands for (RFC 8441 §5). It
// returns the request whose body the backend gets: what comes on the stream is none.
func (x *handling) readConnect() *http.Request {
	if connectProtocol(x.in) != websocket {
		return x.in
	}
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	x.socket = base64.StdEncoding.EncodeToString(random[:])
	head := &x.head
	head.Method, head.Length = http.MethodGet, 0
	head.Fields = slices.DeleteFunc(head.Fields, func(f h1.Field) bool { return h1.EqualName(f.Name, wsKey) })
	head.Fields = append(head.Fields,
		h1.Field{Name: "Connection", Value: "Upgrade", ID: h1.Connection},
		h1.Field{Name: "Upgrade", Value: websocket, ID: h1.Upgrade},
		h1.Field{Name: wsKey, Value: x.socket})
	head.Has = idsOf(head.Fields)
	bare := *x.in
	bare.Body, bare.ContentLength = http.NoBody, 0
	return &bare
}

const (
	wsKey    = "Sec-WebSocket-Key"
	wsAccept = "Sec-WebSocket-Accept"
)

// refuseConnect returns why an extended CONNECT is not served; nil: it is, or is none.
func (x *handling) refuseConnect() error {
	if p := connectProtocol(x.in); p != "" && x.socket == "" {
		return fmt.Errorf("extended CONNECT for protocol %.40q, want %s", p, websocket)
	}
	return nil
}

// errNoSocket: backends of HTTP/2 get no upgrades.
var errNoSocket = errors.New("WebSocket over HTTP/2, and backends of HTTP/2: want backends of HTTP/1.1")

// acceptOf is the Sec-WebSocket-Accept that answers a key (RFC 6455 §4.2.2).
func acceptOf(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// switchSocket returns the fields that the client gets of a 101 (Switching Protocols), or why
// it gets none. What belongs to the handshake of HTTP/1.1 is left out.
func (x *handling) switchSocket() ([]h1.Field, error) {
	if x.res.Status != http.StatusSwitchingProtocols {
		// The client would take the response for the beginning of its WebSocket.
		return nil, fmt.Errorf("status %d instead of 101 (Switching Protocols)", x.res.Status)
	}
	fields, err := x.switchFields(&x.res, x.sourceAddr())
	if err != nil {
		return nil, err
	}
	accepted := 0
	kept := fields[:0]
	for _, f := range fields {
		switch {
		case h1.EqualName(f.Name, wsAccept):
			if accepted++; f.Value != acceptOf(x.socket) {
				accepted = 2
			}
		case !holds(hopByHopIDs, f.ID):
			kept = append(kept, f)
		}
	}
	if accepted != 1 {
		x.result = Failure
		return nil, fmt.Errorf("%s does not answer the key", wsAccept)
	}
	return kept, nil
}

// openSocket relays a WebSocket between the client's stream and the backend's connection, until
// its end.
func (x *handling) openSocket() {
	fields, err := x.switchSocket()
	if err == nil && !x.registered {
		err = errCut
	}
	if err != nil {
		x.failRequest(fmt.Errorf("backend %s: %w", x.pick.Backend(), err))
		return
	}
	x.beginAnswer()
	x.res.Status = http.StatusOK
	x.setHeader(fields)
	x.responded(&x.res, x.private)
	x.result, x.record.Reason = Success, "ended before it was open"
	if !x.unwatch() {
		panic(http.ErrAbortHandler)
	}
	_ = x.up.SetDeadline(time.Time{}) // the session has its own timeout
	s, stream := &x.session, &socketStream{x: x}
	defer stream.leave()
	s.mu.Lock()
	s.idle, s.client = x.cfg.TunnelTimeout, stream
	s.mu.Unlock()
	if !s.attach(withBuffered(x.up.Conn, x.up.r)) {
		panic(http.ErrAbortHandler)
	}
	x.awaitClient()
	x.w.WriteHeader(http.StatusOK)
	if x.rc.Flush() != nil {
		panic(http.ErrAbortHandler)
	}
	x.letClientRest()
	s.relay()
	x.record.Received, x.record.Sent, x.record.Reason = s.up.read.Load(), s.down.written.Load(), s.why()
	if x.record.Reason != "" {
		panic(http.ErrAbortHandler) // resets the stream, as a reset of a connection (RFC 8441 §5)
	}
}

// socketStream is a client's stream of HTTP/2 as the connection of a WebSocket. net/http ends
// what the client reads when the request is over, and not before: then what the client still
// sends is over as well.
type socketStream struct {
	x *handling

	mu    sync.Mutex // guards what follows, and that net/http is not asked for anything after its time
	ended bool       // the backend has said all
	over  bool       // the request is
}

func (c *socketStream) Read(p []byte) (int, error) {
	n, err := c.x.in.Body.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended && isTimeout(err) {
		err = io.EOF
	}
	return n, err
}

func (c *socketStream) Write(p []byte) (int, error) {
	n, err := c.x.w.Write(p)
	if err == nil {
		err = c.x.rc.Flush()
	}
	return n, err
}

// CloseWrite lets the request end soon: what the client has sent by now still reaches the
// backend.
func (c *socketStream) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if !c.over {
		_ = c.x.rc.SetReadDeadline(time.Now().Add(sentWithin))
	}
	return nil
}

// SetLinger has the stream fail at once, and end with a reset. Its time does not count.
func (c *socketStream) SetLinger(int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		_ = c.x.rc.SetReadDeadline(time.Unix(1, 0))
		_ = c.x.rc.SetWriteDeadline(time.Unix(1, 0))
	}
	return nil
}

// Close does nothing: the stream ends with the request.
func (c *socketStream) Close() error { return nil }

// leave is called when the request is over.
func (c *socketStream) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
}
