package vip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/havip/havip/vip/internal/hook"
)

// A fake kernel's filter needs none of package filter, which is for Linux only.
func init() {
	if hook.OpenFilter == nil {
		hook.OpenFilter = func() (hook.Filter, error) { return nil, errors.ErrUnsupported }
	}
}

// fakeKernel is a kernel in memory, for tests in virtual time. It expires
// addresses as Linux does, and tells its watcher of every change.
type fakeKernel struct {
	mu     sync.Mutex
	links  []link
	list   []assigned
	timers map[assigned]*time.Timer // by address without lifetime
	routes []Route
	frames [][]byte
	heard  chan sighting
	puts   int
	// neighbours are what onLink says yes to.
	neighbours   []netip.Addr
	others       map[string][]netip.Addr // what known returns, by hardware address
	hops         []nextHop               // what nextHops returns
	marksNothing bool                    // it is one before 5.18
	refuse       func(assigned) bool     // what put does not take
	hook         func(op string) error   // called first by every operation
	changes      chan change
	closed       chan struct{}
}

var _ kernel = (*fakeKernel)(nil)

func newFakeKernel() *fakeKernel {
	return &fakeKernel{
		links:   []link{{index: 2, name: "eth0", mac: testMAC, up: true, enabled: true, ethernet: true}},
		timers:  make(map[assigned]*time.Timer),
		changes: make(chan change, 1000),
		heard:   make(chan sighting, 100),
		closed:  make(chan struct{}),
	}
}

// do calls the hook, which may sleep: that is what a frozen process looks like.
func (k *fakeKernel) do(op string) error {
	k.mu.Lock()
	hook := k.hook
	k.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(op)
}

func (k *fakeKernel) link(index int, name string) (link, error) {
	if err := k.do("link"); err != nil {
		return link{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, suits := range []func(link) bool{
		func(l link) bool { return l.name == name },
		func(l link) bool { return l.index == index },
	} {
		if i := slices.IndexFunc(k.links, suits); i >= 0 {
			return k.links[i], nil
		}
	}
	return link{}, fmt.Errorf("vip: interface %q: %w", name, ErrNoInterface)
}

func (k *fakeKernel) addresses() ([]assigned, error) {
	if err := k.do("addresses"); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.list), nil
}

func key(a assigned) assigned { return assigned{index: a.index, prefix: a.prefix} }

func (k *fakeKernel) put(a assigned, fresh bool) error {
	if err := k.do("put"); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.refuse != nil && k.refuse(a) {
		return syscall.EACCES
	}
	if k.marksNothing {
		a.mark = 0
	}
	k.puts++
	if fresh && slices.ContainsFunc(k.list, func(h assigned) bool { return key(h) == key(a) }) {
		return ErrInUse
	}
	k.drop(a)
	k.list = append(k.list, a)
	if a.valid > 0 {
		k.timers[key(a)] = time.AfterFunc(a.valid, func() { k.remove(a) })
	}
	k.changes <- change{kind: addressAdded, addr: a.prefix.Addr(), index: a.index, mark: a.mark == protocol}
	return nil
}

func (k *fakeKernel) remove(a assigned) error {
	if err := k.do("remove"); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.drop(a) {
		k.changes <- change{kind: addressRemoved, addr: a.prefix.Addr(), index: a.index}
	}
	return nil
}

// drop takes an address off the list and reports whether it was there.
func (k *fakeKernel) drop(a assigned) bool {
	if t := k.timers[key(a)]; t != nil {
		t.Stop()
		delete(k.timers, key(a))
	}
	n := len(k.list)
	k.list = slices.DeleteFunc(k.list, func(h assigned) bool { return key(h) == key(a) })
	return len(k.list) < n
}

func (k *fakeKernel) networks() ([]assigned, error) { return nil, nil }
func (k *fakeKernel) nextHops(netip.Addr) ([]nextHop, error) {
	if err := k.do("nextHops"); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.hops), nil
}

func (k *fakeKernel) removeNetwork(assigned) error { return nil }

func (k *fakeKernel) putRoute(r Route, _ int) error {
	if err := k.do("putRoute " + r.Destination.String()); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !slices.Contains(k.routes, r) {
		k.routes = append(k.routes, r)
	}
	return nil
}

