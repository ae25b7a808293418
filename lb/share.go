package lb

import "sync"

// share bounds the sockets that all UDP planes of this process have together: a session
// costs a client a single datagram, whose sender may be invented, so floods of several
// services must not leave the process without descriptors, nor a flood of one service the
// others without ports. When all are in use, the plane that has most gives way.
type share struct {
	mu    sync.Mutex // guards what follows, and what holders count
	limit int
	total int // of all holders
	all   map[*holder]struct{}
}

// holder is a plane's part of a share.
type holder struct {
	share   *share
	held    int
	owed    int    // sockets that the plane still has, though another plane holds their places
	reclaim func() // has the plane give back what it owes; it must not wait
}

// join returns the part of another plane. limit is for all planes from now on.
func (s *share) join(limit int, reclaim func()) *holder {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make(map[*holder]struct{})
	}
	h := &holder{share: s, reclaim: reclaim}
	s.limit = max(limit, 1)
	s.all[h] = struct{}{}
	return h
}

// leave ends the part of a plane that has no socket any more.
func (h *holder) leave() {
	h.share.mu.Lock()
	defer h.share.mu.Unlock()
	delete(h.share.all, h)
}

// take reports whether the plane may have another socket. If not, the plane itself must
// close one first.
func (h *holder) take() bool {
	s := h.share
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.total >= s.limit {
		most := h
		for other := range s.all {
			if other.held > most.held {
				most = other
			}
		}
		if most == h {
			return false
		}
		most.held--
		most.owed++
		s.total--
		most.reclaim()
	}
	h.held++
	s.total++
	return true
}

// give returns a socket that the plane has closed.
func (h *holder) give() {
	s := h.share
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.owed > 0 {
		h.owed--
		return
	}
	h.held--
	s.total--
}

// owes reports whether the plane has sockets whose places another plane holds.
func (h *holder) owes() bool {
	h.share.mu.Lock()
	defer h.share.mu.Unlock()
	return h.owed > 0
}
