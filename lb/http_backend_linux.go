package lb

import (
	"context"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/inet"
	"github.com/havip/havip/lb/internal/reactor"
)

// backendConn is a connection to a backend in an event loop. One request at a time uses it.
type backendConn struct {
	sock
	to    destination
	user  *httpConn  // whose request it serves, or that it waits for; nil: it is idle
	home  *keptConns // where it is idle; nil: it is not, or is authenticated for a client
	state backendState
	local netip.Addr // this host's address in it; zero: not asked for yet
	in    []byte     // the beginning of a response's head
	timer reactor.Timer[timed]

	started int64 // when connecting began
	since   int64 // when it became idle
}

// backendState is where a connection to a backend is in its life.
type backendState uint8

const (
	backendConnecting backendState = iota
	backendBusy
	backendIdle
)

// handleEvents goes on with what something has happened to.
func (b *backendConn) handleEvents() {
	switch b.state {
	case backendConnecting:
		if b.writable {
			b.user.connected()
		}
	case backendBusy:
		b.user.relay()
	case backendIdle:
		// Its end, or bytes that belong to no request: a request must not take these for its
		// response.
		if b.readable && b.spoilt() {
			b.drop()
		}
	}
}

// spoilt reports whether anything has come on a connection that is idle.
func (b *backendConn) spoilt() bool {
	var p [1]byte
	_, errno := b.read(p[:])
	return errno != unix.EAGAIN
}

// expireTimer ends what took too long.
func (b *backendConn) expireTimer() {
	switch b.state {
	case backendIdle:
		b.drop()
	default:
		b.user.backendLate()
	}
}

// armTimer has the backend expire after d, unless something happens before.
func (b *backendConn) armTimer(d time.Duration) {
	b.timer.Owner = b
	b.l.timers.Set(&b.timer, b.l.Now(), d)
}

// drop closes the connection.
func (b *backendConn) drop() {
	l := b.l
	if b.state == backendIdle {
		l.forgetIdle(b)
	} else {
		l.forgetEmpty(b.to.server)
	}
	l.timers.Stop(&b.timer)
	b.close()
	b.user, b.in = nil, nil
}

// dialBackend begins a connection to a.
func (l *httpLoop) dialBackend(a netip.AddrPort, user *httpConn) (*backendConn, unix.Errno) {
	fd, errno := reactor.Socket(unix.SOCK_STREAM, a)
	if errno != 0 {
		return nil, errno
	}
	if errno = l.Connect(fd, a); errno != 0 && errno != unix.EINPROGRESS {
		reactor.Close(fd)
		return nil, errno
	}
	b := &backendConn{}
	if errno = b.watch(l, fd, b); errno != 0 {
		reactor.Close(fd)
		return nil, errno
	}
	b.user, b.started = user, l.Now()
	return b, 0
}

// connectError returns why a connection that epoll has told of is none; nil: it is one.
func (b *backendConn) connectError(a netip.AddrPort) error {
	if b.broken || b.ending {
		if errno := reactor.SocketError(b.fd); errno != 0 {
			return errno
		}
	}
	local := b.l.LocalAddr(b.fd)
	if b.local = local.Addr(); a.IsValid() && local.Port() == a.Port() && b.l.IsSelfConnected(b.fd, a.Port()) {
		reactor.Abort(b.fd)
		return inet.ErrSelfConnected
	}
	return nil
}

// source returns this host's address in the connection.
func (b *backendConn) source() netip.Addr {
	if !b.local.IsValid() {
		b.local = b.l.LocalAddr(b.fd).Addr()
	}
	return b.local
}

// dialSlowly connects to a name, a unix socket, or by TLS, which takes a goroutine.
func (c *httpConn) dialSlowly(pick Pick) {
	t, l := c.t, c.l
	ctx, cancel := context.WithCancel(l.e.work)
	t.giveUp = cancel
	d, serial := &t.x.cfg.dialer, c.newAttempt()
	to := c.destination()
	greeting := to.greeting()
	go func() {
		defer cancel()
		side, err := dialSide(ctx, d, pick, greeting)
		if !l.Post(func() {
			if c.attempts != serial || c.t == nil {
				side.close()
				return
			}
			c.t.giveUp = nil
			c.dialed(side, err)
		}) {
			side.close()
		}
	}()
}

// dialed goes on with what dialSlowly has brought.
func (c *httpConn) dialed(side preparedSide, err error) {
	if err != nil {
		c.failAttempt(err)
		return
	}
	b := &backendConn{}
	if errno := b.watch(c.l, side.fd, b); errno != 0 {
		side.close()
		c.failAttempt(errno)
		return
	}
	b.tls = side.records(&c.l.tls)
	b.user, b.started, b.to = c, c.t.started, c.destination()
	b.writable, b.readable, b.nodelay = true, true, true
	c.t.back = b
	c.useBackend()
}
