package lb

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/inet"
	"github.com/havip/havip/lb/internal/reactor"
)

// udpPlane is the event loop of one Serve.
type udpPlane struct {
	*reactor.Loop
	udp     *UDP
	gone    registry // what pools cut: this loop
	front   int32
	in, out *reactor.Batch

	sessions map[reactor.Pair]*udpSession
	sockets  map[int32]*udpSession // the sessions that have a backend, by descriptor
	timers   reactor.Timers[*udpSession]

	current *udpSettings // for new sessions
	share   *holder      // of the sockets that there may be
}

// udpSession is one client's exchange with one backend.
type udpSession struct {
	pair reactor.Pair
	cfg  *udpSettings
	flow Flow
	pick Pick
	fd   int32 // to the backend; -1 while there is none

	start, last       int64
	up, down          int64  // bytes from the client and to it
	sent, received    int64  // bytes to the present backend and from it,
	requests, replies int    // and datagrams
	backend           string // the last one that replied before the present one
	tries             int

	timer reactor.Timer[*udpSession] // when it has been idle for too long
}

// udpShare is what all UDP planes of this process have.
var udpShare share

// udpSockets is how many sockets udpShare is: half of the descriptors of this process, and
// seven eighths of the ports that the kernel gives to sockets of UDP. The rest is for
// connections, health checks, names to be resolved and whatever else the process does.
func udpSockets() int {
	n := int(reactor.MaxDescriptors()) / 2
	var first, last int
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err == nil {
		_, err = fmt.Sscan(string(text), &first, &last)
	}
	if err == nil {
		n = min(n, (last-first+1)*7/8)
	}
	return n
}

// giveBack closes sockets whose places another plane has got.
func (p *udpPlane) giveBack() {
	for p.share.owes() && p.freeSocket(nil) {
	}
}

// touchSession notes a datagram of s.
func (p *udpPlane) touchSession(s *udpSession) {
	s.last = p.Now()
	p.timers.Set(&s.timer, s.last, s.cfg.IdleTimeout)
}

// beginSession makes a session, at the cost of the oldest one if need be. The caller
// touches it.
func (p *udpPlane) beginSession(pair reactor.Pair) *udpSession {
	if cfg := p.udp.settings.Load(); cfg != p.current {
		cfg.Pool.watchGone(&p.gone)
		p.current = cfg
	}
	for len(p.sessions) >= p.current.MaxSessions {
		p.evictOldest()
	}
	s := &udpSession{pair: pair, cfg: p.current, fd: -1, start: p.Now(), flow: Flow{Client: pair.Peer}}
	s.timer.Owner = s
	p.udp.counters.begin()
	p.sessions[pair] = s
	return s
}

// evictOldest ends the oldest session to make room.
func (p *udpPlane) evictOldest() {
	p.udp.counters.refused.Add(1)
	p.endSession(p.timers.Oldest().Owner, "made room for another")
}

// forwardDatagrams sends the received datagrams from first up to end to the session's
// backend, or to another backend if that has become unusable.
func (p *udpPlane) forwardDatagrams(s *udpSession, first, end int) {
	if s.fd >= 0 && (s.pick.member.moved.Load() || believedDown(s.cfg.Pool, s.pick.member)) {
		p.disconnectSession(s, Neutral)
		s.flow.tries = 0
	}
	for tries := 0; first < end && tries < maxTries; {
		if s.fd < 0 && !p.connectSession(s) {
			p.udp.counters.failed.Add(uint64(end - first))
			s.flow.tries = 0 // the next datagram may try all of them again
			return
		}
		n, errno := p.in.Forward(s.fd, first, end)
		switch {
		case errno == 0:
			s.sent += p.in.Bytes(first, first+n)
			s.requests += n
			first += n
		case unreachable(errno):
			// Not for this datagram: for one before it. This one is still here.
			p.disconnectSession(s, Failure)
			p.countRetry(s)
			tries++
		default:
			// Lost, as datagrams are (EAGAIN, ENOBUFS), or refused by a filter of this
			// host (EPERM): another backend would fare no better.
			if errno != unix.EAGAIN {
				s.cfg.log.Warn("datagram not sent", "backend", s.pick.Backend(), "err", errno)
			}
			first++
		}
	}
}

// believedDown reports whether a session must leave its backend: the pool would not use
// the backend. In panic the pool does use what is down.
func believedDown(p *Pool, m *member) bool {
	if !m.down.Load() {
		return false
	}
	s := p.snap.Load()
	now := s.byName[m.Name]
	return now == nil || now.server != m.server || !s.uses(now)
}

// unreachable reports whether an error is what the kernel makes of ICMP's messages
// (icmp_err_convert; of ICMPv6 EACCES is one of them), or of having no route.
func unreachable(errno unix.Errno) bool {
	switch errno {
	case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN, unix.ENONET, unix.ENOPROTOOPT, unix.EACCES:
		return true
	}
	return false
}

// countRetry counts a backend that was tried in vain.
func (p *udpPlane) countRetry(s *udpSession) {
	p.udp.counters.retries.Add(1)
	s.tries++
}

