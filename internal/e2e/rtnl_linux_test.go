package e2e

import (
	"context"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/havip/havip/internal/lab"
)

// watchQueue tells how long a change to an interface had to wait for its turn, again
// and again until ctx ends; ended is closed then. All namespaces of a machine share one
// lock for such changes, the kernel's RTNL, and the tests that run at the same time make
// and remove namespaces by the dozen: nobody adds or removes an address meanwhile.
func watchQueue(ctx context.Context, h *lab.Host, waited func(time.Duration)) (ended <-chan struct{}, err error) {
	var nl *netlink.Handle // not the host's own one, which others wait for
	if err := h.Do(func() (err error) {
		nl, err = netlink.NewHandle()
		return err
	}); err != nil {
		return nil, err
	}
	lo, err := nl.LinkByName("lo")
	if err != nil {
		nl.Close()
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer nl.Close()
		for ctx.Err() == nil {
			began := time.Now()
			if nl.LinkSetUp(lo) != nil { // it is up
				return
			}
			waited(time.Since(began))
			time.Sleep(20 * time.Millisecond)
		}
	}()
	return done, nil
}