func (k *fakeKernel) removeRoute(r Route, _ int) error {
	if err := k.do("remove route"); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.routes = slices.DeleteFunc(k.routes, func(other Route) bool { return other == r })
	return nil
}

func (k *fakeKernel) onLink(addr netip.Addr, _ int) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Contains(k.neighbours, addr), nil
}

func (k *fakeKernel) known(_ int, mac net.HardwareAddr) ([]netip.Addr, error) {
	if err := k.do("known"); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.others[mac.String()]), nil
}

// recorder is a fakeKernel that changes nothing, and says what it was asked for.
type recorder struct {
	*fakeKernel
	requests [][]byte
}

func (k *fakeKernel) record(do func(kernel)) [][]byte {
	r := &recorder{fakeKernel: k}
	do(r)
	return r.requests
}

func (r *recorder) say(format string, args ...any) error {
	r.requests = append(r.requests, fmt.Appendf(nil, format, args...))
	return nil
}

func (r *recorder) remove(a assigned) error { return r.say("remove %v", a.prefix) }
func (r *recorder) removeRoute(route Route, _ int) error {
	return r.say("remove %v", route.Destination)
}
func (r *recorder) setUp(int, bool) error { return r.say("set down") }
func (r *recorder) configure4(index, setting int, value uint32) error {
	return r.say("set %d of %d to %d", setting, index, value)
}

func (k *fakeKernel) listeners() []func() (sighting, error) {
	return []func() (sighting, error){func() (sighting, error) {
		select {
		case s := <-k.heard:
			return s, nil
		case <-k.closed:
			return sighting{}, ErrClosed
		}
	}}
}

func (k *fakeKernel) configure4(int, int, uint32) error { return nil }

func (k *fakeKernel) addMacvlan(name string, parent int, mac net.HardwareAddr) error {
	if err := k.do("add macvlan"); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.links = append(k.links, link{index: 100 + len(k.links), name: name, mac: mac, parent: parent, ethernet: true})
	return nil
}

func (k *fakeKernel) packets() hook.Filter { return fakeFilter{k} }

// fakeFilter is the filter of a fakeKernel.
type fakeFilter struct{ *fakeKernel }

func (k fakeFilter) Drop(string, []netip.Addr) error { return k.do("filter") }
func (k fakeFilter) Pass(string) error               { return k.do("filter") }
func (k fakeFilter) Intact(string, []netip.Addr) (bool, error) {
	return true, k.do("filters")
}
func (k fakeFilter) Sweep([]netip.Addr) error { return k.do("sweep") }
func (k fakeFilter) Close() error             { return nil }

func (k *fakeKernel) setUp(index int, up bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range k.links {
		if k.links[i].index == index {
			k.links[i].up, k.links[i].enabled = up, up
		}
	}
	return nil
}

func (k *fakeKernel) removeLink(index int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.links = slices.DeleteFunc(k.links, func(l link) bool { return l.index == index })
	return nil
}

func (k *fakeKernel) filterRemoval(name string) []byte { return []byte("accept for " + name) }
func (k *fakeKernel) send(_ int, frame []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.frames = append(k.frames, frame)
	return nil
}

func (k *fakeKernel) watch() ([]change, error) {
	select {
	case c := <-k.changes:
		return []change{c}, nil
	case <-k.closed:
		return nil, ErrClosed
	}
}

func (k *fakeKernel) close() { close(k.closed) }

// has reports whether an address is on any interface.
func (k *fakeKernel) has(s string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.ContainsFunc(k.list, func(a assigned) bool { return a.prefix.Addr() == netip.MustParseAddr(s) })
}

// failing makes the operation fail until further notice.
func (k *fakeKernel) failing(op string, err error) {
	k.hooked(func(o string) error {
		if o == op {
			return err
		}
		return nil
	})
}

func (k *fakeKernel) hooked(f func(op string) error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.hook = f
}

func (k *fakeKernel) sent() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.frames)
}

func (k *fakeKernel) written() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.puts
}

// addrs parses addresses for a Config.
func addrs(t testing.TB, list ...string) []Address {
	t.Helper()
	var out []Address
	for _, s := range list {
		a, err := ParseAddress(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, a)
	}
	return out
}

// with is the configuration of m with other addresses and routes.
func with(m *Manager, addresses []Address, routes []Route) Config {
	cfg := m.cfg
	cfg.Addresses, cfg.Routes = addresses, routes
	return cfg
}
