package lb

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/havip/havip/lb/internal/proxyproto"
	"github.com/havip/havip/lb/internal/sni"
)

// origin is what is known of a connection before its backend is chosen.
type origin struct {
	client netip.AddrPort // from the PROXY header, if there is one
	local  netip.AddrPort // the address that the client connected to
	pool   *Pool
	known  bool // all of this has been found out
}

// preface is what comes before the data of a connection: a PROXY header, and the
// ClientHello, which names the server.
type preface struct {
	routes  routes
	proxies []netip.Prefix // who must send a PROXY header
	sniff   bool           // the ClientHello tells the pool
	timeout time.Duration
}

// wantsProxy reports whether peer must send a PROXY header. Others may not: what
// looks like one is then ordinary data.
func (p *preface) wantsProxy(peer netip.Addr) bool { return containsAddr(p.proxies, peer) }

// containsAddr reports whether one of the prefixes holds a. A link-local address comes
// with its zone, which a prefix cannot have.
func containsAddr(prefixes []netip.Prefix, a netip.Addr) bool {
	a = a.WithZone("")
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// parse reads what b, the beginning of a connection, says about it. n is how much
// of b was the PROXY header or, with io.ErrUnexpectedEOF, how much of the
// beginning there must be at least before another attempt makes sense.
func (p *preface) parse(b []byte, o *origin, proxied bool) (n int, err error) {
	if proxied {
		var h proxyproto.Header
		if h, n, err = proxyproto.Parse(b); err != nil {
			return len(b) + 1, err
		}
		if h.Source.IsValid() {
			o.client, o.local = h.Source, h.Destination
		}
	}
	o.pool = p.routes.pool
	if !p.sniff {
		return n, nil
	}
	name, need, err := sni.ServerName(b[n:])
	if err == io.ErrUnexpectedEOF {
		return n + need, err
	}
	// What is no TLS goes where TLS without a name goes.
	o.pool, err = p.routes.find(name)
	return n, err
}

// readFrom does for a net.Conn what the event loop does for its own. The returned
// bytes belong to the backend.
func (p *preface) readFrom(c net.Conn, o *origin) ([]byte, error) {
	proxied := p.wantsProxy(o.client.Addr())
	if !proxied && !p.sniff {
		o.pool = p.routes.pool
		return nil, nil
	}
	_ = c.SetReadDeadline(time.Now().Add(p.timeout))
	var b []byte
	for {
		n, err := p.parse(b, o, proxied)
		if err == nil {
			_ = c.SetReadDeadline(time.Time{})
			return b[n:], nil
		}
		if err != io.ErrUnexpectedEOF {
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

// routes finds the pool of a connection by the server name that its client wants.
type routes struct {
	pool  *Pool // for all other names; nil: none
	names map[string]*Pool
}

// find returns the pool of a name: its own, that of a wildcard for its last labels,
// or the default one.
func (r *routes) find(name string) (*Pool, error) {
	if p, ok := lookUpName(r.names, name); ok {
		return p, nil
	}
	if r.pool == nil {
		return nil, fmt.Errorf("no route for server name %q", name)
	}
	return r.pool, nil
}

// lookUpName returns what a server name has in names: its own, or that of a wildcard for
// its last labels.
func lookUpName[V any](names map[string]V, name string) (v V, ok bool) {
	v, ok = names[name]
	if _, parent, dot := strings.Cut(name, "."); !ok && dot {
		v, ok = names["*."+parent]
	}
	return v, ok
}

// addrPort is the IP address and port of a; zero if it has none.
func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}
