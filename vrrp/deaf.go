package vrrp

import (
	"net/netip"
	"time"
)

const (
	// deafTime is for how long, and for at least how many intervals, a router goes
	// on being Active beside one that has the better claim, until it counts as one
	// that does not hear it.
	deafTime      = 3 * time.Second
	deafIntervals = 3
	// deafToVirtualMAC: Keepalived's macvlan, which is there in a Backup, too,
	// swallows what comes from its own hardware address: the interface below, where
	// vmac_xmit_base makes Keepalived listen, never gets it (macvlan_handle_frame
	// in the kernel, mode private).
	deafToVirtualMAC = "this one advertises from the virtual hardware address, which a Keepalived with vmac_xmit_base does not hear: " +
		"set xmit_base here as well, or take it out there"
	deafToAll = "what this one sends does not arrive there, or is discarded: " +
		"look for a firewall that drops IP protocol 112, and at what that router says about it"
)

// deafRival is another router that is Active though this one is, too, and has the
// better claim. It is guarded by conn.mu.
type deafRival struct {
	addr        netip.Addr
	since, last time.Time     // it was heard
	patience    time.Duration // silence for longer means that it has gone
	cause       string        // why it may not hear this router; empty: it is not certain yet that it does not
}

// observeDeaf says that a split goes on which the other router would have ended if it
// heard this one, and what to look at. adv has not been told to the
// machine yet. conn.mu is held, and the group's.
func (r *Router) observeDeaf(adv *Advertisement, now time.Time) {
	d := &r.status.deaf
	if r.machine.State() != Active || adv.Priority == 0 || r.machine.loses(adv) {
		*d = deafRival{}
		return
	}
	if d.addr != adv.Source || now.Sub(d.last) > d.patience {
		*d = deafRival{addr: adv.Source, since: now}
	}
	longest := max(adv.Interval, r.machine.Interval())
	d.last, d.patience = now, 2*longest
	if d.cause != "" || now.Sub(d.since) < max(deafTime, deafIntervals*longest) {
		return
	}
	switch {
	case r.mac != nil:
		d.cause = deafToVirtualMAC
	case r.cfg.owner():
		return // whoever disputes that is said elsewhere
	default:
		d.cause = deafToAll
	}
	r.warnOften("the other Active router does not hear this one", "from", d.addr, "cause", d.cause)
}

// deafness returns the cause while it lasts. conn.mu is held, and the group's.
func (r *Router) deafness(now time.Time) string {
	d := &r.status.deaf
	if r.machine.State() != Active || now.Sub(d.last) > d.patience {
		return ""
	}
	return d.cause
}
