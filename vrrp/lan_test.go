package vrrp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/havip/havip/internal/memlan"
)

// fakeLAN is a link in memory, for Conns in virtual time.
type fakeLAN struct {
	memlan.Link[Packet]
	start time.Time
	sent  []sentAdv // guarded by Mu
}

// sentAdv is an advertisement that was on the link.
type sentAdv struct {
	at       time.Duration // since the LAN was made
	source   netip.Addr
	vrid     uint8
	priority uint8
}

func newFakeLAN() *fakeLAN {
	l := &fakeLAN{start: time.Now()}
	l.Take = func(pkt Packet) Packet {
		vrid, _ := peekVRID(&pkt)
		data := pkt.Data
		if pkt.Protocol == protocolAH {
			data = skipAH(data)
		}
		l.sent = append(l.sent, sentAdv{l.now(), pkt.Source, vrid, data[2]})
		pkt.Header, pkt.Data = slices.Clone(pkt.Header), slices.Clone(pkt.Data)
		return pkt
	}
	l.Reaches = func(pkt Packet, to *memlan.Port[Packet]) bool {
		return pkt.Destination == groupIPv4 || pkt.Destination == groupIPv6 || pkt.Destination == to.Addr
	}
	return l
}

// now is the time since the LAN was made.
func (l *fakeLAN) now() time.Duration { return time.Since(l.start) }

// port plugs a socket in.
func (l *fakeLAN) port(addr netip.Addr, protocol uint8) *fakePort {
	return &fakePort{Port: l.Plug(addr, protocol), lan: l}
}

// from returns the advertisements of one sender.
func (l *fakeLAN) from(source netip.Addr) []sentAdv {
	l.Mu.Lock()
	defer l.Mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.sent), func(s sentAdv) bool { return s.source != source })
}

// cut pulls the cables of addr out, or puts them in again.
func (l *fakeLAN) cut(addr netip.Addr, out bool) {
	l.Each(addr, func(p *memlan.Port[Packet]) { p.Out = out })
}

// fakePort is a PacketConn on a fakeLAN that can join the group again.
type fakePort struct {
	*memlan.Port[Packet]
	lan *fakeLAN

	// Guarded by lan.Mu.
	joined int   // calls of rejoin
	fail   error // of rejoin
}

var (
	_ PacketConn = (*fakePort)(nil)
	_ rejoiner   = (*fakePort)(nil)
)

func (p *fakePort) rejoin() error {
	p.lan.Mu.Lock()
	defer p.lan.Mu.Unlock()
	p.joined++
	return p.fail
}

// fakeNetwork is an interface on a fakeLAN, with a link that can be changed.
type fakeNetwork struct {
	lan    *fakeLAN
	events chan linkEvent
	woken  chan struct{} // has room for one

	mu     sync.Mutex
	nif    netif
	opened []*fakePort
	fail   error // of openSocket
	looks  int   // calls of lookUp
}

func newFakeNetwork(lan *fakeLAN, addr netip.Addr) *fakeNetwork {
	return &fakeNetwork{lan: lan, events: make(chan linkEvent), woken: make(chan struct{}, 1), nif: netif{
		name: "eth0", index: 1, up: true, multicast: true, addrs: []ifaddr{{addr: addr}},
	}}
}

func (n *fakeNetwork) lookUp() (netif, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.looks++
	return n.nif, nil
}

func (n *fakeNetwork) waitEvent(concerns func(linkEvent) bool) (bool, error) {
	for {
		select {
		case <-n.woken:
			return true, nil
		case e, ok := <-n.events:
			if !ok {
				return false, net.ErrClosed
			}
			if concerns(e) {
				return e.gone, nil
			}
		}
	}
}

func (n *fakeNetwork) openSocket(nif *netif, protocol uint8) (PacketConn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fail != nil {
		return nil, n.fail
	}
	p := n.lan.port(nif.addrs[0].addr, protocol)
	n.opened = append(n.opened, p)
	return p, nil
}

// lookups returns the number of looks at the interface.
func (n *fakeNetwork) lookups() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.looks
}

func (n *fakeNetwork) openFrames(*netif) (packetWriter, error) { return nil, nil }

func (n *fakeNetwork) openOwners(*netif) (ownerReader, error) { return nil, nil }

func (n *fakeNetwork) reserveVRID(uint8) (io.Closer, error) { return nil, nil }

func (n *fakeNetwork) wake() {
	select {
	case n.woken <- struct{}{}:
	default:
	}
}

func (n *fakeNetwork) close() { close(n.events) }

// change changes the interface and tells the Conn with the event.
func (n *fakeNetwork) change(e linkEvent, f func(*netif)) {
	n.mu.Lock()
	n.nif.addrs = slices.Clone(n.nif.addrs)
	f(&n.nif)
	n.mu.Unlock()
	n.events <- e
	synctest.Wait()
}

