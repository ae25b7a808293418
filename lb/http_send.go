package lb

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/havip/havip/internal/retry"
)

// sendRequest gets a response from some backend, which is x.pick then. After an error
// x.pick is zero.
func (x *handling) sendRequest() error {
	var next Pick // of a response that was thrown away
	for {
		pick := next
		if pick.pool == nil {
			var err error
			if pick, err = x.acquireBackend(); err != nil {
				return x.acquireFailed(err)
			}
		}
		x.begin(pick)
		err := x.tryBackend()
		a := x.attempt() // before dropUpstream: what the attempt has left behind decides
		if err == nil {
			var again bool
			if next, again = x.retryElsewhere(&x.res, x.up.to.login, a, time.Now()); !again {
				return nil
			}
			x.dropUpstream()
			continue
		}
		x.dropUpstream()
		if !x.attemptFailed(err, a, time.Now()) {
			return x.last
		}
		next = Pick{}
	}
}

// acquireBackend chooses a backend. The client may leave while it waits, and the time of
// Shutdown may be over.
func (x *handling) acquireBackend() (Pick, error) {
	pick, err := x.cfg.Pool.acquire(x.ctx, &x.flow, x)
	if err == errLeft && x.session.interrupted() == errCut {
		err = errCut
	}
	return pick, err
}

// attempt returns what has become of the present attempt.
func (x *handling) attempt() attempt {
	return attempt{
		sent: x.up != nil && x.up.hasSent(), heard: x.up != nil && x.up.heard, replayable: x.body.replayable(),
		left: x.ctx.Err() != nil, broken: x.body.readError(), cut: x.session.interrupted(),
	}
}

// tryBackend sends the request to x.pick and waits for the header of the response.
func (x *handling) tryBackend() error {
	// The context lasts until dropUpstream or keepUpstream.
	ctx, cancel := context.WithCancel(x.ctx)
	x.cancel = cancel
	x.session.dialing(x.pick, cancel)
	if u := x.takeKept(); u != nil {
		err := x.sendOn(ctx, u)
		if err == nil {
			return nil
		}
		// A new connection may do better.
		if again, err := x.keptFailed(err, x.attempt()); !again {
			return err
		}
		u.Close()
		x.up = nil
	}
	u, err := x.dialUpstream(valued{ctx, x.in.Context()})
	if err != nil {
		if interrupted := x.session.interrupted(); interrupted != nil {
			err = interrupted
		}
		return err
	}
	return x.sendOn(ctx, u)
}

// takeKept returns a kept connection to x.pick for the request; nil: a new one is needed.
func (x *handling) takeKept() *upstream {
	to := x.destination()
	if x.cfg.BackendProtocol == BackendHTTP2 {
		return x.takeStream(to)
	}
	if x.conn != nil {
		own := to
		own.owner, own.login = x.conn, true
		if own == x.conn.boundTo(x.cfg.idle) {
			// Another connection would not be authenticated, so there is no choice.
			if u := x.takeConn(own, math.MaxInt64); u != nil {
				return u
			}
		}
	}
	limit := x.keptFor()
	if limit == 0 || to.strange() {
		return nil
	}
	return x.takeConn(to, limit)
}

// takeStream returns a stream of a connection to x.pick on which a response has come; nil:
// there is none. A server tells which requests it has left alone when it ends a connection,
// so that one that cannot be repeated needs no fresh connection.
func (x *handling) takeStream(to destination) *upstream {
	if x.cfg.Reuse == ReuseNever || to.strange() {
		return nil
	}
	if conn, stream := x.cfg.shared.take(to); stream != nil {
		return newUpstream2(conn, stream, to)
	}
	return nil
}

// takeConn returns a kept connection. The end of one may have come a moment ago, so that
// watchConn has not seen it: that would be the end of a request that is sent once only.
func (x *handling) takeConn(to destination, limit time.Duration) *upstream {
	for {
		u := x.cfg.idle.takeConn(to, limit)
		if u == nil || idempotent(x.in.Method) || !isReadable(u.Conn) {
			return u
		}
		u.Close()
	}
}

// dialUpstream connects to x.pick.
func (x *handling) dialUpstream(ctx context.Context) (*upstream, error) {
	s, to := x.cfg, x.destination()
	if s.BackendProtocol == BackendHTTP2 {
		return x.dialShared(ctx, to)
	}
	start := time.Now()
	c, err := s.dialer.connect(ctx, x.pick, to.greeting())
	if starved(err) && s.idle.giveWay() && retry.Pause(ctx, starvedFor) {
		c, err = s.dialer.connect(ctx, x.pick, to.greeting())
	}
	if err != nil {
		return nil, err
	}
	x.pick.Connected(time.Since(start))
	u := newUpstream(c, to)
	if to.tls == nil {
		u.greeting = to.header
	}
	return u, nil
}

// sendOn sends the request on u and waits for the header of the response.
func (x *handling) sendOn(ctx context.Context, u *upstream) error {
	u.beginRequest(x.cfg.Timeout)
	x.up = u
	// The end of the request's context, or a cut, interrupts all reads and writes.
	x.unwatch = context.AfterFunc(ctx, func() { u.Close() })
	x.record.Connect = time.Since(x.record.Start)
	x.upload = x.startUpload(u)
	err := x.readResponse(u)
	if err == nil {
		return nil
	}
	if interrupted := x.session.interrupted(); interrupted != nil {
		return interrupted
	}
	if broken := x.body.readError(); errors.Is(broken, errHeldLost) {
		err = broken // the upload, which has closed the connection, may be about to tell
	}
	select {
	case <-x.upload.done:
		if x.upload.broken != nil {
			panic(x.upload.broken)
		}
		if x.upload.err != nil {
			err = x.upload.err // the cause
		}
	default:
	}
	return err
}
