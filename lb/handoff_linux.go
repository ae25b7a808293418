package lb

import (
	"context"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// What an event loop cannot do without waiting is done in goroutines.

// enqueue waits in the pool's queue, in a goroutine: overload is no time to save on
// the few that may wait.
func (k *link) enqueue() {
	k.state = linkQueued
	if k.in != nil {
		k.in.remove(k)
	}
	l, generation, flow, pool := k.loop, k.generation, k.flow, k.origin.pool
	ctx, cancel := context.WithTimeout(l.e.work, pool.config().QueueTimeout)
	go func() {
		defer cancel()
		pick, err := pool.Acquire(ctx, &flow)
		if !l.post(func() {
			switch {
			case k.generation == generation && err != nil:
				k.fail(err)
			case k.generation == generation:
				k.flow = flow
				k.connectTo(pick)
			case err == nil:
				pick.Done(Neutral)
			}
		}) && err == nil {
			pick.Done(Neutral)
		}
	}()
}

// dialSlowly connects to a name or a unix socket, in a goroutine.
func (k *link) dialSlowly(pick Pick) {
	k.state = linkQueued
	if k.in != nil {
		k.in.remove(k)
	}
	l, generation, timeout := k.loop, k.generation, k.t.ConnectTimeout
	go func() {
		d := net.Dialer{Timeout: timeout, KeepAlive: -1}
		network, address := network(pick.Address())
		conn, err := d.DialContext(l.e.work, network, address)
		fd := int32(-1)
		if err == nil {
			fd, err = takeFD(conn)
		}
		if !l.post(func() {
			switch {
			case k.generation == generation && err != nil:
				k.notConnected(err)
			case k.generation == generation:
				k.fd[1] = fd
				k.connecting(0)
			case err == nil:
				closeFD(fd)
			}
		}) && err == nil {
			closeFD(fd)
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
	t, l := k.t, k.loop
	o, peer, early := k.origin, k.peer, k.early
	if !o.local.IsValid() {
		o.local = l.localAddr(k.fd[0])
	}
	o.known = true
	f := os.NewFile(uintptr(k.fd[0]), "")
	k.fd[0] = -1
	k.release()
	l.live++ // The loop stays until the goroutine has ended.
	go func() {
		defer l.post(func() { l.live-- })
		c := &t.state().counters
		defer c.active.Add(-1)
		defer t.state().limiter.release(&t.Limits, peer)
		conn, err := net.FileConn(f)
		f.Close()
		if err != nil {
			c.failed.Add(1)
			t.log.Warn("connection not served", "client", o.client, "error", err)
			return
		}
		if len(early) > 0 {
			conn = &prefaced{TCPConn: conn.(*net.TCPConn), early: early}
		}
		t.serveConn(l.e.work, conn, &o)
	}()
}

// prefaced is a connection some of which was read before.
type prefaced struct {
	*net.TCPConn
	early []byte
}

func (p *prefaced) Read(b []byte) (int, error) {
	if len(p.early) > 0 {
		n := copy(b, p.early)
		p.early = p.early[n:]
		return n, nil
	}
	return p.TCPConn.Read(b)
}
