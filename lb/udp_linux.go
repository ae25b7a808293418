package lb

import (
	"context"
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/lb/internal/reactor"
)

// serve relays the datagrams of conn until ctx ends.
func (u *UDP) serve(ctx context.Context, conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	p := &udpPlane{u: u, sessions: make(map[reactor.Pair]*udpSession), watched: make(map[*Pool]func())}
	// The loop holds the descriptor open as long as it runs.
	cerr := raw.Control(func(fd uintptr) { err = p.run(ctx, int32(fd)) })
	return errors.Join(cerr, err)
}

// growBuffers makes room for what comes while the loop is busy, beyond the limits for
// ordinary users if it may.
func growBuffers(conn *net.UDPConn, size int) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		for force, option := range map[int]int{unix.SO_RCVBUFFORCE: unix.SO_RCVBUF, unix.SO_SNDBUFFORCE: unix.SO_SNDBUF} {
			if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, force, size) != nil {
				_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, option, size)
			}
		}
	})
}

// maxSessions leaves some descriptors to the rest of the process.
func maxSessions(want int) int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err == nil {
		want = min(want, int(min(limit.Cur, 1<<30))*9/10)
	}
	return max(want, 1)
}

// udpPlane is the event loop of one Serve.
type udpPlane struct {
	*reactor.Loop
	u       *UDP
	front   int32
	in, out *reactor.Batch

	sessions map[reactor.Pair]*udpSession
	slots    []*udpSession
	free     []int32
	timers   reactor.Timers[*udpSession]

	config  *udpSettings // for new sessions,
	limit   int          // and how many there may be
	watched map[*Pool]func()
}

// placeFront is the place of the socket that clients send to.
const placeFront = -1

// run relays the datagrams of front until ctx ends.
func (p *udpPlane) run(ctx context.Context, front int32) (err error) {
	p.front = front
	if p.in, p.out, err = reactor.NewBatches(front); err != nil {
		return err
	}
	if p.Loop, err = reactor.NewLoop(); err != nil {
		return err
	}
	defer p.close()
	if errno := p.Watch(front, reactor.Readable, placeFront, 0); errno != 0 {
		return errno
	}
	defer context.AfterFunc(ctx, func() { p.Post(func() {}) })()
	for ctx.Err() == nil {
		for _, ev := range p.Wait(p.timers.Next()) {
			if ev.Fd == placeFront {
				p.receive()
			} else if s := p.slots[ev.Fd]; s != nil && s.generation == ev.Pad && s.fd >= 0 {
				p.replied(s)
			}
		}
		p.out.Flush(p.front)
		for t := p.timers.Expired(p.Now()); t != nil; t = p.timers.Expired(p.Now()) {
			p.end(t.Owner, "")
		}
	}
	return nil
}

// close ends all sessions.
func (p *udpPlane) close() {
	for _, undo := range p.watched {
		undo()
	}
	for t := p.timers.Oldest(); t != nil; t = p.timers.Oldest() {
		p.end(t.Owner, "shutdown")
	}
	p.Close()
}

// cut has the loop end the sessions of a server that is gone. Their clients' next
// datagrams begin others. It may be called when the loop has ended.
func (p *udpPlane) cut(gone *server) {
	p.Post(func() {
		for _, s := range p.slots {
			if s != nil && s.fd >= 0 && s.pick.member.server == gone {
				p.end(s, "cut")
			}
		}
	})
}

// use makes cfg the settings of new sessions.
func (p *udpPlane) use(cfg *udpSettings) {
	p.config, p.limit = cfg, maxSessions(cfg.MaxSessions)
	used := map[*Pool]bool{cfg.Pool: true}
	for _, s := range p.sessions {
		used[s.cfg.Pool] = true
	}
	for pool, undo := range p.watched {
		if !used[pool] {
			undo()
			delete(p.watched, pool)
		}
	}
	if p.watched[cfg.Pool] == nil {
		p.watched[cfg.Pool] = cfg.Pool.watchGone(p.cut)
	}
}

// receive takes the datagrams that clients have sent, one batch at a time so that
// replies do not wait for long. Those that follow one another in a session
// go on together.
func (p *udpPlane) receive() {
	n := p.in.Receive(p.front)
	for first := 0; first < n; {
		key := p.in.Pair(first)
		end := first + 1
		for end < n && p.in.Pair(end) == key {
			end++
		}
		s := p.sessions[key]
		if s == nil {
			s = p.begin(key)
		}
		p.touch(s)
		s.up += p.in.Bytes(first, end)
		p.send(s, first, end)
		first = end
	}
}
