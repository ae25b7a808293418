package lb

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/lb/internal/reactor"
)

// A goroutine does what would make an event loop wait. The loop then runs a function
// with the result. The function reports whether it has used the result: the connection
// may have ended in the meantime.

// awaitPick waits in a pool's queue. A queue is short, so its goroutines are few.
func (l *loop) awaitPick(pool *Pool, w *waiter, done func(Pick, error) bool) {
	go func() {
		pick, err := pool.await(l.e.work, w)
		if !l.Post(func() {
			if !done(pick, err) {
				pick.Done(Neutral)
			}
		}) {
			pick.Done(Neutral)
		}
	}()
}

// dialSlowly connects to a name or a unix socket.
func (l *loop) dialSlowly(d net.Dialer, pick Pick, done func(int32, error) bool) {
	go func() {
		network, address := network(pick.Address())
		conn, err := d.DialContext(l.e.work, network, address)
		fd := int32(-1)
		if err == nil {
			fd, err = takeFD(conn)
		}
		if !l.Post(func() {
			if !done(fd, err) && err == nil {
				reactor.Close(fd)
			}
		}) && err == nil {
			reactor.Close(fd)
		}
	}()
}

// takeFD makes a connection's descriptor the caller's.
func takeFD(c net.Conn) (int32, error) {
	defer c.Close()
	sc, ok := c.(interface{ File() (*os.File, error) })
	if !ok {
		return -1, fmt.Errorf("%T has no descriptor", c)
	}
	f, err := sc.File()
	if err != nil {
		return -1, err
	}
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	return int32(fd), err
}

// handOff gives the connection to a goroutine.
func (k *link) handOff() {
	cfg, l := k.cfg, k.loop
	o, peer, early, start := k.origin, k.peer, k.early, reactor.Time(k.start)
	if !o.local.IsValid() {
		o.local = l.LocalAddr(k.fd[0])
	}
	o.known = true
	if k.watched {
		l.Unwatch(k.fd[0])
	}
	f := os.NewFile(uintptr(k.fd[0]), "")
	k.fd[0] = -1
	l.live.Add(1) // the loop stays until the goroutine has ended
	k.release()
	go func() {
		defer l.Post(func() { l.live.Add(-1) })
		defer cfg.leave(peer)
		conn, err := toConn(l.e.work, f, &cfg.plane.counters)
		if err != nil {
			cfg.plane.counters.failed.Add(1)
			cfg.log.Warn("connection not served", "client", o.client, "err", err)
			cfg.account(&Record{Client: o.client, Start: start, Duration: time.Since(start), Reason: err.Error()}, o.pool)
			return
		}
		if len(early) > 0 {
			conn = &prefaced{conn, early}
		}
		c := cfg.newConn(conn, start)
		c.origin = o
		c.serve(l.e.work)
	}()
}

// toConn makes f a connection of the net package, and closes it. That takes another
// descriptor, which it waits for.
func toConn(ctx context.Context, f *os.File, c *counters) (net.Conn, error) {
	defer f.Close()
	for {
		conn, err := net.FileConn(f)
		if !starved(err) || !c.starve(ctx) {
			return conn, err
		}
	}
}
