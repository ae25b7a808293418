package lb

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/lb/internal/reactor"
)

// What many sockets send in one turn of an event loop goes out together, at its end, by one
// system call: see reactor.Ring. Until then it is pending, as if the sockets had no room.

// due is whether what is pending at a socket goes out together with what others send.
type due uint8

const (
	dueNever due = iota // flush sends it
	dueSoon             // it does
	dueDone             // it has, or not all of it, and flush has yet to tell
)

const (
	// dueSize is what a write has at most that waits for others. Of more, a copy costs more than
	// a call saves.
	dueSize = 16 << 10
	// dueRoom is for what waits.
	dueRoom = 256 << 10
)

// dueFrom is from how many connections with something to do in one turn writes wait for each
// other.
var dueFrom = 3

// outbox is what sockets of a loop send together.
type outbox struct {
	open   bool    // writes of this turn wait for each other
	ring   ring    // nil: there is none
	asked  bool    // for a ring
	owners []*sock // what waits is theirs from sent on, and was before
	sent   int
	room   []byte // what waits
}

// ring is what the loop has of a reactor.Ring.
type ring interface {
	Add(fd int32, b []byte)
	Submit() ([]reactor.Send, error)
	Close()
}

// defers has a write wait for the end of the turn, and reports whether it does.
func (l *httpLoop) defers(s *sock, b []byte) bool {
	o := &l.box
	if !o.open || len(b) > dueSize || len(o.room)+len(b) > dueRoom {
		return false
	}
	if o.room == nil {
		o.room = make([]byte, 0, dueRoom)
	}
	at := len(o.room)
	o.room = append(o.room, b...)
	s.pending, s.due = slices.Clip(o.room[at:]), dueSoon
	if o.owners = append(o.owners, s); len(o.owners)-o.sent == reactor.RingSize {
		l.sendDue()
	}
	return true
}

// closeOutbox ends a turn: what waits goes out, and its owners go on.
func (l *httpLoop) closeOutbox() {
	o := &l.box
	if o.open = false; len(o.owners) == 0 {
		return
	}
	l.sendDue()
	for i, s := range o.owners {
		o.owners[i] = nil
		if s.due == dueDone {
			s.owner.handleEvents()
			s.due = dueNever // it may be none of what the owner is about by now
		}
	}
	o.owners, o.sent, o.room = o.owners[:0], 0, o.room[:0]
}

// sendDue sends what waits.
func (l *httpLoop) sendDue() {
	o := &l.box
	waiting := slices.DeleteFunc(o.owners[o.sent:], func(s *sock) bool { return s.due != dueSoon }) // but settled
	o.owners = o.owners[:o.sent+len(waiting)]
	o.sent = len(o.owners)
	if len(waiting) == 0 {
		return
	}
	if !o.asked {
		l.openRing()
	}
	if o.ring == nil {
		for _, s := range waiting {
			s.noteSent(s.push(s.pending))
		}
		return
	}
	for _, s := range waiting {
		o.ring.Add(s.fd, s.pending)
	}
	sends, err := o.ring.Submit()
	for i, s := range waiting {
		if w := &sends[i]; w.Errno == unix.EINTR {
			s.noteSent(s.push(s.pending))
		} else {
			s.noteSent(s.pushed(w.N, len(s.pending), w.Errno))
		}
	}
	if err != nil {
		l.e.conns().gate.log.Warn("event loop sends without io_uring from now on", "err", err)
		o.ring.Close()
		o.ring = nil
	}
}

// openRing opens the ring, if there can be one.
func (l *httpLoop) openRing() {
	l.box.asked = true
	r, err := reactor.NewRing()
	if err != nil {
		l.e.conns().gate.log.Debug("event loop sends without io_uring", "err", err)
		return
	}
	l.box.ring = r
}

// noteSent notes how sending went. What is left of pending must not stay in the outbox.
func (s *sock) noteSent(n int, errno unix.Errno) {
	s.due, s.sent, s.unsent = dueDone, n, errno
	if s.pending = s.pending[n:]; len(s.pending) > 0 {
		s.pending = slices.Clone(s.pending)
	} else {
		s.pending = nil
	}
}

// takeSent tells how sending went.
func (s *sock) takeSent() (int, unix.Errno) {
	n, errno := s.sent, s.unsent
	s.due, s.sent, s.unsent = dueNever, 0, 0
	return n, errno
}

// settle sends what waits, now.
func (s *sock) settle() {
	if s.due == dueSoon {
		s.noteSent(s.push(s.pending))
	}
	s.due = dueNever
}
