package failover

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Reconfigure goes on with another configuration while the Node serves, or leaves
// everything as it was: see [vrrp.Router.Reconfigure] and [vip.Manager.Reconfigure].
// Addresses that both configurations have are not touched. A peer hears of the change only
// after the old addresses are off the interface and the new ones are on it.
//
// Conn, Guard, OnRetry, OnTransition, Namespace and every Logger keep their values. A
// difference in a field that [Config.Fixed] names is an error. While [Node.Reserved] is
// false the error wraps ErrNotRunning: make another Node then.
func (n *Node) Reconfigure(ctx context.Context, next Config) error {
	n.changing.Lock()
	defer n.changing.Unlock()
	fail := func(err error) error { return fmt.Errorf("failover: %s: reconfigure: %w", n.name, err) }
	next = next.WithDefaults()
	if err := next.Validate(); err != nil {
		return fail(err)
	}
	if fields := n.cfg.Fixed(next); len(fields) > 0 {
		return fail(fmt.Errorf("%s cannot change: make another Node", strings.Join(fields, ", ")))
	}
	switch {
	case n.ended.Err() != nil:
		return fail(ErrClosed)
	case !n.reserved.Load(): // the Manager must not touch an address yet
		return fail(ErrNotRunning)
	}
	if n.router.Meets(next.VRRP) {
		// The other node was given the new addresses first, and has them.
		release := n.router.Hold("another router has the new addresses")
		defer release()
		if err := n.will.Release(ctx); err != nil { // the router's own call may come later
			return err
		}
	}
	if err := n.manager.Reconfigure(ctx, n.addresses(next)); err != nil {
		return err
	}
	if !n.cfg.sameRouter(next) {
		if err := n.router.Reconfigure(next.VRRP); err != nil {
			back, cancel := context.WithTimeout(context.WithoutCancel(ctx), backTime)
			defer cancel()
			return errors.Join(err, n.manager.Reconfigure(back, n.addresses(n.cfg)))
		}
	}
	n.cfg = next
	n.will.refresh() // the router would say something else now
	return nil
}

// backTime bounds the return to the former addresses.
const backTime = 10 * time.Second
