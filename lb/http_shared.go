package lb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/havip/havip/internal/retry"
	"github.com/havip/havip/lb/internal/h2"
)

// sharedConns are the connections of HTTP/2 to backends. Requests of many clients are on
// one of them at the same time, so that it is always here, and not only while it is idle.
type sharedConns struct {
	mu     sync.Mutex // guards what follows; nothing waits, and no Conn is ended, while it is held
	to     map[destination]*sharedTo
	closed bool
}

// sharedTo is what there is for a destination.
type sharedTo struct {
	conns []*sharedConn
	dials []*sharedDial
	limit int // how many streams the latest connection allowed
}

// sharedConn is one connection of HTTP/2.
type sharedConn struct {
	*h2.Conn
	net      net.Conn
	answered atomic.Bool // a response has come on it
	rest     *time.Timer // ends it when it has been idle for too long; sharedConns.mu guards it
}

// sharedDial is an attempt to connect, for which several requests may wait.
type sharedDial struct {
	done    chan struct{} // closed at the end
	err     error         // valid once done is closed
	cancel  context.CancelFunc
	waiting int // requests
}

// expectStreams is how many requests wait for the first connection to a destination before
// there is another attempt: what RFC 9113 §6.5.2 recommends to allow.
const expectStreams = 100

// take returns a stream on a connection that has worked before; nil: there is none with room.
func (c *sharedConns) take(to destination) (*sharedConn, *h2.Stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.takeLocked(to, true)
}

// takeLocked is take for a caller that holds c.mu. The first connection with room is taken,
// so that others become idle. Unless proven, a connection will do that has just been made.
func (c *sharedConns) takeLocked(to destination, proven bool) (*sharedConn, *h2.Stream) {
	list := c.to[to]
	if list == nil {
		return nil, nil
	}
	for _, conn := range list.conns {
		if proven && !conn.answered.Load() {
			continue
		}
		if s, err := conn.Open(); err == nil {
			return conn, s
		}
	}
	return nil, nil
}

