package lb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Serve relays the datagrams of conn, which it closes, until ctx ends: nil. One
// goroutine does it all.
func (u *UDP) Serve(ctx context.Context, conn *net.UDPConn) error {
	defer conn.Close()
	if err := u.Validate(); err != nil {
		return err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("lb: UDP: %w", err)
	}
	p := &udpPlane{u: u, sessions: make(map[udpKey]*udpSession), limit: maxSessions(u.MaxSessions)}
	// The loop holds the descriptor open as long as it runs.
	cerr := raw.Control(func(fd uintptr) { err = p.run(ctx, int32(fd)) })
	if err := errors.Join(cerr, err); err != nil {
		return fmt.Errorf("lb: UDP on %s: %w", conn.LocalAddr(), err)
	}
	return nil
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

// udpSession is one client's exchange with one backend.
type udpSession struct {
	key        udpKey
	u          *UDP // The configuration that it began under.
	flow       Flow
	pick       Pick
	fd         int32 // To the backend; -1 while there is none.
	slot       int32
	generation int32

	start, last    int64
	up, down       int64 // Bytes.
	replies, tries int
	prev, next     *udpSession // In the order of last.
}

// udpPlane is the event loop of one Serve.
type udpPlane struct {
	u     *UDP
	mu    sync.Mutex // Guards closing what follows.
	epoll int
	wake  int
	front int32
	v6    bool
	now   int64
	limit int

	sessions       map[udpKey]*udpSession
	slots          []*udpSession
	free           []int32
	oldest, newest *udpSession

	in, out *udpBatch
}

func (p *udpPlane) run(ctx context.Context, front int32) error {
	p.front = front
	countSpare()
	if err := p.open(); err != nil {
		p.close()
		return err
	}
	defer p.close()
	defer context.AfterFunc(ctx, p.wakeUp)()
	events := make([]unix.EpollEvent, 256)
	for ctx.Err() == nil {
		n := poll(p.epoll, events, p.timeout())
		p.now = int64(time.Since(epoch))
		for i := range n {
			switch ev := &events[i]; ev.Fd {
			case eventListener:
				p.receive()
			case eventWake:
			default:
				if s := p.slots[ev.Fd]; s != nil && s.generation == ev.Pad {
					p.replied(s)
				}
			}
		}
		p.out.flush(p.front)
		for s := p.oldest; s != nil && s.last+int64(s.u.IdleTimeout) <= p.now; s = p.oldest {
			p.end(s, "")
		}
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
	level, option := unix.SOL_IP, unix.IP_PKTINFO
	if p.v6 {
		level, option = unix.SOL_IPV6, unix.IPV6_RECVPKTINFO
	}
	if err := unix.SetsockoptInt(int(p.front), level, option, 1); err != nil {
		return err
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
	for s := p.oldest; s != nil; s = p.oldest {
		p.end(s, "shutdown")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, fd := range []*int{&p.epoll, &p.wake} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
}

// wakeUp ends the loop's waiting. It may be called when the loop has ended.
func (p *udpPlane) wakeUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.wake >= 0 {
		_, _ = unix.Write(p.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

// timeout is when the oldest session expires, in milliseconds. Sessions of an
// earlier configuration may have other timeouts: then it is looked at once a second.
func (p *udpPlane) timeout() int {
	if p.oldest == nil {
		return -1
	}
	left := p.oldest.last + int64(p.oldest.u.IdleTimeout) - int64(time.Since(epoch))
	return int(min(max(left, 0)/int64(time.Millisecond)+1, 1000))
}

// receive takes the datagrams that clients have sent, one batch at a time so that
// replies do not wait for long.
func (p *udpPlane) receive() {
	for i := range p.in.receive(p.front) {
		client, local := p.in.addresses(i)
		data := p.in.data(i)
		key := udpKey{client, local}
		s := p.sessions[key]
		if s == nil {
			s = p.begin(key)
		}
		p.touch(s)
		s.up += int64(len(data))
		p.send(s, data)
	}
}

// send brings a datagram to the session's backend, or to another one if that has
// become unusable.
func (p *udpPlane) send(s *udpSession, data []byte) {
	if s.fd >= 0 && s.pick.member.down.Load() {
		p.disconnect(s, Neutral)
		s.flow.tries = 0
	}
	for range maxTries {
		if s.fd < 0 {
			if err := p.connect(s); err != nil {
				p.u.counters.failed.Add(1)
				s.flow.tries = 0 // The next datagram may try all of them again.
				return
			}
		}
		_, errno := write(s.fd, data)
		switch errno {
		case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EPERM:
			// Not for this datagram: for one before it. This one is still here.
			p.disconnect(s, Failure)
			p.u.counters.retries.Add(1)
			s.tries++
		default:
			return // Sent, or lost as datagrams are (EAGAIN, ENOBUFS).
		}
	}
}

// connect gives s a backend.
func (p *udpPlane) connect(s *udpSession) error {
	pick, err := s.u.Pool.Pick(&s.flow)
	if err != nil {
		return err
	}
	a := pick.member.addrPort.Load()
	if a == nil { // A name that Pool.Run has not resolved yet.
		pick.Done(Neutral)
		return fmt.Errorf("address %s is not resolved", pick.Address())
	}
	fd, err := dialUDP(*a)
	if err == nil {
		err = unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, int(fd),
			&unix.EpollEvent{Events: unix.EPOLLIN, Fd: s.slot, Pad: s.generation})
		if err != nil {
			closeFD(fd)
		}
	}
	if err != nil {
		pick.Done(Neutral)
		p.u.log.Warn("session not connected", "backend", pick.Backend(), "error", err)
		return err
	}
	s.fd, s.pick = fd, pick
	return nil
}

// disconnect takes the backend from s.
func (p *udpPlane) disconnect(s *udpSession, r Result) {
	if s.fd < 0 {
		return
	}
	if r == Failure {
		p.u.log.Info("backend unreachable", "backend", s.pick.Backend())
	}
	closeFD(s.fd)
	s.fd = -1
	s.pick.Done(r)
}

// replied passes on what the backend of s has sent.
func (p *udpPlane) replied(s *udpSession) {
	for range 16 { // Others want their turn.
		buf := p.out.next(p.front)
		n, errno := read(s.fd, buf)
		switch errno {
		case 0:
		case unix.EAGAIN, unix.EINTR:
			return
		default: // ECONNREFUSED: nobody listens there.
			p.disconnect(s, Failure)
			return
		}
		p.out.add(n, s.key.client, s.key.local)
		p.touch(s)
		if s.replies == 0 {
			s.pick.Report(Success)
		}
		s.replies++
		s.down += int64(n)
		if s.u.Responses > 0 && s.replies >= s.u.Responses {
			p.end(s, "")
			return
		}
	}
}

// begin makes a session, at the cost of the oldest one if need be.
func (p *udpPlane) begin(key udpKey) *udpSession {
	c := &p.u.counters
	if len(p.sessions) >= p.limit {
		c.refused.Add(1)
		p.end(p.oldest, "made room for another")
	}
	s := &udpSession{key: key, u: p.u.current(), fd: -1, start: p.now, flow: Flow{Client: key.client}}
	if n := len(p.free); n > 0 {
		s.slot = p.free[n-1]
		p.free = p.free[:n-1]
	} else {
		s.slot = int32(len(p.slots))
		p.slots = append(p.slots, nil)
	}
	p.slots[s.slot] = s
	s.generation = int32(c.accepted.Add(1))
	c.active.Add(1)
	p.sessions[key] = s
	return s
}

// touch makes s the newest.
func (p *udpPlane) touch(s *udpSession) {
	s.last = p.now
	if p.newest == s {
		return
	}
	p.unlink(s)
	s.prev = p.newest
	if p.newest != nil {
		p.newest.next = s
	} else {
		p.oldest = s
	}
	p.newest = s
}

func (p *udpPlane) unlink(s *udpSession) {
	if s.prev != nil {
		s.prev.next = s.next
	} else if p.oldest == s {
		p.oldest = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	} else if p.newest == s {
		p.newest = s.prev
	}
	s.prev, s.next = nil, nil
}

// end forgets s.
func (p *udpPlane) end(s *udpSession, reason string) {
	p.unlink(s)
	delete(p.sessions, s.key)
	p.slots[s.slot] = nil
	p.free = append(p.free, s.slot)
	r := Record{
		Service: s.u.Pool.config().Name, Client: s.key.client, Start: epoch.Add(time.Duration(s.start)),
		Duration: time.Duration(s.last - s.start), Received: s.up, Sent: s.down, Retries: s.tries, Reason: reason,
	}
	if s.fd >= 0 {
		r.Backend = s.pick.Backend()
		s.pick.Transferred(s.up, s.down)
		result := Neutral
		if s.u.Responses > 0 && s.replies == 0 && reason == "" {
			result = Failure
		}
		p.disconnect(s, result)
	}
	c := &p.u.counters
	c.active.Add(-1)
	c.received.Add(uint64(s.up))
	c.sent.Add(uint64(s.down))
	if s.u.Record != nil {
		s.u.Record(r)
	}
}

// dialUDP returns a socket connected to a.
func dialUDP(a netip.AddrPort) (int32, error) {
	domain := unix.AF_INET
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(a.Port())}
	if a.Addr().Is4() {
		sa.(*unix.SockaddrInet4).Addr = a.Addr().As4()
	} else {
		domain = unix.AF_INET6
		sa = &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16(), ZoneId: scopeID(a.Addr().Zone())}
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, sa); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return int32(fd), nil
}
