package vrrp

import (
	"fmt"
	"time"
)

// Farewell returns advertisements of priority 0, one for each address that the
// router sends to. Unless it is Active the error is [ErrNotActive]: the farewell of a
// Backup would shorten the wait for the Active router. When this process has died without a word, somebody else can
// send them in its name, so that another router takes over at once. They come
// from the interface's own hardware address, also with VirtualMAC: whoever
// hears them is about to take that over.
//
// Peers would discard them as replayed once they are older than validFor: get
// new ones before then, and after [Router.Reconfigure]. It is hundreds of years
// unless advertisements are authenticated with AuthAH or AuthHMAC.
func (r *Router) Farewell() (packets []Packet, validFor time.Duration, err error) {
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	if r.phase != running || !r.holding() {
		return nil, 0, fmt.Errorf("vrrp: %s: farewell: %w", r.name, ErrNotActive)
	}
	now := time.Now()
	validFor = 1<<63 - 1
	for _, dst := range r.to {
		p := Packet{Source: r.source, Destination: dst, TTL: r.cfg.TTL, Protocol: r.loop.protocol, Interface: r.conn.nif.index}
		b, d, err := r.wire.farewell(nil, p.Source, dst, now)
		if err != nil {
			return nil, 0, fmt.Errorf("vrrp: %s: %w", r.name, err)
		}
		p.setPayload(b)
		packets, validFor = append(packets, p), min(validFor, d)
	}
	return packets, validFor, nil
}
