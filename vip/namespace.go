package vip

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/havip/havip/internal/quietlog"
)

// Namespace is the set of sockets through which Managers work in one network namespace. It
// watches the kernel for them, and bounds the rate of their announcements. Close it after
// the last of its Managers.
type Namespace struct {
	kernel kernel
	log    *slog.Logger
	budget limiter
	ledger ledger
	marks  atomic.Bool    // the kernel keeps the marks of addresses
	wg     sync.WaitGroup // goroutines that watch and listen

	routing sync.Mutex // one route is added or removed at a time

	mu       sync.Mutex
	closed   bool
	managers []*Manager
	byAddr   map[netip.Addr][]*Manager
	asking   map[netip.Addr][]chan sighting // of probes that wait for answers
	settings map[settingKey]*changed
}

// OpenNamespace opens the sockets in the network namespace of the calling thread. To work
// in another namespace, lock the goroutine to its thread and enter the namespace before.
// Without CAP_NET_RAW the error wraps syscall.EPERM. A nil logger is silent.
func OpenNamespace(logger *slog.Logger) (*Namespace, error) {
	k, err := openKernel()
	if err != nil {
		return nil, err
	}
	n := newNamespace(k, logger)
	n.ledger = openLedger(ledgerDir)
	return n, nil
}

func newNamespace(k kernel, logger *slog.Logger) *Namespace {
	n := &Namespace{
		kernel:   k,
		log:      quietlog.New(logger),
		byAddr:   make(map[netip.Addr][]*Manager),
		asking:   make(map[netip.Addr][]chan sighting),
		settings: make(map[settingKey]*changed),
	}
	n.wg.Go(func() { receive(n, "watching addresses failed", k.watch, n.dispatch) })
	for _, next := range k.listeners() {
		n.wg.Go(func() { receive(n, "listening for other hosts failed", next, n.takeSighting) })
	}
	return n
}

// Close closes the sockets. Managers that are still running fail from then on, and
// cannot remove their addresses. It may be called more than once.
func (n *Namespace) Close() error {
	n.mu.Lock()
	again := n.closed
	n.closed = true
	n.mu.Unlock()
	if !again {
		n.kernel.close()
		n.wg.Wait()
	}
	return nil
}

// watchPause keeps a watcher that fails for good from spinning.
const watchPause = 100 * time.Millisecond

// receive passes what next returns to handle, until Close. failed is what is logged of an
// error.
func receive[T any](n *Namespace, failed string, next func() (T, error), handle func(T)) {
	for {
		got, err := next()
		if errors.Is(err, ErrClosed) {
			return
		}
		if err != nil {
			n.log.Warn(failed, "err", err)
			time.Sleep(watchPause)
		}
		handle(got)
	}
}

// takeSighting passes a sighting on to the Managers and to those who ask.
func (n *Namespace) takeSighting(s sighting) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range n.byAddr[s.addr] {
		m.takeSighting(s)
	}
	for _, answers := range n.asking[s.addr] {
		select {
		case answers <- s:
		default: // the queue is full: one of those in it will do
		}
	}
}

// dispatch wakes the Managers that changes may concern. A Manager is not woken for what
// Managers do themselves: hundreds of them, with a renewal each, would keep one another
// awake.
func (n *Namespace) dispatch(changes []change) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range changes {
		switch c.kind {
		case addressAdded, addressRemoved:
			if c.mark {
				n.marks.Store(true)
			}
			// Another program has replaced an address that is held: the mark is gone.
			stolen := c.kind == addressAdded && !c.mark && n.marks.Load()
			for _, m := range n.byAddr[c.addr] {
				if stolen || m.faults.some.Load() || m.holds.Load() == (c.kind == addressRemoved) {
					m.disturb()
				}
			}
			if len(n.byAddr[c.addr]) > 0 {
				continue
			}
			// One of the host's own, which a gateway may depend on. An address that
			// IPv6 gives an interface by itself is the only event of a change of
			// net.ipv6.conf.*.disable_ipv6.
			n.disturb(func(m *Manager) bool { return !m.holds.Load() && m.uses(c.index) })
		case linkChanged:
			n.disturb(func(m *Manager) bool { return slices.Contains(m.interfaces(), c.name) || m.uses(c.index) })
		case routeRemoved:
			n.disturb(func(m *Manager) bool { return len(m.cfg.Routes) > 0 && m.holds.Load() })
		case overrun:
			n.log.Debug("notifications were lost, looking at everything again")
			n.disturb(func(*Manager) bool { return true })
		}
	}
}

// disturb makes the Managers that a change concerns look at the kernel's state. Called with n.mu
// held.
func (n *Namespace) disturb(concerns func(*Manager) bool) {
	for _, m := range n.managers {
		if concerns(m) {
			m.disturb()
		}
	}
}

// join makes the Namespace tell m of events, with the configuration that change sets: the
// Namespace reads no other, and none while it changes.
func (n *Namespace) join(m *Manager, change func()) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dismiss(m)
	change()
	if n.closed {
		return fmt.Errorf("namespace: %w", ErrClosed)
	}
	n.managers = append(n.managers, m)
	for _, a := range m.all().addresses {
		addr := a.Prefix.Addr()
		n.byAddr[addr] = append(n.byAddr[addr], m)
	}
	return nil
}

// leave undoes join.
func (n *Namespace) leave(m *Manager) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dismiss(m)
}

// dismiss is leave. Called with n.mu held.
func (n *Namespace) dismiss(m *Manager) {
	n.managers = slices.DeleteFunc(n.managers, func(o *Manager) bool { return o == m })
	for _, a := range m.all().addresses {
		removeFrom(n.byAddr, a.Prefix.Addr(), m)
	}
}

