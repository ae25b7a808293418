package vip

import (
	"bytes"
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
	probe bool // somebody is about to claim it
	time  time.Time
}

// conflictEvery bounds how often a conflict is reported for one address.
const conflictEvery = time.Second

// takeoverTime is for how long after the addresses were acquired a claim counts as
// the predecessor's, which may be a moment late in letting go.
const takeoverTime = time.Second

// see takes a sighting from the Namespace, and never waits.
func (m *Manager) see(s sighting) {
	if m.holds.Load() && !s.probe {
		offer(m.sightings, s)
	}
}

// offer passes a sighting on, unless there is a queue: one of those in it will
// do.
func offer(to chan sighting, s sighting) {
	select {
	case to <- s:
	default:
	}
}

// foreign reports whether a sighting is another host's. Called with m.mu held.
func (m *Manager) foreign(s sighting) (ifname string, foreign bool) {
	for _, a := range m.cfg.Addresses {
		if a.Prefix.Addr() != s.addr {
			continue
		}
		l := m.links[a.Interface]
		if l.index == s.index {
			return l.name, !bytes.Equal(s.mac, l.mac)
		}
		// Another holder has the virtual MAC too, and a macvlan does not hear
		// what comes from its own address. Its parent hears it, and what the
		// macvlan itself sends it does not.
		if parent := m.links[m.cfg.Interface]; m.ours(a.Interface) && parent.index == s.index {
			return parent.name, bytes.Equal(s.mac, l.mac)
		}
	}
	return "", false
}

// ours reports whether an interface is the macvlan.
func (m *Manager) ours(name string) bool {
	return m.cfg.VirtualMAC != nil && name == m.cfg.MacvlanName
}

// conflict counts and reports a sighting if it is another host's.
func (m *Manager) conflict(s sighting) {
	m.mu.Lock()
	ifname, foreign := m.foreign(s)
	if !m.held || !foreign || s.time.Sub(m.acquired) < takeoverTime {
		m.mu.Unlock()
		return
	}
	m.status.Conflicts++
	count := m.status.Conflicts
	report := s.time.Sub(m.disputed[s.addr]) >= conflictEvery
	if report {
		m.disputed[s.addr] = s.time
	}
	tell := m.cfg.OnConflict
	m.mu.Unlock()
	if !report {
		return
	}
	m.log.Warn("another host claims an address that is held here",
		"address", s.addr, "mac", s.mac.String(), "interface", ifname, "conflicts", count)
	if tell != nil {
		m.onConflict.Add(func() { tell(Conflict{Address: s.addr, MAC: s.mac, Interface: ifname, Time: s.time}) })
	}
}
