package lb

import (
	"sync"
	"time"
)

const (
	// idleFor is how long a connection to a backend is kept without a request.
	idleFor = 30 * time.Second
	// freshFor is how long it may have been idle for a request that cannot be
	// repeated: a backend may be closing others at this very moment.
	freshFor = time.Second
	// maxIdle is how many are kept per backend.
	maxIdle = 1024
)

// idleConns are the connections to backends that wait for a request.
type idleConns struct {
	mu     sync.Mutex
	conns  map[destination][]*upstream // The one used last comes last.
	closed bool
}

// take returns a connection that has not been idle for longer than limit; nil if
// there is none.
func (i *idleConns) take(to destination, limit time.Duration) *upstream {
	for {
		u := i.last(to, limit)
		if u == nil {
			return nil
		}
		_ = u.SetReadDeadline(time.Unix(1, 0)) // Ends watch.
		<-u.parked
		if u.intact && u.SetReadDeadline(time.Time{}) == nil {
			return u
		}
		u.Close()
	}
}

func (i *idleConns) last(to destination, limit time.Duration) *upstream {
	i.mu.Lock()
	defer i.mu.Unlock()
	l := i.conns[to]
	if len(l) == 0 || time.Since(l[len(l)-1].since) > limit {
		return nil
	}
	u := l[len(l)-1]
	i.set(to, l[:len(l)-1])
	return u
}

// put keeps u, whose response has been read to its end.
func (i *idleConns) put(u *upstream) {
	u.kept, u.since, u.intact, u.parked = true, time.Now(), false, make(chan struct{})
	u.headerLeft = -1
	u.sent.Store(false)
	_ = u.SetReadDeadline(u.since.Add(idleFor))
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
	go i.watch(u)
}

// watch waits for what may come on an idle connection: its end, its time, and bytes
// that belong to no request. The next one must not take those for its response.
func (i *idleConns) watch(u *upstream) {
	_, err := u.r.Peek(1)
	u.intact = isTimeout(err)
	if i.remove(u) {
		u.Conn.Close()
	}
	close(u.parked)
}

// remove takes u out; false if someone else has.
func (i *idleConns) remove(u *upstream) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	l := i.conns[u.to]
	for at := len(l) - 1; at >= 0; at-- {
		if l[at] == u {
			i.set(u.to, append(l[:at], l[at+1:]...))
			return true
		}
	}
	return false
}

// set replaces the list of a destination. i.mu is held.
func (i *idleConns) set(to destination, l []*upstream) {
	if len(l) == 0 {
		delete(i.conns, to)
		return
	}
	i.conns[to] = l
}

// drop closes the connections to a server. It does not wait for anything.
func (i *idleConns) drop(server *server) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for to, l := range i.conns {
		if to.server == server {
			expire(l)
		}
	}
}

// close closes all connections, and keeps none any more.
func (i *idleConns) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = true
	for _, l := range i.conns {
		expire(l)
	}
}

// expire makes watch end, which closes the connections.
func expire(l []*upstream) {
	for _, u := range l {
		_ = u.SetReadDeadline(time.Unix(1, 0))
	}
}