// Virtual reports whether an address is a virtual one, which a Manager adds and removes, or
// would. Nothing should be sent from such an address on behalf of the host, even if the
// host has it for another reason, unless the host is the owner. See vrrp's
// ListenConfig.Virtual.
func (n *Namespace) Virtual(addr netip.Addr) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.ContainsFunc(n.byAddr[addr], func(m *Manager) bool { return !m.cfg.Owner || !m.ownedByHost(addr) })
}

// comesAndGoes reports whether an address is one that a Manager adds and removes.
func (n *Namespace) comesAndGoes(addr netip.Addr) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.ContainsFunc(n.byAddr[addr], func(m *Manager) bool { return !m.ownedByHost(addr) })
}

// promises reports whether an address of some Manager makes gateway a neighbour on an
// interface once the address is held. Else two Managers could wait for each other.
func (n *Namespace) promises(ifname string, gateway netip.Addr) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.ContainsFunc(n.managers, func(m *Manager) bool {
		return slices.ContainsFunc(m.cfg.Addresses, func(a Address) bool {
			return a.Interface == ifname && a.Prefix.Contains(gateway)
		})
	})
}

// putRoute adds a route. anew has the addresses that were put just now.
func (n *Namespace) putRoute(r Route, index int, anew []assigned) error {
	n.routing.Lock()
	defer n.routing.Unlock()
	if r.Source.Is6() && slices.ContainsFunc(anew, func(a assigned) bool { return a.prefix.Addr() == r.Source }) {
		// When an address goes, IPv6 keeps routes with that source, without the
		// source, and takes such a route for the same as the one with it.
		if err := n.kernel.removeRoute(r, index); err != nil {
			return err
		}
	}
	return n.kernel.putRoute(r, index)
}

// removeRoute removes a route that m no longer holds, unless another Manager holds it.
func (n *Namespace) removeRoute(m *Manager, r Route, index int) error {
	n.routing.Lock()
	defer n.routing.Unlock()
	if n.othersHold(m, r, index) {
		return nil
	}
	return n.kernel.removeRoute(r, index)
}

// othersHold reports whether a Manager other than m holds a route, or is about to add it.
func (n *Namespace) othersHold(m *Manager, r Route, index int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.ContainsFunc(n.managers, func(o *Manager) bool {
		links := *o.published.Load()
		same := func(p Route) bool { // the interface may have another name for o
			there := links[p.Interface].index == index
			p.Interface, p.Optional = r.Interface, r.Optional
			return there && p == r
		}
		return o != m && o.holds.Load() && slices.ContainsFunc(o.cfg.Routes, same)
	})
}

// question is an address to ask for, and the interface to ask by.
type question struct {
	addr netip.Addr
	link link
}

// probe asks the link twice, during d, whether another host has one of the addresses or
// is about to take it (RFC 5227 §2.1.1). Only answers in the second half count: when
// addresses move, the previous holder may be a moment late in releasing them.
func (n *Namespace) probe(ctx context.Context, questions []question, d time.Duration) error {
	if err := n.ask(questions); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d / 2):
	}
	half, cancel := context.WithTimeout(ctx, d/2)
	defer cancel()
	q, mac, err := n.findHolder(half, questions)
	if err == nil && q.addr.IsValid() {
		err = fmt.Errorf("vip: %s: %v is at %v: %w", q.link.name, q.addr, mac, ErrInUse)
	}
	return cmp.Or(err, ctx.Err())
}

// HardwareAddr asks the link on Config.Interface, until ctx ends, which host has an address
// that is not held here. nil: no host has answered. A Router of package vrrp calls it, for
// its log, on the Manager that is its Handler.
func (m *Manager) HardwareAddr(ctx context.Context, addr netip.Addr) net.HardwareAddr {
	m.mu.Lock()
	l, ok := m.links[m.cfg.Interface]
	m.mu.Unlock()
	if !ok || !l.ethernet || ctx == nil {
		return nil
	}
	_, mac, _ := m.ns.findHolder(ctx, []question{{addr.WithZone(""), l}})
	return mac
}

// findHolder asks the link for the addresses until another host answers or ctx ends. It
// returns the question that was answered, and the host's hardware address, if it said.
func (n *Namespace) findHolder(ctx context.Context, questions []question) (answered question, mac net.HardwareAddr, err error) {
	answers := make(chan sighting, 16)
	n.mu.Lock()
	for _, q := range questions {
		n.asking[q.addr] = append(n.asking[q.addr], answers)
	}
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, q := range questions {
			removeFrom(n.asking, q.addr, answers)
		}
	}()
	if err := n.ask(questions); err != nil {
		return question{}, nil, err
	}
	for {
		select {
		case <-ctx.Done():
			return question{}, nil, nil
		case s := <-answers:
			for _, q := range questions {
				if q.addr == s.addr && q.link.index == s.index && !bytes.Equal(s.mac, q.link.mac) {
					return q, s.mac, nil
				}
			}
		}
	}
}

// removeFrom removes v from the list of a key, and the key with its last value.
func removeFrom[K, V comparable](lists map[K][]V, key K, v V) {
	left := slices.DeleteFunc(lists[key], func(o V) bool { return o == v })
	if lists[key] = left; len(left) == 0 {
		delete(lists, key)
	}
}

// ask sends one probe for each address.
func (n *Namespace) ask(questions []question) error {
	for _, q := range questions {
		if err := n.kernel.send(q.link.index, probeFrame(q.addr, q.link.mac)); err != nil {
			return err
		}
	}
	return nil
}
