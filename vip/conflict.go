package vip

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// Conflict says that another host claims an address that is held here.
type Conflict struct {
	// Address is the address that both hold.
	Address netip.Addr
	// MAC is the other host's hardware address; nil if it did not say.
	MAC net.HardwareAddr
	// Interface is the device on which it was seen.
	Interface string
	// Time is when it was seen.
	Time time.Time
}

// sighting is a claim to an address that was seen on a link: the sender of an
// ARP packet, the target of a neighbour advertisement.
type sighting struct {
	index int
	addr  netip.Addr
	mac   net.HardwareAddr
	time  time.Time
}

// conflictEvery bounds how often a conflict is reported for one address.
const conflictEvery = time.Second

// see takes a sighting from the Namespace, and never waits.
func (m *Manager) see(s sighting) {
	to := m.sightings
	if m.probing.Load() {
		to = m.answers
	} else if !m.holds.Load() {
		return
	}
	select {
	case to <- s:
	default: // one of those in the queue will do
	}
}

// foreign reports whether a sighting is another host's. Called with m.mu held.
func (m *Manager) foreign(s sighting) (ifname string, foreign bool) {
	for _, a := range m.cfg.Addresses {
		l := m.links[a.Interface]
		if a.Prefix.Addr() == s.addr && l.index == s.index {
			return l.name, !bytes.Equal(s.mac, l.mac)
		}
	}
	return "", false
}

// conflict counts and reports a sighting if it is another host's.
func (m *Manager) conflict(s sighting) {
	m.mu.Lock()
	ifname, foreign := m.foreign(s)
	if !m.held || !foreign {
		m.mu.Unlock()
		return
	}
	m.status.Conflicts++
	report := s.time.Sub(m.reported[s.addr]) >= conflictEvery
	if report {
		m.reported[s.addr] = s.time
	}
	m.mu.Unlock()
	if !report {
		return
	}
	m.log.Warn("another host claims an address that is held here",
		"address", s.addr, "mac", s.mac.String(), "interface", ifname)
	if m.cfg.OnConflict != nil {
		m.cfg.OnConflict(Conflict{Address: s.addr, MAC: s.mac, Interface: ifname, Time: s.time})
	}
}

// probe asks the link twice whether another host has one of the addresses. Only
// an answer in the second half of the time counts: when addresses move, the
// host that had them may be a moment late in letting go. Called with m.mu held.
func (m *Manager) probe(ctx context.Context) error {
	if m.cfg.Probe == 0 {
		return nil
	}
	if err := m.resolve(); err != nil {
		return err
	}
	m.probing.Store(true)
	defer m.probing.Store(false)
	half := time.NewTimer(m.cfg.Probe / 2)
	defer half.Stop()
	end := time.NewTimer(m.cfg.Probe)
	defer end.Stop()
	if err := m.ask(); err != nil {
		return err
	}
	for late := false; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-half.C:
			late = true
			if err := m.ask(); err != nil {
				return err
			}
		case s := <-m.answers:
			if ifname, foreign := m.foreign(s); foreign && late {
				return fmt.Errorf("vip: %s: %v is at %v: %w", ifname, s.addr, s.mac, ErrInUse)
			}
		case <-end.C:
			return nil
		}
	}
}

// ask sends one probe for each address.
func (m *Manager) ask() error {
	for _, a := range m.cfg.Addresses {
		l := m.links[a.Interface]
		if !l.ethernet || !l.up {
			continue
		}
		frame, err := probeFrame(a.Prefix.Addr(), l.mac)
		if err != nil {
			return err
		}
		if err := m.ns.kernel.send(l.index, frame); err != nil {
			return err
		}
	}
	return nil
}
