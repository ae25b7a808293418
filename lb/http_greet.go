package lb

import (
	"slices"
	"time"

	"github.com/havip/havip/internal/proxyproto"
)

// Where backends get a PROXY header, a connection to a backend is about one connection of a
// client: the header says so once, for all requests that come on it. So other clients do not
// get it, and it ends with the client's. Which backend a request goes to is the balancer's to
// say, all the same: it is the connection that belongs to the client, not the client to it.

const (
	// maxOwned is how many connections to backends are kept for a connection of a client, and
	// to how many destinations. Each is a descriptor here and at the backend.
	maxOwned = 16
	// ownedFor is how long they are kept without a request: nobody else can use them.
	ownedFor = 10 * time.Second
)

// header returns the PROXY header of a version about the connection; empty: there is none.
// Of an origin that is not known the header says just that.
func (o *requestOrigin) header(version ProxyVersion) string {
	if version == ProxyNone {
		return ""
	}
	if o.headerOf != version {
		o.headerText, o.headerOf = string(proxyproto.Append(nil, int(version), o.client, o.local)), version
	}
	return o.headerText
}

// destination returns which connections the request may use.
func (x *exchange) destination() destination {
	to := x.cfg.destinationOf(x.pick)
	to.header = x.from.header(x.cfg.SendProxy)
	return to
}

// destination is that of the exchange, and says whose the connections are.
func (x *handling) destination() destination {
	to := x.exchange.destination()
	if to.header != "" {
		to.owner = x.owner
	}
	return to
}

// greeting is what a connection begins with, for [dialer.connect]; nil: nothing.
func (d *destination) greeting() []byte {
	if d.header == "" {
		return nil
	}
	return []byte(d.header)
}

// strange reports whether connections belong to a client that is not known: none is kept.
func (d *destination) strange() bool { return d.header != "" && d.owner == nil }

// owned is where connections lead that belong to a client's.
type owned struct {
	among interface{ drop(destination) } // idleConns or sharedConns
	to    destination
}

// owns notes that connections belong to o: they are dropped at its end. It reports whether
// they may be kept until then. Those of a destination that has not been noted for longest make
// room. o.mu is held.
func (o *clientConn) owns(of owned) bool {
	switch {
	case o.ended:
		return false
	case slices.Contains(o.owned, of):
		return true
	case len(o.owned) == maxOwned:
		o.owned[0].among.drop(o.owned[0].to)
		o.owned = slices.Delete(o.owned, 0, 1)
	}
	o.owned = append(o.owned, of)
	return true
}

// keepOwned keeps a connection that began with a header about o. It closes the connection if
// nobody knows the client, o is nil then, or the client has left.
func (o *clientConn) keepOwned(i *idleConns, u *upstream) {
	if o == nil {
		u.Close()
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.owns(owned{i, u.to}) {
		u.Close()
		return
	}
	o.makeRoom()
	i.keepConn(u)
}

// makeRoom closes idle connections that belong to o until one more may be kept: those first whose
// last use was first. o.mu is held.
func (o *clientConn) makeRoom() {
	for {
		var oldest *upstream
		var since time.Time
		var from *idleConns
		kept := 0
		for _, of := range o.owned {
			i, ok := of.among.(*idleConns)
			if !ok {
				continue
			}
			u, used, n := i.oldest(of.to)
			if kept += n; n > 0 && (oldest == nil || used.Before(since)) {
				oldest, since, from = u, used, i
			}
		}
		if kept < maxOwned {
			return
		}
		if from.removeConn(oldest) {
			oldest.Close()
		}
	}
}

// keepShared has a connection of HTTP/2 end with o, or as soon as it has no streams if o has
// ended.
func (o *clientConn) keepShared(c *sharedConns, conn *sharedConn, to destination) {
	o.mu.Lock()
	stays := o.owns(owned{c, to})
	o.mu.Unlock()
	if !stays {
		conn.Retire()
	}
}

// drop ends the connections to a destination, as soon as they have no streams.
func (c *sharedConns) drop(to destination) {
	c.retire(func(other destination, _ *sharedConn) bool { return other == to })
}
