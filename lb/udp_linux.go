package lb

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// serve relays the datagrams of conn until ctx ends.
func (u *UDP) serve(ctx context.Context, conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	p := &udpPlane{u: u, sessions: make(map[udpKey]*udpSession), watched: make(map[*Pool]func())}
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

// udpKey identifies a session.
type udpKey struct {
	client netip.AddrPort
	local  netip.Addr // The address that the client asked.
}

// udpPlane is the event loop of one Serve.
type udpPlane struct {
	u     *UDP
	epoll int
	front int32
	v6    bool
	now   int64

	sessions map[udpKey]*udpSession
	slots    []*udpSession
	free     []int32
	lists    []*udpList // One per timeout, of which there may be several after Reconfigure.

	config  *udpSettings // For new sessions, with what follows from it:
	limit   int          // of sessions,
	list    *udpList     // where they belong.
	watched map[*Pool]func()

	in, out *udpBatch

	mu   sync.Mutex // Guards what follows.
	wake int        // -1 when the loop has ended.
	gone []*server  // Their sessions must end.
}

func (p *udpPlane) run(ctx context.Context, front int32) error {
	p.front = front
	countSpare()
	if err := p.open(); err != nil {
		p.close()
		return err
	}
	defer p.close()
	defer context.AfterFunc(ctx, func() { p.cut(nil) })()
	events := make([]unix.EpollEvent, 256)
	for ctx.Err() == nil {
		n := poll(p.epoll, events, p.timeout())
		p.now = int64(time.Since(epoch))
		for i := range n {
			switch ev := &events[i]; ev.Fd {
			case eventListener:
				p.receive()
			case eventWake:
				p.endGone()
			default:
				if s := p.slots[ev.Fd]; s != nil && s.generation == ev.Pad && s.fd >= 0 {
					p.replied(s)
				}
			}
		}
		p.out.flush(p.front)
		p.expire()
	}
	return nil
}

// open prepares the loop.
func (p *udpPlane) open() (err error) {
	p.epoll, p.wake = -1, -1
	domain, err := unix.GetsockoptInt(int(p.front), unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return err
	}
	p.v6 = domain == unix.AF_INET6
	// On an IPv6 socket too: only this names our address when IPv4 is broadcast.
	if err := unix.SetsockoptInt(int(p.front), unix.SOL_IP, unix.IP_PKTINFO, 1); err != nil {
		return err
	}
	if p.v6 {
		if err := unix.SetsockoptInt(int(p.front), unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1); err != nil {
			return err
		}
	}
	p.in, p.out = newUDPBatch(p.v6), newUDPBatch(p.v6)
	if p.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if p.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return err
	}
	return errors.Join(
		unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, p.wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: eventWake}),
		unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, int(p.front), &unix.EpollEvent{Events: unix.EPOLLIN, Fd: eventListener}))
}

func (p *udpPlane) close() {
	for _, undo := range p.watched {
		undo()
	}
	for s := p.oldest(); s != nil; s = p.oldest() {
		p.end(s, "shutdown")
	}
	if p.epoll >= 0 {
		unix.Close(p.epoll)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.wake >= 0 {
		unix.Close(p.wake)
		p.wake = -1
	}
}

// cut has the loop end the sessions of a server; nil only wakes it. It may be
// called when the loop has ended.
func (p *udpPlane) cut(s *server) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.wake < 0 {
		return
	}
	if s != nil {
		p.gone = append(p.gone, s)
	}
	_, _ = unix.Write(p.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

// endGone ends the sessions of servers that are gone. Their clients' next datagrams
// begin others.
func (p *udpPlane) endGone() {
	var buf [8]byte
	p.mu.Lock()
	_, _ = unix.Read(p.wake, buf[:])
	gone := p.gone
	p.gone = nil
	p.mu.Unlock()
	if len(gone) == 0 {
		return
	}
	for _, s := range p.slots {
		if s != nil && s.fd >= 0 && slices.Contains(gone, s.pick.member.server) {
			p.end(s, "cut")
		}
	}
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
	p.lists = slices.DeleteFunc(p.lists, func(l *udpList) bool { return l.head == nil })
	i := slices.IndexFunc(p.lists, func(l *udpList) bool { return l.timeout == int64(cfg.IdleTimeout) })
	if i < 0 {
		i = len(p.lists)
		p.lists = append(p.lists, &udpList{timeout: int64(cfg.IdleTimeout)})
	}
	p.list = p.lists[i]
}

// timeout is how long epoll may wait for the next session to expire, in milliseconds.
func (p *udpPlane) timeout() int {
	next := int64(-1)
	for _, l := range p.lists {
		if s := l.head; s != nil && (next < 0 || s.last+l.timeout < next) {
			next = s.last + l.timeout
		}
	}
	if next < 0 {
		return -1
	}
	// Rounded up: waking before the deadline would be in vain.
	return int(min(max(next-int64(time.Since(epoch)), 0)+int64(time.Millisecond)-1, int64(time.Hour)) / int64(time.Millisecond))
}

// expire ends the sessions that have been idle for too long.
func (p *udpPlane) expire() {
	for _, l := range p.lists {
		for s := l.head; s != nil && s.last+l.timeout <= p.now; s = l.head {
			p.end(s, "")
		}
	}
}

// receive takes the datagrams that clients have sent, one batch at a time so that
// replies do not wait for long. Those that follow one another in a session
// go on together.
func (p *udpPlane) receive() {
	n := p.in.receive(p.front)
	for first := 0; first < n; {
		key := p.in.key(first)
		end := first + 1
		for end < n && p.in.key(end) == key {
			end++
		}
		s := p.sessions[key]
		if s == nil {
			s = p.begin(key)
		}
		p.touch(s)
		s.up += p.in.bytes(first, end)
		p.send(s, first, end)
		first = end
	}
}
