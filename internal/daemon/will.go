package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/havip/havip/vip"
	"github.com/havip/havip/vip/guard"
	"github.com/havip/havip/vrrp"
)

// Main is to be called first in main: this program is its own guard, whose log has
// the daemon's form.
func Main() { guard.MainLog(newGuardHandler) }

// testament is a router's handler: it keeps the guard's will for the router in
// step with what there is to be removed, and to be said.
//
// It is told of the former by the Manager, which has its mutex locked then: t.mu
// comes after that, and nothing here calls the Manager with t.mu locked.
type testament struct {
	vrrp.Handler // the addresses
	name         string
	guard        interface {
		Set(name string, w guard.Will) error
	}
	router interface {
		Farewell() ([]vrrp.Packet, time.Duration, error)
	}
	log *slog.Logger

	mu       sync.Mutex
	removals vip.Removals // of what may be there
	active   bool
	ended    bool
	again    *time.Timer // while active
}

// rewrite is for how long packets are good at most: the interface or its address
// may have changed, and authenticated ones go stale even earlier.
const rewrite = 10 * time.Second

// Acquire writes the will before the addresses are there, so that at no moment
// they could be left behind.
func (t *testament) Acquire(ctx context.Context) error {
	t.setActive(true)
	err := t.Handler.Acquire(ctx)
	if err != nil {
		t.setActive(false)
	}
	return err
}

// Release first takes the packets out of the will: a Backup that dies has
// nothing to say.
func (t *testament) Release(ctx context.Context) error {
	t.setActive(false)
	return t.Handler.Release(ctx)
}

// What a router would miss without a word: a testament hides the Manager's methods.
var _, _ interface {
	vrrp.FaultSource
	vrrp.Lessee
	vrrp.Neighbourhood
} = (*vip.Manager)(nil), (*testament)(nil)

// WatchFaults has the router hear of the Manager's faults.
func (t *testament) WatchFaults(f func(lost error, faults []string)) (stop func()) {
	return t.Handler.(vrrp.FaultSource).WatchFaults(f)
}

// Lapsed has the router hear of the Manager's lease.
func (t *testament) Lapsed() bool { return t.Handler.(vrrp.Lessee).Lapsed() }

// HardwareAddr has the router hear of its neighbours.
func (t *testament) HardwareAddr(ctx context.Context, addr netip.Addr) net.HardwareAddr {
	return t.Handler.(vrrp.Neighbourhood).HardwareAddr(ctx, addr)
}

// setActive says whether there is a goodbye to be said.
func (t *testament) setActive(active bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.active = active
	t.write()
}

// remove is the Manager's OnRemovals. The removals stay in the will, also that of
// a Backup, until end: they do nothing where there is nothing to be removed.
func (t *testament) remove(r vip.Removals) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.removals = r
	t.write()
}

// refresh makes the will what the router would say now.
func (t *testament) refresh() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.write()
}

// end withdraws the will: nothing is left.
func (t *testament) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.active, t.removals = false, vip.Removals{}
	t.write()
	t.ended = true
}

// write is called with t.mu locked.
func (t *testament) write() {
	if t.guard == nil || t.ended {
		return // not connected yet, or any more
	}
	if t.again != nil {
		t.again.Stop()
	}
	w := guard.Will{Requests: t.removals.Requests, Filters: t.removals.Filters, Settings: t.removals.Settings}
	if t.active {
		var validFor time.Duration
		w.Packets, validFor = t.farewell()
		t.again = time.AfterFunc(min(rewrite, validFor/2), t.refresh)
	}
	if err := t.guard.Set(t.name, w); err != nil {
		t.log.Warn("the guard did not take the will", "err", err)
	}
}

// farewell returns what to say in the end, and for how long it is good.
func (t *testament) farewell() (list []guard.Packet, validFor time.Duration) {
	packets, validFor, err := t.router.Farewell()
	if err != nil {
		if !errors.Is(err, vrrp.ErrNotActive) { // it is about to release
			t.log.Warn("the guard has no farewell to send", "err", err)
		}
		return nil, rewrite
	}
	for _, p := range packets {
		list = append(list, guard.Packet{
			Interface: p.Interface, Source: p.Source, Destination: p.Destination,
			Protocol: p.Protocol, TTL: p.TTL, Header: p.Header, Payload: p.Data,
		})
	}
	return list, validFor
}
