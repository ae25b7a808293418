package failover

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/havip/havip/vip"
	"github.com/havip/havip/vip/guard"
	"github.com/havip/havip/vrrp"
)

// manager is what a router uses of a vip.Manager: Handler and every optional interface of a
// Handler. The compiler checks them here, since a router would do without a missing one in
// silence.
type manager interface {
	vrrp.Handler
	vrrp.FaultSource
	vrrp.Lessee
	vrrp.Departer
	vrrp.Neighbourhood
}

var _ manager = (*vip.Manager)(nil)

// will is the Handler of a Node's router. It passes each call on to the Manager. It tells
// the guard a new will whenever the addresses that may be on the interface change, or the
// router's farewell does.
//
// The Manager reports its removals with its own mutex locked. So mu comes after that mutex,
// and nothing here calls the Manager with mu locked.
type will struct {
	manager
	name  string
	guard interface {
		Set(name string, w guard.Will) error
	}
	router interface {
		Farewell() ([]vrrp.Packet, time.Duration, error)
	}
	log *slog.Logger

	mu        sync.Mutex
	removals  vip.Removals // of everything that may be on the interface
	active    bool
	left      bool // the router had handed over, or was about to, when the will was written
	withdrawn bool
	again     *time.Timer // while active
}

// refreshTime is the longest time that a farewell is kept: the interface or its address may
// change. Authenticated packets go stale even earlier.
const refreshTime = 10 * time.Second

// Acquire writes the will before the addresses are there, so that they cannot be
// left behind at any moment.
func (w *will) Acquire(ctx context.Context) error {
	w.setActive(true)
	err := w.manager.Acquire(ctx)
	if err != nil {
		w.setActive(false)
	}
	return err
}

// Release first takes the farewell out of the will: a Backup that dies has nothing
// to say.
func (w *will) Release(ctx context.Context) error {
	w.setActive(false)
	return w.manager.Release(ctx)
}

// Announce also follows a hand-over that nobody answered: the router has a farewell again.
func (w *will) Announce(ctx context.Context) error {
	w.mu.Lock()
	left := w.left
	w.mu.Unlock()
	if left {
		w.refresh()
	}
	return w.manager.Announce(ctx)
}

// setActive says whether the will has a farewell.
func (w *will) setActive(active bool) { w.change(func() { w.active = active }) }

// setRemovals is the Manager's OnRemovals. The removals stay in the will of a Backup
// as well: they do nothing where there is nothing to remove.
func (w *will) setRemovals(r vip.Removals) { w.change(func() { w.removals = r }) }

// refresh writes the will with the router's present farewell.
func (w *will) refresh() { w.change(func() {}) }

// withdraw ends the will, as there is nothing left to remove.
func (w *will) withdraw() {
	w.change(func() { w.active, w.removals, w.withdrawn = false, vip.Removals{}, true })
}

// change changes the will, passes the will to the guard, and sets the timer for the next
// refresh. After withdraw it does nothing.
func (w *will) change(how func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.withdrawn {
		return
	}
	how()
	if w.again != nil {
		w.again.Stop()
	}
	w.left = false
	text := guard.Will{Requests: w.removals.Requests, Filters: w.removals.Filters, Settings: w.removals.Settings}
	if w.active {
		var validFor time.Duration
		text.Packets, validFor = w.farewell()
		w.again = time.AfterFunc(min(refreshTime, validFor/2), w.refresh)
	}
	err := w.guard.Set(w.name, text)
	if err != nil && len(text.Packets) > 0 { // a farewell that is refused must not cost the removals
		text.Packets = nil
		err = errors.Join(err, w.guard.Set(w.name, text))
	}
	if err != nil {
		w.log.Warn("the guard did not take the will", "err", err)
	}
}

// farewell returns the packets that the guard sends if this process dies, and how
// long they are valid.
func (w *will) farewell() (list []guard.Packet, validFor time.Duration) {
	packets, validFor, err := w.router.Farewell()
	if w.left = errors.Is(err, vrrp.ErrNotActive); w.left {
		return nil, refreshTime // Release is under way, or the router has sent priority 0
	}
	if err != nil {
		w.log.Warn("the guard has no farewell to send", "err", err)
		return nil, refreshTime
	}
	for _, p := range packets {
		list = append(list, guard.Packet{
			Interface: p.Interface, Source: p.Source, Destination: p.Destination,
			Protocol: p.Protocol, TTL: p.TTL, Header: p.Header, Payload: p.Data,
		})
	}
	return list, validFor
}
