package lb

import (
	"cmp"
	"context"
	"errors"
	"net"
	"slices"
	"time"
)

// tcpConn is a connection that has a goroutine: one with TLS, until it is ready, or one of
// a listener that the event loops cannot take.
type tcpConn struct {
	session
	*tcpSettings
	origin origin
	record Record
	ahead  []byte          // what was read from the client while it waited
	adopt  func(Pick) bool // has an event loop go on, if that can be. nil: there is none
}

// newConn returns the connection of a client that was accepted at that time. The
// plane can cut it from now on.
func (cfg *tcpSettings) newConn(client net.Conn, start time.Time) *tcpConn {
	c := &tcpConn{session: session{client: &frankConn{Conn: client}, idle: cfg.IdleTimeout}, tcpSettings: cfg, record: Record{Start: start}}
	if !cfg.plane.sessions.add(c) {
		c.cut(nil) // the plane's drain is over
	}
	return c
}

// serve is the life of the connection, or its beginning: adopted says that an event loop
// has the rest.
func (c *tcpConn) serve(ctx context.Context) (adopted bool) {
	r := &c.record
	adopted, err := c.relayClient(ctx)
	if adopted {
		return true
	}
	if err != nil {
		c.close()
		r.Reason = err.Error()
		if !errors.Is(err, errLeft) { // who leaves the queue is no fault
			c.log.Warn("connection not served", "client", c.origin.client, "err", err)
		}
	}
	if reason := c.why(); reason != "" {
		r.Reason = reason
	}
	r.Client, r.Duration = c.origin.client, time.Since(r.Start)
	r.Received, r.Sent = c.up.read.Load(), c.down.written.Load()
	c.account(r, c.origin.pool)
	return false
}

// relayClient finds a backend and relays until the end, unless an event loop does. Its error
// says why none was reached.
func (c *tcpConn) relayClient(ctx context.Context) (adopted bool, err error) {
	early, err := c.begin(ctx)
	if err != nil {
		c.plane.counters.refused.Add(1)
		return false, err
	}
	c.up.read.Add(int64(len(early)))
	pick, err := c.connect(ctx)
	if err != nil {
		c.plane.counters.failed.Add(1)
		return false, err
	}
	c.record.Connect = time.Since(c.record.Start)
	c.record.Backend = pick.Backend()
	c.early = slices.Concat(early, c.ahead)
	if c.dialer.tlsFor(pick) == nil { // otherwise connect has sent it
		c.early = slices.Concat(c.greeting(&c.origin), c.early)
	}
	if c.adopt != nil && c.adopt(pick) {
		return true, nil
	}
	c.relay()
	pick.Transferred(c.up.written.Load(), c.down.read.Load())
	pick.Lasted(time.Since(c.record.Start))
	pick.Done(Neutral)
	return false, nil
}

// begin finds out what the origin lacks, with TLS if that ends here. The bytes that
// it returns belong to the backend.
func (c *tcpConn) begin(ctx context.Context) (early []byte, err error) {
	client := c.client.(net.Conn)
	if !c.origin.known {
		proxied := c.wantsProxy(c.origin.client.Addr())
		early, err = readBeginning(client, c.HandshakeTimeout, func(b []byte) (int, error) {
			return c.parsePreface(b, &c.origin, proxied)
		})
		if err != nil {
			return nil, err
		}
	}
	if c.TLS == nil {
		return early, nil
	}
	if len(early) > 0 {
		client = &prefaced{Conn: client, early: early}
	}
	server := tlsServer(client, c.TLS)
	if err := handshake(ctx, server, c.HandshakeTimeout); err != nil {
		return nil, err
	}
	if len(c.Routes) > 0 {
		if c.origin.pool, err = c.route(server.ConnectionState().ServerName); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	c.client = server
	c.mu.Unlock()
	return nil, nil
}

// connect finds a backend that accepts the connection.
func (c *tcpConn) connect(ctx context.Context) (Pick, error) {
	flow := Flow{Client: c.origin.client}
	var last error
	for c.record.Retries < c.Tries {
		pick, err := c.origin.pool.acquire(ctx, &flow, c)
		if err != nil {
			return Pick{}, errors.Join(last, err)
		}
		start := time.Now()
		err = c.reach(ctx, pick)
		switch {
		case err == nil:
			pick.Connected(time.Since(start))
			pick.Report(Success)
			return pick, nil
		case ctx.Err() != nil || err == errCut:
			pick.Done(Neutral)
			return Pick{}, errCut
		case starved(err):
			// As in the event loop: no backend is to blame, and it does not count.
			pick.Done(Neutral)
			flow.undo()
			if time.Since(c.record.Start) > c.IdleTimeout {
				c.fail("idle")
				return Pick{}, err
			}
			c.log.Warn("connection waits", "client", c.origin.client, "err", err)
			c.plane.counters.starve(ctx)
			continue
		}
		c.record.Retries++
		c.log.Info("backend not reached", "backend", pick.Backend(), "err", err)
		pick.Done(blame(err))
		last = err
	}
	return Pick{}, last
}

// reach connects to a picked backend, unless that goes down meanwhile.
func (c *tcpConn) reach(ctx context.Context, pick Pick) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.dialing(pick, cancel)
	backend, err := c.dialer.connect(ctx, pick, c.greeting(&c.origin))
	if err == nil && c.attach(backend) {
		return nil
	}
	return cmp.Or(c.interrupted(), err)
}
