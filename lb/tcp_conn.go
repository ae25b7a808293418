package lb

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// newSession makes a session of a client's connection that the plane knows of.
func (t *TCP) newSession(client net.Conn) *session {
	s := &session{client: client, idle: t.IdleTimeout}
	if !t.state().sessions.add(s) {
		s.cut(nil) // Its time was over before it began.
	}
	return s
}

// serveConn is the life of a connection that has a goroutine: one with TLS, or
// one of a listener that the event loop cannot take.
func (t *TCP) serveConn(ctx context.Context, s *session, o *origin, start time.Time) {
	defer t.state().sessions.remove(s)
	r := Record{Start: start}
	if err := t.relayConn(ctx, s, o, &r); err != nil {
		s.close()
		r.Reason = err.Error()
		t.log.Warn("connection not served", "client", o.client, "err", err)
	}
	if reason := s.why(); reason != "" {
		r.Reason = reason
	}
	r.Client, r.Duration = o.client, time.Since(start)
	r.Received, r.Sent = s.up.Load(), s.down.Load()
	t.ended(&r, o.pool)
}

// ended accounts for a connection that is over.
func (t *TCP) ended(r *Record, p *Pool) {
	c := &t.state().counters
	c.received.Add(uint64(r.Received))
	c.sent.Add(uint64(r.Sent))
	c.retries.Add(uint64(r.Retries))
	if p != nil {
		r.Service = p.config().Name
	}
	if t.Record != nil {
		t.Record(*r)
	}
}

// relayConn finds a backend for s and relays until the end. Its error says why
// none was reached.
func (t *TCP) relayConn(ctx context.Context, s *session, o *origin, r *Record) error {
	c := &t.state().counters
	early, err := t.begin(ctx, s, o)
	if err != nil {
		c.refused.Add(1)
		return err
	}
	pick, err := t.connect(ctx, s, o, r)
	if err != nil {
		c.failed.Add(1)
		return err
	}
	r.Connect = time.Since(r.Start)
	r.Backend = pick.Backend()
	s.up.Add(int64(len(early)))
	if t.SendProxy > 0 {
		early = append(appendProxy(nil, t.SendProxy, o.client, o.local), early...)
	}
	s.early = early
	s.relay()
	pick.Transferred(s.up.Load(), s.down.Load())
	pick.Done(Neutral)
	return nil
}

// begin finds out what o lacks, with TLS if that ends here. The bytes that
// it returns belong to the backend.
func (t *TCP) begin(ctx context.Context, s *session, o *origin) (early []byte, err error) {
	client := s.client.(net.Conn)
	if !o.known {
		if early, err = t.readPreface(client, o); err != nil {
			return nil, err
		}
	}
	if t.TLS == nil {
		return early, nil
	}
	if len(early) > 0 {
		client = &prefaced{client, early}
	}
	server := tls.Server(client, t.TLS)
	if err := handshake(ctx, server, t.PrefaceTimeout); err != nil {
		return nil, err
	}
	if len(t.Routes) > 0 {
		name := server.ConnectionState().ServerName
		if o.pool = t.route(name); o.pool == nil {
			return nil, fmt.Errorf("no route for server name %q", name)
		}
	}
	s.mu.Lock()
	s.client = server
	s.mu.Unlock()
	return nil, nil
}

func handshake(ctx context.Context, c *tls.Conn, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	return nil
}

// connect finds a backend that accepts the session's connection.
func (t *TCP) connect(ctx context.Context, s *session, o *origin, r *Record) (Pick, error) {
	flow := Flow{Client: o.client}
	var last error
	for r.Retries < t.Tries {
		pick, err := o.pool.Acquire(ctx, &flow)
		if err != nil {
			return Pick{}, errors.Join(last, err)
		}
		start := time.Now()
		err = t.reach(ctx, s, pick)
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
			t.log.Warn("connection waits", "client", o.client, "err", err)
			t.state().counters.starve(ctx)
			continue
		}
		r.Retries++
		t.log.Info("backend not reached", "backend", pick.Backend(), "err", err)
		pick.Done(blame(err))
		last = err
	}
	return Pick{}, last
}

// reach connects the session to a picked backend, unless that goes down meanwhile.
func (t *TCP) reach(ctx context.Context, s *session, pick Pick) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.dialing(pick.member.server, cancel)
	backend, err := t.dialer().connect(ctx, pick)
	if err == nil && s.attach(backend, pick.member.server) {
		return nil
	}
	if interrupted := s.interrupted(); interrupted != nil {
		return interrupted
	}
	return err
}

// dialer connects to the backends.
func (t *TCP) dialer() *dialer { return &dialer{timeout: t.ConnectTimeout, tls: t.BackendTLS} }
