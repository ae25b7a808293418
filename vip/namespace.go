package vip

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/havip/havip/internal/quietlog"
)

// Namespace is the set of sockets through which Managers work in one network
// namespace. It watches the kernel for them and shares out the budget for
// announcements. It must be closed after the last of its Managers.
type Namespace struct {
	kernel kernel
	log    *slog.Logger
	budget limiter
	ledger ledger
	marks  atomic.Bool    // the kernel keeps the marks of addresses
	wg     sync.WaitGroup // goroutines that watch and listen

	routing sync.Mutex // one route is added or removed at a time
	routes  map[routeKey]map[*Manager]bool

	mu       sync.Mutex
	closed   bool
	managers []*Manager
	byAddr   map[netip.Addr][]*Manager
	asking   map[netip.Addr][]chan sighting // while somebody probes for an address
	settings map[settingKey]*changed
}

// OpenNamespace opens the sockets in the network namespace of the calling
// thread. A caller that has entered another one must have locked itself to its
// thread. Without CAP_NET_RAW the error wraps syscall.EPERM. A nil logger is
// silent.
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
		routes:   make(map[routeKey]map[*Manager]bool),
	}
	n.wg.Go(n.watch)
	for _, next := range k.listeners() {
		n.wg.Go(func() { n.listen(next) })
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
	if again {
		return nil
	}
	err := n.kernel.close()
	n.wg.Wait()
	return err
}

// watchPause keeps a watcher that fails for good from spinning.
const watchPause = 100 * time.Millisecond

// watch tells the Managers what happens in the kernel until it is closed.
func (n *Namespace) watch() {
	for {
		changes, err := n.kernel.watch()
		if errors.Is(err, ErrClosed) {
			return
		}
		if err != nil {
			n.log.Warn("watching addresses failed", "err", err)
			time.Sleep(watchPause)
		}
		for _, c := range changes {
			n.dispatch(c)
		}
	}
}

// listen tells the Managers which addresses other hosts claim.
func (n *Namespace) listen(next func() (sighting, error)) {
	for {
		s, err := next()
		if errors.Is(err, ErrClosed) {
			return
		}
		if err != nil {
			n.log.Warn("listening for other hosts failed", "err", err)
			time.Sleep(watchPause)
			continue
		}
		n.mu.Lock()
		for _, m := range n.byAddr[s.addr] {
			m.takeSighting(s)
		}
		for _, answers := range n.asking[s.addr] {
			offer(answers, s)
		}
		n.mu.Unlock()
	}
}

// dispatch hands a change to the Managers that it may concern. That they ignore
// what they caused themselves is what keeps hundreds of them, each renewing its
// leases, from waking one another.
func (n *Namespace) dispatch(c change) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch c.kind {
	case addressAdded, addressRemoved:
		if c.mark {
			n.marks.Store(true)
		}
		// An address that is held and loses its mark is another program's.
		stolen := c.kind == addressAdded && !c.mark && n.marks.Load()
		for _, m := range n.byAddr[c.addr] {
			if stolen || m.faults.some.Load() || m.holds.Load() == (c.kind == addressRemoved) {
				m.disturb()
			}
		}
		if len(n.byAddr[c.addr]) > 0 {
			return
		}
		// The host's own: a gateway may depend on it. One that IPv6 gives an
		// interface by itself is all that tells of net.ipv6.conf.*.disable_ipv6.
		for _, m := range n.managers {
			if !m.holds.Load() && slices.Contains(*m.indexes.Load(), c.index) {
				m.disturb()
			}
		}
	case linkChanged:
		for _, m := range n.managers {
			if slices.Contains(m.interfaces, c.name) || slices.Contains(*m.indexes.Load(), c.index) {
				m.disturb()
			}
		}
	case routeRemoved:
		for _, m := range n.managers {
			if len(m.cfg.Routes) > 0 && m.holds.Load() {
				m.disturb()
			}
		}
	case overrun:
		n.log.Debug("notifications were lost, looking at everything again")
		for _, m := range n.managers {
			m.disturb()
		}
	}
}

// join makes m hear of changes.
func (n *Namespace) join(m *Manager) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return fmt.Errorf("namespace: %w", ErrClosed)
	}
	n.managers = append(n.managers, m)
	for _, a := range m.allAddresses() {
		addr := a.Prefix.Addr()
		n.byAddr[addr] = append(n.byAddr[addr], m)
	}
	return nil
}

// leave undoes join.
func (n *Namespace) leave(m *Manager) {
	n.mu.Lock()
	defer n.mu.Unlock()
	isM := func(other *Manager) bool { return other == m }
	n.managers = slices.DeleteFunc(n.managers, isM)
	for _, a := range m.allAddresses() {
		addr := a.Prefix.Addr()
		n.byAddr[addr] = slices.DeleteFunc(n.byAddr[addr], isM)
		if len(n.byAddr[addr]) == 0 {
			delete(n.byAddr, addr)
		}
	}
}

// Virtual reports whether an address is one that a Manager adds and removes, or
// would: nobody should send from it on behalf of the host, even if the host has it
// for another reason, unless it is the owner. See vrrp's ListenConfig.Virtual.
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

// promises reports whether an address of a Manager, its own included, makes gateway
// a neighbour on an interface once it is held: Managers may wait for one another.
func (n *Namespace) promises(ifname string, gateway netip.Addr) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.ContainsFunc(n.managers, func(m *Manager) bool {
		return slices.ContainsFunc(m.cfg.Addresses, func(a Address) bool {
			return a.Interface == ifname && a.Prefix.Contains(gateway)
		})
	})
}

// routeKey is a route as the kernel knows it.
type routeKey struct {
	route Route
	index int
}

func keyOfRoute(r Route, index int) routeKey {
	r.Interface, r.Optional = "", false
	return routeKey{r, index}
}

// putRoute adds a route that m holds, as others may.
func (n *Namespace) putRoute(m *Manager, r Route, index int) error {
	n.routing.Lock()
	defer n.routing.Unlock()
	if err := n.kernel.putRoute(r, index); err != nil {
		return err
	}
	key := keyOfRoute(r, index)
	if n.routes[key] == nil {
		n.routes[key] = make(map[*Manager]bool)
	}
	n.routes[key][m] = true
	return nil
}

// removeRoute removes a route that m does not hold, unless another Manager does.
func (n *Namespace) removeRoute(m *Manager, r Route, index int) error {
	n.routing.Lock()
	defer n.routing.Unlock()
	key := keyOfRoute(r, index)
	if delete(n.routes[key], m); len(n.routes[key]) > 0 {
		return nil
	}
	delete(n.routes, key)
	return n.kernel.removeRoute(r, index)
}

// leaveRoutes says that m holds no route any more.
func (n *Namespace) leaveRoutes(m *Manager) {
	n.routing.Lock()
	defer n.routing.Unlock()
	for key, users := range n.routes {
		if delete(users, m); len(users) == 0 {
			delete(n.routes, key)
		}
	}
}
