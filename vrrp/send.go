package vrrp

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/havip/havip/internal/inet"
)

// destinations returns where advertisements go: the group, or the peers. The
// own address may be among these: hosts like to share one list.
func (r *Router) destinations() []netip.Addr {
	if len(r.cfg.Peers) == 0 {
		return []netip.Addr{r.wire.group}
	}
	return slices.DeleteFunc(slices.Clone(r.cfg.Peers), func(a netip.Addr) bool { return a == r.source })
}

// packet appends an advertisement to b and describes it.
func (r *Router) packet(b []byte, priority uint8, dst netip.Addr, now time.Time) (Packet, []byte, error) {
	p := Packet{Source: r.source, Destination: dst, TTL: r.cfg.TTL, Protocol: r.loop.protocol}
	start := len(b)
	var err error
	if p.Protocol == protocolAH {
		b, err = r.wire.appendAHPacket(b, priority, r.source, dst, now)
	} else {
		b, err = r.wire.append(b, priority, r.source, dst, now)
	}
	if err == nil {
		p.setPayload(b[start:len(b):len(b)])
		if r.conn.nif.fits(&p) {
			p.HardwareSource = r.mac
		}
	}
	return p, b, err
}

// force sends a packet from an address that has just gone, which the kernel
// refuses to do: the others are to hear priority 0 all the same. c.mu is held.
func (c *Conn) force(p Packet) error {
	if !c.nif.ethernet || len(c.nif.mac) != 6 || !c.nif.fits(&p) {
		return fmt.Errorf("no way to send from %v, which has gone", p.Source)
	}
	w, err := c.net.frames(&c.nif)
	if err != nil {
		return err
	}
	if w == nil {
		return fmt.Errorf("no way to send from %v, which has gone", p.Source)
	}
	defer w.Close()
	p.HardwareSource = c.nif.mac
	_, err = w.WriteBatch([]Packet{p})
	return err
}

// setPayload makes b what p carries: a whole IPv4 packet for AuthAH.
func (p *Packet) setPayload(b []byte) {
	p.Header, p.Data = nil, b
	if p.Protocol == protocolAH {
		p.Header, p.Data = b[:inet.IPv4Len], b[inet.IPv4Len:]
	}
}
