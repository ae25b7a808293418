package lb

import (
	"golang.org/x/sys/unix"

	"github.com/havip/havip/lb/internal/reactor"
)

// sock is one socket in an event loop of an HTTP plane: a client's, or one to a backend. The
// loop watches it once in its life, for edges: a flag stays set until a system call says
// otherwise.
type sock struct {
	l     *httpLoop
	owner sockOwner // is told of events

	fd   int32 // -1: closed
	slot int32 // among the loop's sockets
	mark int32 // tells it from an earlier one in the same slot

	readable bool // there may be something to read
	writable bool // there may be room to write
	ending   bool // the peer has sent its end, or the connection has failed
	broken   bool // epoll has told of a failure
	urgent   bool // there is an urgent byte, which ends reads that could go on
	nodelay  bool // writes need not wait for the acknowledgement of earlier ones
	more     bool // the end follows a write at once, and both may leave in one packet
	due      due  // whether what is pending goes out together with what others send

	sent    int        // how much has gone out so
	unsent  unix.Errno // why no more has
	fault   unix.Errno // what a write has met with: the kernel tells of that once
	pending []byte     // what the socket did not take
	tls     *records   // nil: no TLS
}

// sockOwner has a socket.
type sockOwner interface{ handleEvents() }

// watch puts a descriptor into the loop.
func (s *sock) watch(l *httpLoop, fd int32, owner sockOwner) unix.Errno {
	*s = sock{l: l, owner: owner, fd: fd, mark: l.newMark(), slot: l.takeSlot(s)}
	if errno := l.Watch(fd, reactor.Edges, s.slot, s.mark); errno != 0 {
		l.freeSlot(s.slot)
		s.fd = -1
		return errno
	}
	return 0
}

// note takes what epoll says.
func (s *sock) note(events uint32) {
	const failure = unix.EPOLLHUP | unix.EPOLLERR
	if events&(unix.EPOLLIN|unix.EPOLLRDHUP|failure) != 0 {
		s.readable = true
	}
	if events&unix.EPOLLPRI != 0 {
		s.urgent = true
	}
	if events&(unix.EPOLLRDHUP|failure) != 0 {
		s.ending = true
	}
	if events&(unix.EPOLLOUT|failure) != 0 {
		s.writable = true
	}
	if events&unix.EPOLLERR != 0 {
		s.broken = true
	}
	if s.tls != nil {
		s.tls.noteEvents(events)
	}
}

// read reads from the socket. 0 bytes without an error are the end in order, unless isTorn.
func (s *sock) read(b []byte) (int, unix.Errno) {
	if s.tls != nil {
		return s.open(b)
	}
	for {
		n, errno := reactor.Read(s.fd, b)
		switch {
		case errno == unix.EINTR:
			continue
		case errno == unix.EAGAIN:
			s.readable, s.urgent = false, false
			return 0, errno
		case errno != 0:
			return 0, errno
		case n == 0:
			return 0, s.fault // see frankConn
		}
		// A short read has emptied the socket: what comes later raises another event
		// (epoll(7)). Only the end may have been announced together with the data.
		if n < len(b) && !s.ending && !s.urgent {
			s.readable = false
		}
		return n, 0
	}
}

// write writes. What the socket does not take is pending, and b may be used again.
func (s *sock) write(b []byte) unix.Errno {
	if s.tls != nil {
		return s.seal(b)
	}
	return s.send(b)
}

// send is write for what the socket itself gets. Others may send at the same time.
func (s *sock) send(b []byte) unix.Errno {
	if s.writable && !s.full() && !s.more && s.l.defers(s, b) {
		return 0
	}
	return s.put(b)
}

// put is send, now.
func (s *sock) put(b []byte) unix.Errno {
	n := 0
	if s.writable && len(s.pending) == 0 {
		var errno unix.Errno
		if n, errno = s.push(b); errno != 0 {
			return errno
		}
	}
	if n < len(b) {
		s.pending = append(s.pending, b[n:]...)
	}
	return 0
}

// push writes what the socket takes.
func (s *sock) push(b []byte) (int, unix.Errno) {
	write := reactor.Write
	if s.more {
		write = reactor.WriteMore
	}
	for {
		if n, errno := write(s.fd, b); errno != unix.EINTR {
			return s.pushed(n, len(b), errno)
		}
	}
}

// pushed notes what a write of size bytes says of the socket, and returns how many it has taken.
func (s *sock) pushed(n, size int, errno unix.Errno) (int, unix.Errno) {
	switch errno {
	case 0:
		if n < size {
			s.writable = false
		}
		return n, 0
	case unix.EAGAIN:
		s.writable = false
		return 0, 0
	case unix.EPIPE:
	default:
		s.fault = errno
	}
	return 0, errno
}

// full reports whether something is pending, as far as flush has told.
func (s *sock) full() bool { return len(s.pending) > 0 || s.due != dueNever }

// flush writes what is pending, unless that is about to go out. It reports how much has.
func (s *sock) flush() (int, unix.Errno) {
	switch s.due {
	case dueSoon:
		return 0, 0
	case dueDone:
		return s.takeSent()
	}
	if !s.writable || len(s.pending) == 0 {
		return 0, 0
	}
	n, errno := s.push(s.pending)
	if errno != 0 {
		return 0, errno
	}
	if s.pending = s.pending[n:]; len(s.pending) == 0 {
		s.pending = nil
	}
	return n, 0
}

// writeAtOnce has further writes go out at once, without waiting for the acknowledgement of
// the first one.
func (s *sock) writeAtOnce() {
	if !s.nodelay {
		s.nodelay = true
		reactor.NoDelay(s.fd)
	}
}

// hasUnread reports whether a read would not wait, also for what no event has told of yet.
func (s *sock) hasUnread() bool {
	if s.tls != nil {
		return s.hasContent()
	}
	if s.readable {
		return true
	}
	var b [1]byte
	_, _, err := unix.Recvfrom(int(s.fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return err != unix.EAGAIN
}

// endWriting tells the peer that no more comes.
func (s *sock) endWriting() {
	s.settle()
	s.more = true
	s.sealEnd()
	s.more = false
	if !s.full() { // otherwise closing does it
		reactor.ShutdownWrite(s.fd)
	}
}

// close closes the socket, and its slot is free. A second call does nothing.
func (s *sock) close() {
	if s.fd >= 0 {
		s.settle()
		s.more = true
		s.sealEnd()
		s.leave()
	}
}

// abort closes the socket so that the peer takes nothing that it got for complete.
func (s *sock) abort() {
	if s.fd >= 0 {
		s.settle()
		reactor.Abort(s.fd)
		s.leave()
	}
}

// leave closes the socket, whatever its peer makes of that.
func (s *sock) leave() {
	reactor.Close(s.fd)
	if s.tls != nil {
		s.tls.releaseBuffer()
	}
	s.forget()
}

// takeOut takes the socket out of the loop, for goroutines.
func (s *sock) takeOut() (m movedSock) {
	s.settle()
	m = movedSock{fd: s.fd, tls: s.tls, pending: s.pending}
	s.l.Unwatch(s.fd)
	if s.tls != nil {
		s.tls.moveOut()
	}
	s.forget()
	return m
}

// forget gives up the slot and the descriptor.
func (s *sock) forget() {
	s.l.freeSlot(s.slot)
	s.fd, s.pending, s.tls = -1, nil, nil
}
