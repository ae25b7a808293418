package lb

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/havip/havip/internal/proxyproto"
	"github.com/havip/havip/lb/internal/sni"
)

// origin is what is known of a connection before its backend is chosen.
type origin struct {
	client netip.AddrPort // from the PROXY header, if there is one
	local  netip.AddrPort // the address that the client connected to
	pool   *Pool
	known  bool // all of this has been found out
}

// wantsProxy reports whether peer must send a PROXY header. Others may not: what
// looks like one is then ordinary data.
func (cfg *tcpSettings) wantsProxy(peer netip.Addr) bool { return containsAddr(cfg.AcceptProxy, peer) }

// sniffs reports whether the ClientHello, which names the server, tells the pool.
func (cfg *tcpSettings) sniffs() bool { return len(cfg.Routes) > 0 && cfg.TLS == nil }

// containsAddr reports whether one of the prefixes holds a. A link-local address comes
// with its zone, which a prefix cannot have.
func containsAddr(prefixes []netip.Prefix, a netip.Addr) bool {
	a = a.WithZone("")
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// parseProxy reads the PROXY header at the beginning of b. n is the length of the header
// or, with an error, how much of the beginning there must be at least before another
// attempt makes sense.
func (o *origin) parseProxy(b []byte) (n int, err error) {
	h, n, err := proxyproto.Parse(b)
	if err != nil {
		return len(b) + 1, err
	}
	if h.Source.IsValid() {
		o.client, o.local = h.Source, h.Destination
	}
	return n, nil
}

// parsePreface reads what b, the beginning of a connection, says about the connection: a
// PROXY header if there is one, and the ClientHello if that tells the pool. n is as for
// parseProxy, and the error then io.ErrUnexpectedEOF.
func (cfg *tcpSettings) parsePreface(b []byte, o *origin, proxied bool) (n int, err error) {
	if proxied {
		if n, err = o.parseProxy(b); err != nil {
			return n, err
		}
	}
	o.pool = cfg.Pool
	if !cfg.sniffs() {
		return n, nil
	}
	name, need, err := sni.ServerName(b[n:])
	if err == io.ErrUnexpectedEOF {
		return n + need, err
	}
	// What is no TLS goes where TLS without a name goes.
	o.pool, err = cfg.route(name)
	return n, err
}

// readBeginning reads the beginning of a connection until parse is content, which returns
// what parsePreface does. The returned bytes come after what was parsed.
func readBeginning(c net.Conn, timeout time.Duration, parse func([]byte) (int, error)) ([]byte, error) {
	_ = c.SetReadDeadline(time.Now().Add(timeout))
	var b []byte
	for {
		n, err := parse(b)
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

// route returns the pool of a connection by the server name that its client wants: that
// of the name, that of a wildcard for its last labels, or the default one.
func (cfg *tcpSettings) route(name string) (*Pool, error) {
	if p, ok := lookUpName(cfg.Routes, name); ok {
		return p, nil
	}
	if cfg.Pool == nil {
		return nil, fmt.Errorf("no route for server name %q", name)
	}
	return cfg.Pool, nil
}

// lookUpName returns what a server name has in names: its own, or that of a wildcard for
// its last labels. The names there are in the form of foldName.
func lookUpName[V any](names map[string]V, name string) (v V, ok bool) {
	name = foldName(name)
	v, ok = names[name]
	if _, parent, dot := strings.Cut(name, "."); !ok && dot {
		v, ok = names["*."+parent]
	}
	return v, ok
}

// foldName returns the form in which server names are compared: case does not matter (RFC
// 6066 §3), nor does a dot at the end.
func foldName(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }
