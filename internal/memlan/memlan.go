// Package memlan is a link in memory for sockets in tests. It is made for
// testing/synctest: virtual time passes while a reader waits.
package memlan

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"
)

// Link carries packets of type P between its ports.
type Link[P any] struct {
	Mu sync.Mutex // guards the fields of the ports
	// Reaches reports whether a packet is addressed to a port other than the
	// sender's. Mu is held.
	Reaches func(packet P, to *Port[P]) bool
	// Take is called for each packet that is sent, and returns a copy of it: its
	// sender may use the memory again. Mu is held.
	Take func(P) P

	ports []*Port[P]
}

// Plug adds a port for a socket of an IP protocol.
func (l *Link[P]) Plug(addr netip.Addr, protocol uint8) *Port[P] {
	p := &Port[P]{Addr: addr, Protocol: protocol, link: l, changed: sync.NewCond(&l.Mu)}
	l.Mu.Lock()
	defer l.Mu.Unlock()
	l.ports = append(l.ports, p)
	return p
}

// Each calls f for each port of an address.
func (l *Link[P]) Each(addr netip.Addr, f func(*Port[P])) {
	l.Mu.Lock()
	defer l.Mu.Unlock()
	for _, p := range l.ports {
		if p.Addr == addr {
			f(p)
			p.changed.Broadcast()
		}
	}
}

// Port is a socket on a Link. It reads and writes as vrrp.PacketConn says.
type Port[P any] struct {
	Addr     netip.Addr
	Protocol uint8

	// The fields that follow are guarded by Link.Mu.

	Out    bool // the cable is out
	Reads  int  // calls of ReadBatch
	Frozen bool // reads wait until the port is not frozen, or closed
	Closed bool
	Refuse func(P) error // why a packet cannot be sent; nil: each can
	Ignore func(P) bool  // reports whether a packet does not arrive; nil: each does

	link     *Link[P]
	changed  *sync.Cond // something that ReadBatch waits for
	queue    []P
	deadline time.Time
	timer    *time.Timer // of the last deadline, or nil
}

// ReadBatch waits for packets until the deadline.
func (p *Port[P]) ReadBatch(ps []P) (int, error) {
	p.link.Mu.Lock()
	defer p.link.Mu.Unlock()
	p.Reads++
	for ; ; p.changed.Wait() {
		switch {
		case p.Closed:
			return 0, net.ErrClosed
		case p.Frozen:
		case len(p.queue) > 0:
			n := copy(ps, p.queue)
			p.queue = slices.Delete(p.queue, 0, n)
			return n, nil
		case !p.deadline.IsZero() && !time.Now().Before(p.deadline):
			return 0, os.ErrDeadlineExceeded
		}
	}
}

// WriteBatch hands packets to the ports that they reach.
func (p *Port[P]) WriteBatch(ps []P) (int, error) {
	p.link.Mu.Lock()
	defer p.link.Mu.Unlock()
	for i, packet := range ps {
		if p.Refuse != nil {
			if err := p.Refuse(packet); err != nil {
				return i, err
			}
		}
		packet = p.link.Take(packet)
		for _, to := range p.link.ports {
			if to != p && !to.Out && !p.Out && to.Protocol == p.Protocol && p.link.Reaches(packet, to) && (to.Ignore == nil || !to.Ignore(packet)) {
				to.Receive(packet)
			}
		}
	}
	return len(ps), nil
}

// Receive puts a packet into the queue, as if it had arrived. Link.Mu is held.
func (p *Port[P]) Receive(packet P) {
	p.queue = append(p.queue, packet)
	p.changed.Broadcast()
}

// SetReadDeadline bounds ReadBatch.
func (p *Port[P]) SetReadDeadline(t time.Time) error {
	p.link.Mu.Lock()
	defer p.link.Mu.Unlock()
	if p.timer != nil {
		p.timer.Stop()
	}
	if p.deadline = t; !t.IsZero() {
		p.timer = time.AfterFunc(time.Until(t), p.wakeReader)
	}
	return nil
}

// wakeReader makes ReadBatch look at the port again.
func (p *Port[P]) wakeReader() {
	p.link.Mu.Lock()
	defer p.link.Mu.Unlock()
	p.changed.Broadcast()
}

// Close makes ReadBatch return.
func (p *Port[P]) Close() error {
	p.link.Mu.Lock()
	defer p.link.Mu.Unlock()
	p.Closed = true
	p.changed.Broadcast()
	return nil
}
