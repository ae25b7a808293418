package lb

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// origin is what is known of a connection before its backend is chosen.
type origin struct {
	client netip.AddrPort // From the PROXY header, if there is one.
	local  netip.AddrPort // The address that the client connected to.
	pool   *Pool
	known  bool // All of this has been found out.
}

// wantsProxy tells whether peer must send a PROXY header. Others may not: what
// looks like one is then ordinary data.
func (t *TCP) wantsProxy(peer netip.Addr) bool { return containsAddr(t.AcceptProxy, peer) }

// containsAddr reports whether one of the prefixes holds a. A link-local address comes with
// its zone, which a prefix cannot have.
func containsAddr(prefixes []netip.Prefix, a netip.Addr) bool {
	a = a.WithZone("")
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// preface reads what b, the beginning of a connection, says about it. n is how much
// of b was the PROXY header or, with errShort, how much of the beginning there
// must be at least before it makes sense to ask again.
func (t *TCP) preface(b []byte, o *origin, proxied bool) (n int, err error) {
	if proxied {
		var h proxyHeader
		if h, n, err = parseProxy(b); err != nil {
			return len(b) + 1, err
		}
		if h.src.IsValid() {
			o.client, o.local = h.src, h.dst
		}
	}
	o.pool = t.Pool
	if len(t.Routes) == 0 || t.TLS != nil {
		return n, nil
	}
	name, need, err := serverName(b[n:])
	if err == errShort {
		return n + need, err
	}
	// What is no TLS goes where TLS without a name goes.
	o.pool = t.route(name)
	if o.pool == nil {
		return 0, fmt.Errorf("no route for server name %q", name)
	}
	return n, nil
}

// route is the pool for a server name: its own, that of a wildcard for its last
// labels, or the default one, which may be nil.
func (t *TCP) route(name string) *Pool {
	if p := t.Routes[name]; p != nil {
		return p
	}
	if _, parent, ok := strings.Cut(name, "."); ok {
		if p := t.Routes["*."+parent]; p != nil {
			return p
		}
	}
	return t.Pool
}

// readPreface does for a net.Conn what the event loop does for its own. The
// returned bytes belong to the backend.
func (t *TCP) readPreface(c net.Conn, o *origin) ([]byte, error) {
	proxied := t.wantsProxy(o.client.Addr())
	if !proxied && (len(t.Routes) == 0 || t.TLS != nil) {
		o.pool = t.Pool
		return nil, nil
	}
	_ = c.SetReadDeadline(time.Now().Add(t.PrefaceTimeout))
	var b []byte
	for {
		n, err := t.preface(b, o, proxied)
		if err == nil {
			_ = c.SetReadDeadline(time.Time{})
			return b[n:], nil
		}
		if err != errShort {
			return nil, err
		}
		for len(b) < n {
			b = slices.Grow(b, 2048)
			k, err := c.Read(b[len(b):cap(b)])
			if err != nil {
				return nil, fmt.Errorf("before the connection's beginning was complete: %w", err)
			}
			b = b[:len(b)+k]
		}
	}
}
