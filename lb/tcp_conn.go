package lb

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// serveConn is the life of a connection that has a goroutine: one with TLS, or
// one of a listener that the event loop cannot take. o is what is known of it
// already, nil for a new one.
func (t *TCP) serveConn(ctx context.Context, client net.Conn, o *origin) {
	c := &t.state().counters
	s := &session{client: client, idle: t.IdleTimeout}
	start := time.Now()
	r := Record{Start: start}
	if o == nil {
		peer := addrPort(client.RemoteAddr())
		c.active.Add(1)
		defer c.active.Add(-1)
		c.accepted.Add(1)
		if !t.state().limiter.admit(&t.Limits, peer.Addr(), start) {
			c.refused.Add(1)
			client.Close()
			return
		}
		defer t.state().limiter.release(&t.Limits, peer.Addr())
		o = &origin{client: peer, local: addrPort(client.LocalAddr())}
	}
	if !t.state().sessions.add(s) {
		client.Close()
		return
	}
	defer t.state().sessions.remove(s)
	err := t.relayConn(ctx, s, client, o, &r)
	if err != nil {
		client.Close()
		r.Reason = err.Error()
		t.log.Warn("connection not served", "client", o.client, "error", err)
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
func (t *TCP) relayConn(ctx context.Context, s *session, client net.Conn, o *origin, r *Record) error {
	c := &t.state().counters
	var early []byte
	if !o.known {
		var err error
		if early, err = t.readPreface(client, o); err != nil {
			c.refused.Add(1)
			return err
		}
	}
	if t.TLS != nil {
		server := tls.Server(client, t.TLS)
		if err := handshake(ctx, server, t.PrefaceTimeout); err != nil {
			c.refused.Add(1)
			return err
		}
		if len(t.Routes) > 0 {
			name := server.ConnectionState().ServerName
			if o.pool = t.route(name); o.pool == nil {
				c.refused.Add(1)
				return fmt.Errorf("no route for server name %q", name)
			}
		}
		s.mu.Lock()
		s.client = server
		s.mu.Unlock()
	}
	pick, err := t.connect(ctx, s, o, r)
	if err != nil {
		c.failed.Add(1)
		return err
	}
	r.Connect = time.Since(r.Start)
	r.Backend = pick.Backend()
	if t.SendProxy > 0 {
		early = append(appendProxy(nil, t.SendProxy, o.client, o.local), early...)
	}
	if len(early) == 0 {
		s.relay()
	} else if _, err := s.backend.Write(early); err == nil {
		s.relay()
	}
	pick.Transferred(s.up.Load(), s.down.Load())
	pick.Done(Neutral)
	return nil
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
	for range t.Tries {
		pick, err := o.pool.Acquire(ctx, &flow)
		if err != nil {
			return Pick{}, errors.Join(last, err)
		}
		start := time.Now()
		backend, err := t.dialBackend(ctx, pick)
		if err == nil && s.attach(backend, pick.member.server) {
			pick.Connected(time.Since(start))
			pick.Report(Success)
			return pick, nil
		}
		if err == nil || ctx.Err() != nil { // Cut while connecting.
			pick.Done(Neutral)
			return Pick{}, context.Canceled
		}
		pick.Done(Failure)
		r.Retries++
		t.log.Info("backend not reached", "backend", pick.Backend(), "error", err)
		last = err
	}
	return Pick{}, last
}

// dialBackend connects to a picked backend, with TLS if so configured.
func (t *TCP) dialBackend(ctx context.Context, pick Pick) (net.Conn, error) {
	d := net.Dialer{Timeout: t.ConnectTimeout, KeepAlive: -1}
	network, address := network(pick.Address())
	c, err := d.DialContext(ctx, network, address)
	if err != nil || t.BackendTLS == nil {
		return c, err
	}
	cfg := t.BackendTLS
	if cfg.ServerName == "" {
		cfg = cfg.Clone()
		// The name that was configured, not what it resolved to.
		if host, _, err := net.SplitHostPort(pick.member.Address); err == nil {
			cfg.ServerName = host
		}
	}
	client := tls.Client(c, cfg)
	if err := handshake(ctx, client, t.ConnectTimeout); err != nil {
		c.Close()
		return nil, err
	}
	return client, nil
}