// connectSession gives s a backend; false if there is none.
func (p *udpPlane) connectSession(s *udpSession) bool {
	for range maxTries {
		pick, err := s.cfg.Pool.Pick(&s.flow)
		if err != nil {
			return false
		}
		fd, err := p.dialBackend(s, pick)
		if shortage(err) && p.freeSocket(s) {
			fd, err = p.dialBackend(s, pick)
		}
		if err == nil {
			s.fd, s.pick, p.sockets[fd] = fd, pick, s
			s.sent, s.received, s.requests, s.replies = 0, 0, 0, 0
			return true
		}
		s.cfg.log.Warn("session not connected", "backend", pick.Backend(), "err", explain(err))
		result := blame(err)
		if err == errUnresolved || isAny(err, unix.EAGAIN, unix.EPERM) {
			result = Neutral
		}
		pick.Done(result)
		if shortage(err) {
			return false
		}
		p.countRetry(s)
	}
	return false
}

// errUnresolved: a loop cannot wait for the resolver.
var errUnresolved = errors.New("its name has no address yet: see Pool.Run")

// shortage reports whether something is used up that sessions hold. EAGAIN: the
// local ports.
func shortage(err error) bool { return err != nil && (starved(err) || isAny(err, unix.EAGAIN)) }

// freeSocket ends the oldest session that has a socket, and all older sessions, but
// not s. It reports whether there was a socket.
func (p *udpPlane) freeSocket(s *udpSession) bool {
	for t := p.timers.Oldest(); t != nil && t.Owner != s; t = p.timers.Oldest() {
		socket := t.Owner.fd >= 0
		p.evictOldest()
		if socket {
			return true
		}
	}
	return false
}

// dialBackend returns a socket connected to a backend, of which the loop is told.
func (p *udpPlane) dialBackend(s *udpSession, pick Pick) (fd int32, err error) {
	a := pick.member.addrPort
	if !a.IsValid() {
		return -1, errUnresolved
	}
	if !p.share.take() {
		return -1, unix.EMFILE
	}
	defer func() {
		if err != nil {
			p.share.give()
		}
	}()
	fd, errno := reactor.Socket(unix.SOCK_DGRAM, a)
	if errno != 0 {
		return -1, errno
	}
	if errno = p.Connect(fd, a); errno != 0 {
		reactor.Close(fd)
		return -1, errno
	}
	if p.IsSelfConnected(fd, a.Port()) {
		reactor.Close(fd)
		return -1, inet.ErrSelfConnected
	}
	if errno = p.Watch(fd, reactor.Readable, fd, 0); errno != 0 {
		reactor.Close(fd)
		return -1, fmt.Errorf("epoll: %w", errno)
	}
	return fd, nil
}

// disconnectSession takes the backend from s.
func (p *udpPlane) disconnectSession(s *udpSession, r Result) {
	if r == Failure {
		s.cfg.log.Info("backend failed", "backend", s.pick.Backend(), "requests", s.requests, "replies", s.replies)
	}
	if s.replies > 0 {
		s.backend = s.pick.Backend()
	}
	reactor.Close(s.fd)
	p.share.give()
	delete(p.sockets, s.fd)
	s.fd = -1
	s.pick.Transferred(s.sent, s.received)
	s.pick.Lasted(time.Duration(s.last - s.start))
	s.pick.Done(r)
}

// relayReplies passes on what the backend of s has sent.
func (p *udpPlane) relayReplies(s *udpSession) {
	n, errno := p.out.Collect(s.fd, p.front)
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR || errno == unix.EMSGSIZE: // a path's MTU was found out
		return
	case unreachable(errno):
		p.disconnectSession(s, Failure)
		return
	case errno != 0:
		p.disconnectSession(s, Neutral)
		return
	}
	for range n {
		size := p.out.Add(s.pair)
		s.received += size
		s.down += size
	}
	p.touchSession(s)
	if s.replies == 0 {
		s.pick.Report(Success)
		s.flow.tried[0], s.flow.tries = s.pick.member.server, 1 // the others may be well again
	}
	s.replies += n
	if s.cfg.Responses > 0 && s.replies >= s.cfg.Responses*s.requests {
		p.endSession(s, "")
	}
}

// endSession ends s, and accounts for it.
func (p *udpPlane) endSession(s *udpSession, reason string) {
	p.timers.Stop(&s.timer)
	delete(p.sessions, s.pair)
	r := Record{
		Service: s.cfg.Pool.config().Name, Client: s.pair.Peer, Backend: s.backend, Start: reactor.Time(s.start),
		Duration: time.Duration(s.last - s.start), Received: s.up, Sent: s.down, Retries: s.tries, Reason: reason,
	}
	if s.fd >= 0 {
		r.Backend = s.pick.Backend()
		result := Neutral
		if reason == "" && s.replies < s.cfg.Responses*s.requests {
			result = Failure
		}
		p.disconnectSession(s, result)
	}
	c := &p.udp.counters
	c.received.Add(uint64(s.up))
	c.sent.Add(uint64(s.down))
	c.active.Add(-1)
	if s.cfg.Record != nil {
		s.cfg.Record(r)
	}
}

// cut has the loop end the sessions of servers. Their clients' next datagrams begin others.
// It may be called when the loop has ended.
func (p *udpPlane) cut(gone servers) {
	p.Post(func() {
		for _, s := range p.sockets {
			if gone.end(s.pick) {
				p.endSession(s, "cut")
			}
		}
	})
}
