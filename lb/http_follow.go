package lb

import (
	"context"
	"time"

	"github.com/havip/havip/internal/retry"
)

// followClient sets the context of the request, which ends when the client has left.
//
// The context of net/http ends as soon as the client will send nothing more. The client
// may have closed its connection then, or only its half of the connection, as it may when
// the request is out (RFC 9112 §9.6): such a client waits for the response. Behind a
// Listener without TLS the two can be told apart.
func (x *handling) followClient() {
	x.ctx = x.in.Context()
	if x.conn.halfClosing() == nil {
		return
	}
	x.ctx, x.leave = x.conn.presence()
	x.unfollow = context.AfterFunc(x.in.Context(), x.awaitDeparture)
}

// unfollowClient ends what followClient has begun.
func (x *handling) unfollowClient() {
	if x.unfollow == nil {
		return
	}
	if !x.unfollow() {
		x.leave()
	}
	x.conn.following.Add(-1)
}

const (
	// soundAfter is how long a response may take without its first byte going ahead: a quick
	// one is one write.
	soundAfter = 50 * time.Millisecond
	// maxGlance is the longest pause between two looks at a connection whose client may leave.
	maxGlance = time.Second
)

// awaitDeparture is called when the context of net/http has ended. It waits until the client
// has left, or the request has ended.
func (x *handling) awaitDeparture() {
	defer x.leave()
	client := x.conn.halfClosing()
	// A body of a connection that has ended ends soon. Another one may take long.
	if x.in.Context().Err() != context.Canceled || !halfClosed(client) || !x.body.cameWhole() {
		return
	}
	if !retry.Pause(x.ctx, soundAfter) {
		return
	}
	x.soundClient(client)
	for pause := 5 * time.Millisecond; halfClosed(client) && retry.Pause(x.ctx, pause); {
		pause = min(2*pause, maxGlance)
	}
}

// soundClient lets a client that has left show that, unless the response has begun, which
// has the same effect.
func (x *handling) soundClient(client *proxiedConn) {
	x.writing.Lock()
	defer x.writing.Unlock()
	if !x.answering {
		client.sound()
	}
}

// halfClosing returns the connection if a client may close its half of it; nil if it may
// not, or o is nil. Whoever ends TLS ends both directions.
func (o *clientConn) halfClosing() *proxiedConn {
	if o == nil {
		return nil
	}
	p, _ := o.conn.(*proxiedConn)
	return p
}

// presence returns a context that lasts until leave is called. Requests of the connection
// that come one after the other have the same one, until one of them leaves. A middleware
// may begin one while another is still under way: http.TimeoutHandler does.
func (o *clientConn) presence() (ctx context.Context, leave context.CancelFunc) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.following.Add(1) > 1 || o.present == nil || o.present.Err() != nil {
		o.present, o.leave = context.WithCancel(context.Background())
	}
	return o.present, o.leave
}

// valued is a context that has the values of another one. Its own are those of package
// context.
type valued struct {
	context.Context
	values context.Context
}

func (v valued) Value(key any) any {
	if value := v.Context.Value(key); value != nil {
		return value
	}
	return v.values.Value(key)
}
