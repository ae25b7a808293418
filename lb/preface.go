package lb

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// prefaceMax bounds what a client may send before its backend is chosen.
const prefaceMax = proxyV2Max + 6*(helloMax+4)

// origin is what is known of a connection before its backend is chosen.
type origin struct {
	client netip.AddrPort // From the PROXY header, if there is one.
	local  netip.AddrPort // The address that the client connected to.
	pool   *Pool
	known  bool // All of this has been found out.
}

// wantsProxy tells whether peer must send a PROXY header. Others may not: what
// looks like one is then ordinary data.
func (t *TCP) wantsProxy(peer netip.Addr) bool {
	return slices.ContainsFunc(t.AcceptProxy, func(p netip.Prefix) bool { return p.Contains(peer) })
}

// preface reads what b, the beginning of a connection, says about it. errShort
// asks for more; n is how much of b was the PROXY header.
func (t *TCP) preface(b []byte, o *origin, proxied bool) (n int, err error) {
	if proxied {
		var h proxyHeader
		if h, n, err = parseProxy(b); err != nil {
			return 0, err
		}
		if h.src.IsValid() {
			o.client, o.local = h.src, h.dst
		}
	}
	o.pool = t.Pool
	if len(t.Routes) == 0 || t.TLS != nil {
		return n, nil
	}
	name, err := serverName(b[n:])
	if errors.Is(err, errShort) && len(b) < prefaceMax {
		return 0, err
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
		if !errors.Is(err, errShort) {
			return nil, err
		}
		b = slices.Grow(b, 2048)
		k, err := c.Read(b[len(b):cap(b)])
		if err != nil {
			return nil, fmt.Errorf("before the connection's beginning was complete: %w", err)
		}
		b = b[:len(b)+k]
	}
}
