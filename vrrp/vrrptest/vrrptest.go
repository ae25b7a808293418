// Package vrrptest is a link in memory for virtual routers in tests. No test needs
// root, a network or a second of real time: in a bubble of testing/synctest the
// timers of the protocol run in virtual time, to the nanosecond.
//
//	synctest.Test(t, func(t *testing.T) {
//		lan := vrrptest.NewLAN()
//		a, b := lan.Host("192.0.2.1"), lan.Host("192.0.2.2")
//		a.Start(t, vrrp.Config{VRID: 51, Priority: 120}, nil)
//		standby := b.Start(t, vrrp.Config{VRID: 51, Priority: 110}, nil)
//		time.Sleep(10 * time.Second)
//		a.Crash()
//		time.Sleep(4 * time.Second)
//		if s := standby.Status(); s.State != vrrp.Active {
//			t.Errorf("state %v, want Active", s.State)
//		}
//	})
package vrrptest

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/havip/havip/internal/memlan"
	"github.com/havip/havip/vrrp"
)

// LAN is a link that joins hosts. What one of them sends arrives at once, in order
// and without loss, unless Drop or a method of a Host changes that. Its methods, and
// those of its hosts, may be called from any goroutine.
type LAN struct {
	link memlan.Link[vrrp.Packet]
	drop func(p vrrp.Packet, to netip.Addr) bool // guarded by link.Mu
}

// NewLAN returns a link without hosts.
func NewLAN() *LAN {
	l := &LAN{}
	l.link.Take = func(p vrrp.Packet) vrrp.Packet {
		p.Header, p.Data = slices.Clone(p.Header), slices.Clone(p.Data)
		return p
	}
	l.link.Reaches = func(p vrrp.Packet, to *memlan.Port[vrrp.Packet]) bool {
		return (p.Destination.IsMulticast() || p.Destination == to.Addr) && (l.drop == nil || !l.drop(p, to.Addr))
	}
	return l
}

// Drop makes the LAN ask f, from the next packet on, whether a packet is lost on its way to
// a host. [vrrp.ParsePacket] reads the packet. f is called with a lock held: it must not
// use the LAN or a Router. Nil: no packet is lost.
func (l *LAN) Drop(f func(p vrrp.Packet, to netip.Addr) bool) {
	l.link.Mu.Lock()
	defer l.link.Mu.Unlock()
	l.drop = f
}

// Host adds a host with one address, such as "192.0.2.1", or "fe80::1" for routers of
// IPv6. It panics if addr is no address.
func (l *LAN) Host(addr string) *Host {
	return &Host{lan: l, addr: netip.MustParseAddr(addr)}
}

// Host is one host on a LAN.
type Host struct {
	lan  *LAN
	addr netip.Addr

	mu   sync.Mutex
	conn *vrrp.Conn // of Start; nil: there is none yet

	// Guarded by lan.link.Mu. They are for ports that come later, too.
	out, frozen bool
}

// Addr returns the host's address.
func (h *Host) Addr() netip.Addr { return h.addr }

// ListenConfig opens a [vrrp.Conn] on the host, for code that calls [vrrp.Listen]
// itself. Its routers need Addr as their Source.
func (h *Host) ListenConfig() vrrp.ListenConfig {
	return vrrp.ListenConfig{Interface: "lan", IPv6: h.addr.Is6(), Open: func(protocol uint8) (vrrp.PacketConn, error) {
		port := h.lan.link.Plug(h.addr, protocol)
		h.setPorts(func() {})
		return port, nil
	}}
}

// Start runs a router on the host until the test ends; its Source is the host's
// address unless cfg has another one. The router's Run has been called when
// [testing/synctest.Wait] returns. handler may be nil.
func (h *Host) Start(t testing.TB, cfg vrrp.Config, handler vrrp.Handler) *vrrp.Router {
	t.Helper()
	if !cfg.Source.IsValid() {
		cfg.Source = h.addr
	}
	router, err := vrrp.NewRouter(cfg, h.listen(t), handler)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := router.Run(ctx); err != nil {
			t.Errorf("vrrptest: %v", err)
		}
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	return router
}

// listen returns the Conn that the host's routers share.
func (h *Host) listen(t testing.TB) *vrrp.Conn {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conn == nil {
		conn, err := vrrp.Listen(h.ListenConfig())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		h.conn = conn
	}
	return h.conn
}

// Cut pulls the host's cable out: nothing leaves and nothing arrives. The host does
// not notice.
func (h *Host) Cut() { h.setPorts(func() { h.out = true }) }

// Join puts the cable in again.
func (h *Host) Join() { h.setPorts(func() { h.out = false }) }

// setPorts calls f and makes the host's ports follow its state.
func (h *Host) setPorts(f func()) {
	h.lan.link.Mu.Lock()
	f()
	h.lan.link.Mu.Unlock()
	h.lan.link.Each(h.addr, func(p *memlan.Port[vrrp.Packet]) { p.Out, p.Frozen = h.out, h.frozen })
}

// Freeze keeps the host's routers from running: they neither read what arrives nor
// look at their timers, as in a process that was stopped.
func (h *Host) Freeze() { h.setPorts(func() { h.frozen = true }) }

// Thaw ends Freeze: the routers find what has arrived meanwhile.
func (h *Host) Thaw() { h.setPorts(func() { h.frozen = false }) }

// Crash ends the host as a power failure does: it sends nothing more, not even priority 0.
// Its Handlers are called once more at the end of the test.
func (h *Host) Crash() {
	h.Cut()
	h.Freeze()
}
