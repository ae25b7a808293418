package lb

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/lb/internal/reactor"
)

// inGoroutine has a goroutine get what would make an event loop wait. The loop then uses
// the result, or drops it if the connection, or its attempt to connect, has ended in the
// meantime: of is the place of its mark.
func inGoroutine[T any](k *link, of int, get func() (T, error), use func(T, error), drop func(T)) {
	l, mark := k.loop, k.mark[of]
	go func() {
		result, err := get()
		if !l.Post(func() {
			if k.mark[of] == mark {
				use(result, err)
			} else {
				drop(result)
			}
		}) {
			drop(result)
		}
	}()
}

// dialFD connects to a picked backend without TLS, and returns a descriptor.
func dialFD(ctx context.Context, d *dialer, pick Pick) (int32, error) {
	conn, err := d.connect(ctx, pick, nil)
	if err != nil {
		return -1, err
	}
	defer conn.Close()
	return dupFD(innermost(conn).(syscall.Conn))
}

// dupFD returns another descriptor of a connection or listener.
func dupFD(c syscall.Conn) (int32, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	cerr := raw.Control(func(f uintptr) { fd, err = unix.FcntlInt(f, unix.F_DUPFD_CLOEXEC, 0) })
	return int32(fd), errors.Join(cerr, err)
}

// handOff gives the connection to a goroutine. Once the goroutine has brought both sides
// about, an event loop takes the connection back if it can.
func (k *link) handOff() {
	cfg, l := k.cfg, k.loop
	k.findLocalAddr()
	o, peer, early, accepted := k.origin, k.peer, k.early, k.start
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
		start := reactor.Time(accepted)
		conn, err := toConn(l.e.work, f, &cfg.plane.counters, start.Add(cfg.IdleTimeout))
		if err != nil {
			cfg.plane.counters.failed.Add(1)
			cfg.log.Warn("connection not served", "client", o.client, "err", err)
			cfg.account(&Record{Client: o.client, Start: start, Duration: time.Since(start), Reason: err.Error()}, o.pool)
			cfg.leave(peer)
			return
		}
		c := cfg.newConn(&prefaced{Conn: conn, early: early}, start)
		defer cfg.plane.sessions.remove(c)
		c.origin = o
		c.adopt = func(pick Pick) bool { return l.adopt(c, pick, peer, accepted) }
		if !c.serve(l.e.work) {
			cfg.leave(peer)
		}
	}()
}

// toConn makes f a connection of the net package, and closes it. That takes another
// descriptor, which it waits for until then.
func toConn(ctx context.Context, f *os.File, c *counters, until time.Time) (net.Conn, error) {
	defer f.Close()
	for {
		conn, err := net.FileConn(f)
		if !starved(err) || time.Now().After(until) || !c.starve(ctx) {
			return conn, err
		}
	}
}