// fakeHandler is a Handler that records what happens, and can be told to fail
// or to take its time.
type fakeHandler struct {
	lan *fakeLAN

	mu    sync.Mutex
	calls []string
	held  bool
	// during, if set, runs in each call.
	during func(ctx context.Context, call string) error
}

func (h *fakeHandler) call(ctx context.Context, name string) error {
	h.mu.Lock()
	h.calls = append(h.calls, fmt.Sprintf("%s %v", name, h.lan.now()))
	during := h.during
	h.mu.Unlock()
	var err error
	if during != nil {
		err = during(ctx, name)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err != nil:
		h.calls = append(h.calls, fmt.Sprintf("%s failed %v", name, h.lan.now()))
	case name == "acquire":
		h.held = true
	case name == "release":
		h.held = false
	}
	return err
}

func (h *fakeHandler) Acquire(ctx context.Context) error  { return h.call(ctx, "acquire") }
func (h *fakeHandler) Announce(ctx context.Context) error { return h.call(ctx, "announce") }
func (h *fakeHandler) Release(ctx context.Context) error  { return h.call(ctx, "release") }

func (h *fakeHandler) log() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.calls)
}

// node is a Router on a host of its own, running.
type node struct {
	*Router
	t       *testing.T
	addr    netip.Addr
	net     *fakeNetwork
	handler *fakeHandler
	stop    context.CancelFunc
	done    chan error

	mu          sync.Mutex
	transitions []Transition
}

// node starts a router at 192.0.2.host, or fe80::host for an IPv6 one. It is stopped
// at the end of the test.
func (l *fakeLAN) node(t *testing.T, host byte, cfg Config) *node {
	t.Helper()
	n := l.prepare(t, host, cfg)
	n.run()
	return n
}

// prepare makes a node that does not run yet.
func (l *fakeLAN) prepare(t *testing.T, host byte, cfg Config) *node {
	t.Helper()
	return l.prepareOn(t, host, cfg, func(*netif) {})
}

// prepareOn is prepare on an interface that is changed before anybody looks.
func (l *fakeLAN) prepareOn(t *testing.T, host byte, cfg Config, change func(*netif)) *node {
	t.Helper()
	n := &node{t: t, addr: netip.AddrFrom4([4]byte{192, 0, 2, host}), done: make(chan error, 1)}
	if cfg.VRID == 0 {
		cfg.VRID = 51
	}
	if cfg.Addresses == nil {
		cfg.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.250")}
	}
	v6 := cfg.family() == familyIPv6
	if v6 {
		n.addr = netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: host})
	}
	report := cfg.OnTransition
	cfg.OnTransition = func(tr Transition) {
		n.mu.Lock()
		n.transitions = append(n.transitions, tr)
		n.mu.Unlock()
		if report != nil {
			report(tr)
		}
	}
	n.net = newFakeNetwork(l, n.addr)
	change(&n.net.nif)
	conn, err := newConn(ListenConfig{Interface: "eth0", IPv6: v6, Logger: cfg.Logger}, n.net)
	if err != nil {
		t.Fatal(err)
	}
	n.handler = &fakeHandler{lan: l}
	if n.Router, err = NewRouter(cfg, conn, n.handler); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return n
}

func (n *node) run() {
	ctx, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	go func() { n.done <- n.Run(ctx) }()
	n.t.Cleanup(func() {
		cancel()
		if err := <-n.done; err != nil && !errors.Is(err, ErrClosed) {
			n.t.Errorf("Run: %v", err)
		}
	})
	synctest.Wait()
}

// reconfigure goes on with a configuration that is changed.
func (n *node) reconfigure(change func(*Config)) error {
	n.conn.mu.Lock()
	cfg := n.cfg
	n.conn.mu.Unlock()
	change(&cfg)
	return n.Reconfigure(cfg)
}

// port is the socket for protocol 112.
func (n *node) port() *fakePort {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	return n.net.opened[0]
}

// history returns the states entered so far, with their times.
func (n *node) history() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []string
	for _, tr := range n.transitions {
		list = append(list, fmt.Sprintf("%v %v: %v", tr.Time.Sub(n.handler.lan.start), tr.To, tr.Cause))
	}
	return list
}

// is checks the state after everything that happens now has happened.
func (n *node) is(want State) {
	n.t.Helper()
	synctest.Wait()
	if got := n.Status(); got.State != want {
		n.t.Errorf("%v at %v: state %v (fault %q), want %v", n.addr, n.handler.lan.now(), got.State, strings.Join(got.Faults, ", "), want)
	}
}
