package daemon

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/havip/havip/vip"
	"github.com/havip/havip/vip/guard"
	"github.com/havip/havip/vrrp"
)

// Main is to be called first in main: this program is its own guard.
func Main() { guard.Main() }

// testament is a router's handler: it keeps the guard's will for the router in
// step with the addresses that are held.
type testament struct {
	*vip.Manager
	name   string
	guard  *guard.Guard
	router *vrrp.Router
	log    *slog.Logger

	mu     sync.Mutex
	active bool
	again  *time.Timer // while active
}

// rewrite is for how long a will is good at most: the interface or its address
// may have changed, and authenticated packets go stale even earlier.
const rewrite = 10 * time.Second

// Acquire writes the will before the addresses are there, so that at no moment
// they could be left behind, and once more after it, when the interface that
// they are on is certain.
func (t *testament) Acquire(ctx context.Context) error {
	t.mu.Lock()
	t.active = true
	t.mu.Unlock()
	t.write()
	if err := t.Manager.Acquire(ctx); err != nil {
		t.withdraw(guard.Will{})
		return err
	}
	t.write()
	return nil
}

// Release first takes the packets out of the will: a Backup that dies has
// nothing to say. The addresses stay in it until they are gone.
func (t *testament) Release(ctx context.Context) error {
	t.withdraw(guard.Will{Requests: t.RemovalRequests()})
	err := t.Manager.Release(ctx)
	t.withdraw(guard.Will{})
	return err
}

// write makes the will what the router would say now.
func (t *testament) write() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.active {
		return
	}
	packets, validFor, err := t.router.Farewell()
	if err != nil {
		t.log.Warn("the guard has no farewell to send", "error", err)
		validFor = rewrite
	}
	w := guard.Will{Requests: t.RemovalRequests()}
	for _, p := range packets {
		if len(p.Header) == 0 {
			p.Header = nil // an empty one would be taken for a given one
		}
		w.Packets = append(w.Packets, guard.Packet{
			Interface: p.Interface, Source: p.Source, Destination: p.Destination,
			Protocol: p.Protocol, TTL: p.TTL, Header: p.Header, Payload: p.Data,
		})
	}
	t.set(w)
	if t.again != nil {
		t.again.Stop()
	}
	t.again = time.AfterFunc(min(rewrite, validFor/2), t.write)
}

// withdraw leaves a will that is not written again.
func (t *testament) withdraw(w guard.Will) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.active = false
	if t.again != nil {
		t.again.Stop()
	}
	t.set(w)
}

func (t *testament) set(w guard.Will) {
	if err := t.guard.Set(t.name, w); err != nil {
		t.log.Warn("the guard did not take the will", "error", err)
	}
}
