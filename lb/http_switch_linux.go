package lb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/havip/havip/lb/internal/h1"
)

// switchProtocols opens a tunnel for the protocol that client and backend have agreed on,
// WebSocket for instance. Goroutines have the connections from then on. rest is what the
// backend has sent behind its head.
func (c *httpConn) switchProtocols(rest []byte) {
	t, l := c.t, c.l
	x := &t.x
	x.noteHead(t.res.Status, l.time())
	fields, err := x.switchFields(&t.res, c.t.back.source())
	if err == nil && (!t.uploaded || t.back.full()) {
		err = errEarlySwitch
	}
	if err != nil {
		c.fail(fmt.Errorf("backend %s: %w", x.pick.Backend(), err))
		return
	}
	head := h1.AppendStatusLine(nil, t.res.Status, t.res.Reason)
	head = append(h1.AppendFields(head, fields), "\r\n"...)
	if c.ahead {
		head = head[1:]
	}
	x.result, x.record.Status, x.record.Reason = Success, t.res.Status, "ended before it was open"
	x.pick.Report(Success) // the end may be far
	b := t.back
	tun := &tunnel{
		t: t, c: c, head: head,
		client:  side{movedSock: c.takeOut(), early: slices.Clone(c.in[t.at:])},
		backend: side{movedSock: b.takeOut(), early: slices.Clone(rest)},
	}
	t.back, c.t = nil, nil
	l.timers.Stop(&b.timer)
	c.in = nil // the turn refers to it
	l.timers.Stop(&c.timer)
	c.dropOwned() // to other servers
	c.state = connClosed
	go tun.run(l.e.work)
}

// tunnel is an upgraded connection on its way to goroutines.
type tunnel struct {
	t               *httpTurn
	c               *httpConn
	head            []byte
	client, backend side
}

// side is one side of a tunnel.
type side struct {
	movedSock
	early []byte // what has come and is not passed on
}

// conn returns the connection as the net package has it.
func (s *side) conn(ctx context.Context, c *counters, until time.Time) (net.Conn, error) {
	socket, err := s.socket(ctx, c, until)
	if err != nil {
		return nil, err
	}
	return s.over(&frankConn{Conn: socket}, s.early), nil
}

// run relays until the end.
func (u *tunnel) run(ctx context.Context) {
	x, l := &u.t.x, u.c.l
	defer l.Post(u.c.release)
	defer func() { x.close(time.Now()) }()
	starving, until := &l.e.plane.gate.counters, time.Now().Add(x.cfg.ClientTimeout)
	client, err := u.client.conn(ctx, starving, until)
	backend, berr := u.backend.conn(ctx, starving, until)
	if err = errors.Join(err, berr); err != nil {
		x.record.Reason = err.Error()
		for _, c := range []net.Conn{client, backend} {
			if c != nil {
				reset(c)
			}
		}
		return
	}
	s := &session{client: client, idle: x.cfg.TunnelTimeout, pick: x.pick}
	sessions := l.e.sessions()
	if !sessions.add(s) {
		s.cut(nil)
	}
	defer sessions.remove(s)
	if !s.attach(backend) {
		x.record.Reason = s.why()
		return
	}
	if x.pick.isCut() {
		s.fail("cut")
	}
	_ = client.SetWriteDeadline(time.Now().Add(x.cfg.ClientTimeout))
	if _, err := client.Write(u.head); err == nil {
		_ = client.SetWriteDeadline(time.Time{})
		s.relay()
	} else {
		s.fail(http.StatusText(http.StatusSwitchingProtocols) + ": " + err.Error())
	}
	x.record.Received, x.record.Sent, x.record.Reason = s.up.read.Load(), s.down.written.Load(), s.why()
}
