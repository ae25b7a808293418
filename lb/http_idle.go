package lb

import (
	"slices"
	"sync"
	"time"
)

const (
	// idleFor is how long a connection to a backend is kept without a request, if it does
	// not belong to a client.
	idleFor = 30 * time.Second
	// freshFor is how long a connection may have been idle that is used for a request
	// which cannot be repeated: after a longer time the backend may be closing it.
	freshFor = time.Second
	// maxIdle is how many connections are kept for each destination.
	maxIdle = 1024
)

// idleConns are the connections to backends that wait for a request.
type idleConns struct {
	mu     sync.Mutex
	conns  map[destination][]*upstream // in the order of their last use
	closed bool
}

// takeConn returns a connection that has not been idle for longer than limit; nil if
// there is none.
func (i *idleConns) takeConn(to destination, limit time.Duration) *upstream {
	for {
		u := i.popConn(to, limit)
		if u == nil {
			return nil
		}
		_ = u.SetReadDeadline(time.Unix(1, 0)) // ends watchConn
		<-u.parked
		if u.intact && u.SetReadDeadline(time.Time{}) == nil {
			return u
		}
		u.Close()
	}
}

// popConn takes the connection that was used last out of the list.
func (i *idleConns) popConn(to destination, limit time.Duration) *upstream {
	i.mu.Lock()
	defer i.mu.Unlock()
	l := i.conns[to]
	if len(l) == 0 || time.Since(l[len(l)-1].since) > limit {
		return nil
	}
	u := l[len(l)-1]
	i.setConns(to, l[:len(l)-1])
	return u
}

// keepConn keeps u, whose response has been read to its end.
func (i *idleConns) keepConn(u *upstream) {
	u.since, u.intact, u.parked = time.Now(), false, make(chan struct{})
	u.headerLeft = -1
	u.sent.Store(false)
	until := u.since.Add(idleFor)
	switch {
	case u.to.login:
		until = time.Time{} // as long as the client
	case u.to.owner != nil:
		until = u.since.Add(ownedFor)
	}
	_ = u.SetReadDeadline(until)
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed || len(i.conns[u.to]) >= maxIdle {
		u.Close()
		return
	}
	if i.conns == nil {
		i.conns = make(map[destination][]*upstream)
	}
	i.conns[u.to] = append(i.conns[u.to], u)
	go i.watchConn(u)
}

// oldest returns the connection to a destination whose last use was first, when that was, and how
// many there are.
func (i *idleConns) oldest(to destination) (u *upstream, since time.Time, n int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	l := i.conns[to]
	if len(l) == 0 {
		return nil, time.Time{}, 0
	}
	return l[0], l[0].since, len(l)
}

// watchConn waits until an idle connection ends, has been idle for too long, is taken, or
// brings bytes that belong to no request. A request must not take such bytes for its
// response.
func (i *idleConns) watchConn(u *upstream) {
	_, err := u.r.Peek(1)
	u.intact = isTimeout(err)
	if i.removeConn(u) {
		u.Conn.Close()
	}
	close(u.parked)
}

// removeConn takes u out of its list, and reports whether u was there.
func (i *idleConns) removeConn(u *upstream) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	l := i.conns[u.to]
	at := slices.Index(l, u)
	if at >= 0 {
		i.setConns(u.to, slices.Delete(l, at, at+1))
	}
	return at >= 0
}

// setConns replaces the list of a destination. i.mu is held.
func (i *idleConns) setConns(to destination, l []*upstream) {
	if len(l) == 0 {
		delete(i.conns, to)
		return
	}
	i.conns[to] = l
}

// isClosed reports whether no connection is kept any more.
func (i *idleConns) isClosed() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.closed
}

// drop closes the connections to a destination.
func (i *idleConns) drop(to destination) {
	i.mu.Lock()
	defer i.mu.Unlock()
	closeIdle(i.conns[to])
}

// giveWay closes the connections that may be made anew for any request, and reports
// whether there are any: this host is out of descriptors. It does not wait.
func (i *idleConns) giveWay() (any bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for to, l := range i.conns {
		if to.login {
			continue
		}
		for _, u := range l {
			u.Close()
			any = true
		}
	}
	return any
}

// closeIdle closes connections that are idle. It does not wait.
func closeIdle(l []*upstream) {
	for _, u := range l {
		_ = u.SetReadDeadline(time.Unix(1, 0)) // ends watchConn, which closes u
	}
}

// cut closes the connections to servers and, if these are all, later ones as soon as they
// are idle. It does not wait.
func (i *idleConns) cut(gone servers) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = i.closed || gone == nil
	for to, l := range i.conns {
		if gone.has(to.server) {
			closeIdle(l)
		}
	}
}
