package lb

import (
	"slices"
	"time"
)

// keptConns are connections to backends that are idle, in the order of their last use: those
// to a server, most of which have the same destination, or those of one client.
type keptConns struct {
	conns  []*backendConn
	server *server // nil: of a client
}

// take returns a connection that has not been idle for longer than limit; nil if there is
// none. once: the request is sent once only, so nothing may have come yet.
func (k *keptConns) take(to destination, limit time.Duration, once bool) *backendConn {
	if k == nil {
		return nil
	}
	for i := len(k.conns) - 1; i >= 0; i-- { // first what was used last
		b := k.conns[i]
		if b.l.Now()-b.since > int64(limit) {
			return nil
		}
		if b.to != to {
			continue
		}
		k.conns = slices.Delete(k.conns, i, i+1) // an empty list stays: it soon has b again
		b.home = nil
		if b.ending || b.broken || once && b.hasUnread() {
			b.l.timers.Stop(&b.timer)
			b.close()
			continue
		}
		return b
	}
	return nil
}

// takeIdle is take for connections that belong to no client.
func (l *httpLoop) takeIdle(to destination, limit time.Duration, once bool) *backendConn {
	return l.idle[to.server].take(to, limit, once)
}

// keepIdle keeps a connection whose response has been read to its end, for anybody.
func (l *httpLoop) keepIdle(b *backendConn) {
	kept := l.idle[b.to.server]
	if !b.rest(kept, maxIdle) {
		return
	}
	if kept == nil {
		kept = &keptConns{server: b.to.server}
		l.idle[b.to.server] = kept
	}
	kept.add(b)
}

// keepOwned keeps one that began with a header about the client of c, for c alone. What was
// used least lately makes room.
func (c *httpConn) keepOwned(b *backendConn) {
	if c.owned == nil {
		c.owned = new(keptConns)
	}
	for len(c.owned.conns) >= maxOwned {
		c.owned.conns[0].drop()
	}
	if !b.rest(c.owned, maxOwned) {
		return
	}
	if c.l.owned == nil {
		c.l.owned = make(map[*keptConns]struct{})
	}
	c.l.owned[c.owned] = struct{}{}
	c.owned.add(b)
}

// rest makes b idle, or closes it if it cannot be kept beside those of kept, which may be nil.
func (b *backendConn) rest(kept *keptConns, most int) bool {
	l := b.l
	b.user, b.in, b.state, b.since = nil, nil, backendIdle, l.Now()
	if b.ending || b.broken || l.closing || kept != nil && len(kept.conns) >= most || b.readable && b.spoilt() {
		l.timers.Stop(&b.timer)
		b.close()
		l.forgetEmpty(b.to.server)
		return false
	}
	return true
}

// add adds a connection that is idle.
func (k *keptConns) add(b *backendConn) {
	k.conns = append(k.conns, b)
	b.home = k
	if k.server == nil {
		b.armTimer(ownedFor)
	} else {
		b.armTimer(idleFor)
	}
}

// forgetIdle takes b out of its list.
func (l *httpLoop) forgetIdle(b *backendConn) {
	kept := b.home
	if kept == nil {
		return // it is authenticated for a client
	}
	b.home = nil
	if i := slices.Index(kept.conns, b); i >= 0 {
		kept.conns = slices.Delete(kept.conns, i, i+1)
	}
	if len(kept.conns) == 0 {
		l.forgetKept(kept)
	}
}

// forgetEmpty forgets the list of a server if nothing is in it: take leaves an empty one for the
// connection that is in use, and that may not come back.
func (l *httpLoop) forgetEmpty(s *server) {
	if kept := l.idle[s]; kept != nil && len(kept.conns) == 0 {
		delete(l.idle, s)
	}
}

// forgetKept forgets a list.
func (l *httpLoop) forgetKept(kept *keptConns) {
	if kept.server != nil {
		delete(l.idle, kept.server)
	} else {
		delete(l.owned, kept)
	}
}

// dropIdle closes the idle connections to servers, and reports whether there were any.
func (l *httpLoop) dropIdle(gone servers) (found bool) {
	for server, kept := range l.idle {
		if gone.has(server) {
			found = kept.drop(gone) || found
			l.forgetEmpty(server)
		}
	}
	for kept := range l.owned {
		found = kept.drop(gone) || found
	}
	return found
}

// drop closes the connections to servers, and reports whether there were any.
func (k *keptConns) drop(gone servers) (found bool) {
	for _, b := range slices.Clone(k.conns) {
		if gone.has(b.to.server) {
			b.drop()
			found = true
		}
	}
	return found
}