// connect returns a stream, and makes a connection if there is none with room. dial has to
// end when its context does.
func (c *sharedConns) connect(ctx context.Context, to destination, dial func(context.Context) (*sharedConn, error)) (*sharedConn, *h2.Stream, error) {
	const attempts = 10 // others may have taken the room that a new connection has brought
	for range attempts {
		c.mu.Lock()
		if conn, s := c.takeLocked(to, false); s != nil {
			c.mu.Unlock()
			return conn, s, nil
		}
		d := c.joinDial(to, dial)
		c.mu.Unlock()
		select {
		case <-d.done:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
		if d.err != nil {
			return nil, nil, d.err
		}
	}
	return nil, nil, errors.New("the backend allows too few requests at once on a connection of HTTP/2")
}

// joinDial returns an attempt to connect for one more request. The attempt goes on when the
// request leaves: others wait for it, too. c.mu is held.
func (c *sharedConns) joinDial(to destination, dial func(context.Context) (*sharedConn, error)) *sharedDial {
	if c.to == nil {
		c.to = make(map[destination]*sharedTo)
	}
	list := c.to[to]
	if list == nil {
		list = &sharedTo{limit: expectStreams}
		c.to[to] = list
	}
	for _, d := range list.dials {
		if d.waiting < list.limit {
			d.waiting++
			return d
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	d := &sharedDial{done: make(chan struct{}), cancel: cancel, waiting: 1}
	list.dials = append(list.dials, d)
	go func() {
		defer cancel()
		conn, err := dial(ctx)
		c.endDial(to, d, conn, err)
	}()
	return d
}

// endDial adds what a dial has brought.
func (c *sharedConns) endDial(to destination, d *sharedDial, conn *sharedConn, err error) {
	c.mu.Lock()
	list := c.to[to]
	list.dials = slices.DeleteFunc(list.dials, func(other *sharedDial) bool { return other == d })
	stays := false
	if err == nil {
		st := conn.State()
		list.limit = max(st.Limit, 1)
		switch {
		case st.Limit == 0:
			err = errors.New("the backend allows no requests on a connection of HTTP/2")
		case !st.Usable:
			err = fmt.Errorf("the backend ends new connections of HTTP/2: %w", conn.reason())
		default:
			stays = true
			list.conns = append(list.conns, conn)
			c.restLocked(to, conn, st)
		}
	}
	c.forgetLocked(to)
	closed := c.closed
	c.mu.Unlock()
	if conn != nil && (!stays || closed) {
		conn.Retire()
	}
	d.err = err
	close(d.done)
}

// reason returns why no further stream is possible.
func (s *sharedConn) reason() error {
	if err := s.Err(); err != nil {
		return err
	}
	return errors.New("GOAWAY")
}

// rest is called when a connection has no streams any more, or has ended.
func (c *sharedConns) rest(to destination, conn *sharedConn) {
	st := conn.State()
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.to[to]
	if list == nil || !slices.Contains(list.conns, conn) {
		return
	}
	if st.Usable {
		c.restLocked(to, conn, st)
		return
	}
	if conn.rest != nil {
		conn.rest.Stop()
	}
	list.conns = slices.DeleteFunc(list.conns, func(other *sharedConn) bool { return other == conn })
	c.forgetLocked(to)
}

// restLocked has a connection that is idle ended after a while, unless it is used again.
func (c *sharedConns) restLocked(to destination, conn *sharedConn, st h2.State) {
	after := idleFor
	if to.owner != nil {
		after = ownedFor
	}
	if conn.rest == nil {
		conn.rest = time.AfterFunc(after, func() {
			if conn.State().Streams == 0 {
				conn.Retire()
			}
		})
	} else if st.Streams == 0 {
		conn.rest.Reset(after)
	}
}

// forgetLocked forgets a destination for which there is nothing.
func (c *sharedConns) forgetLocked(to destination) {
	if list := c.to[to]; list != nil && len(list.conns) == 0 && len(list.dials) == 0 {
		delete(c.to, to)
	}
}

// retire ends the connections that choose returns true for, as soon as they have no streams,
// and reports whether there are any.
func (c *sharedConns) retire(choose func(destination, *sharedConn) bool) bool {
	var all []*sharedConn
	c.mu.Lock()
	for to, list := range c.to {
		for _, conn := range list.conns {
			if choose(to, conn) {
				all = append(all, conn)
			}
		}
	}
	c.mu.Unlock()
	for _, conn := range all {
		conn.Retire()
	}
	return len(all) > 0
}

// giveWay ends the connections that have no streams: this host is out of descriptors.
func (c *sharedConns) giveWay() bool {
	return c.retire(func(_ destination, conn *sharedConn) bool { return conn.State().Streams == 0 })
}

// cut ends the connections to servers, and the attempts to make some; requests that are on
// them go on unless they are cut themselves. If these are all servers, later connections end
// with their first requests.
func (c *sharedConns) cut(gone servers) {
	c.mu.Lock()
	c.closed = c.closed || gone == nil
	for to, list := range c.to {
		if gone.has(to.server) {
			for _, d := range list.dials {
				d.cancel()
			}
		}
	}
	c.mu.Unlock()
	c.retire(func(to destination, _ *sharedConn) bool { return gone.has(to.server) })
}

// dialShared connects to x.pick by HTTP/2, or joins who does. The values are those of the
// context of the request for which it is.
func (x *handling) dialShared(ctx context.Context, to destination) (*upstream, error) {
	s, pick := x.cfg, x.pick
	dial := func(life context.Context) (*sharedConn, error) { return s.connectShared(valued{life, ctx}, pick, to) }
	if s.Reuse == ReuseNever || to.strange() {
		conn, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		stream, err := conn.Open()
		conn.Retire() // ends with the request
		if err != nil {
			return nil, conn.reason()
		}
		return newUpstream2(conn, stream, to), nil
	}
	conn, stream, err := s.shared.connect(ctx, to, dial)
	if err != nil {
		return nil, err
	}
	if to.owner != nil {
		to.owner.keepShared(s.shared, conn, to)
	}
	return newUpstream2(conn, stream, to), nil
}

// connectShared makes a connection.
func (s *handlerSettings) connectShared(ctx context.Context, pick Pick, to destination) (*sharedConn, error) {
	start := time.Now()
	c, err := s.dialer.connect(ctx, pick, to.greeting())
	if starved(err) && (s.idle.giveWay() || s.shared.giveWay()) && retry.Pause(ctx, starvedFor) {
		c, err = s.dialer.connect(ctx, pick, to.greeting())
	}
	if err != nil {
		return nil, err
	}
	if to.tls == nil && to.header != "" {
		c = &prefaced{Conn: c, greeting: to.greeting()}
	}
	limited, cancel := context.WithTimeout(ctx, s.ConnectTimeout)
	defer cancel()
	conn := &sharedConn{net: c}
	began := make(chan struct{})
	conn.Conn, err = h2.NewConn(limited, prompt{c}, h2.Config{
		MaxHeader:    maxResponseHeader + 32*maxResponseFields,
		WriteTimeout: s.Timeout,
		Idle: func() {
			select {
			case <-began:
				s.shared.rest(to, conn)
			default: // endDial looks at it
			}
		},
	})
	if err != nil {
		return nil, err
	}
	close(began)
	pick.Connected(time.Since(start))
	return conn, nil
}

// prompt is a connection whose Close does not wait until a TLS peer has taken a farewell.
type prompt struct{ net.Conn }

func (p prompt) Close() error { return innermost(p.Conn).(net.Conn).Close() }
