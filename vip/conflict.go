package vip

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/havip/havip/internal/quietlog"
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
	aside bool // said to this host only, in answer to a question
	time  time.Time
}

// conflictEvery bounds how often a conflict is reported for one address.
const conflictEvery = time.Second

// conflictLimit: a conflict that goes on is logged when it begins, and every ten minutes
// after that. One that was not seen for a minute has ended, and the next is another.
var conflictLimit = quietlog.Limit{Every: 10 * time.Minute, Pause: time.Minute}

const conflictMessage = "another host claims an address that is held here"

// takeoverTime is for how long after the addresses were acquired a claim counts as
// the predecessor's, which may be a moment late in letting go.
const takeoverTime = time.Second

// elderTime is for how long after the addresses were acquired a host that claims one
// counts as having had it before: it contradicts. Both would contradict each other
// without end, and each neighbour would believe now the one, now the other.
const elderTime = 2 * time.Second

// verdictTime is for how long a claim waits to be judged: in a hand-over the
// successor makes it while this host lets go, and is to be neither contradicted nor
// reported.
const verdictTime = 200 * time.Millisecond

// see takes a sighting from the Namespace, and never waits.
func (m *Manager) see(s sighting) {
	if m.holds.Load() || m.seeks.Load() {
		m.inbox.add(s)
		m.poke()
	}
}

// maxUnheard is how many sightings wait for Run at most, those alike counted once.
const maxUnheard = 4096

// inbox has what other hosts have said since Run looked last. It waits there while
// the Manager is at work: when a thousand addresses move, each of them is announced
// while they are being removed here.
type inbox struct {
	mu   sync.Mutex
	list []claim
	at   map[likeness]int // in the list
}

// likeness is what sightings of which one will do have in common.
type likeness struct {
	index        int
	addr         netip.Addr
	mac          string
	probe, aside bool
}

func (b *inbox) add(s sighting) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := likeness{s.index, s.addr, string(s.mac), s.probe, s.aside}
	i, ok := b.at[key]
	if !ok {
		if i = len(b.list); i == maxUnheard {
			return
		}
		if b.at == nil {
			b.at = make(map[likeness]int)
		}
		b.at[key] = i
		b.list = append(b.list, claim{})
	}
	b.list[i].sighting = s
	b.list[i].times++
}

// take empties b.
func (b *inbox) take() []claim {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := b.list
	b.list, b.at = nil, nil
	return list
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

// claim is what another host has said of an address since it was last judged.
type claim struct {
	sighting        // the latest
	times    uint64 // that it was said
	due      time.Time
}

// hear takes note of what other hosts have said.
func (m *Manager) hear() {
	list := m.inbox.take()
	if len(list) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range list {
		if m.held {
			m.challenged(s.sighting, s.times)
		} else {
			m.found(s.sighting)
		}
	}
}

// challenged takes note of a sighting, made so many times, if it is another host's
// claim to what is held here. Called with m.mu held.
func (m *Manager) challenged(s sighting, times uint64) {
	if _, foreign := m.foreign(s); !foreign {
		return
	}
	if !s.aside {
		m.claimed[s.addr] = s.time
	}
	if s.probe || s.time.Sub(m.acquired) < takeoverTime {
		return
	}
	if s.time.Sub(m.acquired) < elderTime {
		m.elders[s.addr] = s.mac
	}
	c, ok := m.claims[s.addr]
	if !ok {
		c.due = s.time.Add(verdictTime)
	}
	c.sighting = s
	c.times += times
	m.claims[s.addr] = c
}

// judge reports the claims to addresses that are held here all the same when the
// time has come, and contradicts those of a host that came later.
func (m *Manager) judge(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var due []claim
	for addr, c := range m.claims {
		if !now.Before(c.due) {
			due = append(due, c)
			delete(m.claims, addr)
		}
	}
	if len(due) == 0 || m.cfg.Entitled != nil && !m.cfg.Entitled() {
		return
	}
	if slices.ContainsFunc(due, func(c claim) bool { return !bytes.Equal(m.elders[c.addr], c.mac) }) {
		m.announcer.answer(now)
	}
	var news []dispute
	for _, c := range due {
		news = m.conflict(news, c)
	}
	if len(news) > 0 {
		m.asides.Add(func() { m.say(news) })
	}
}

// dispute is a conflict that is to be logged.
type dispute struct {
	claim
	ifname string
}

// maxKnown is how many addresses of another host a line has: one that answers for
// others, as a router with proxy ARP does, may have hundreds.
const maxKnown = 8

// say logs disputes, with what is known of the other hosts: their hardware addresses
// alone say little to a person.
func (m *Manager) say(news []dispute) {
	hosts := map[string][]netip.Addr{} // by hardware address and interface
	for _, d := range news {
		key := fmt.Sprint(d.index, d.mac)
		if _, asked := hosts[key]; !asked {
			hosts[key], _ = m.ns.kernel.known(d.index, d.mac)
			hosts[key] = slices.DeleteFunc(hosts[key], m.mentions)
		}
		args := []any{"address", d.addr, "mac", d.mac.String(), "interface", d.ifname}
		if list := hosts[key]; len(list) > 0 {
			args = append(args, "host", list[:min(len(list), maxKnown)])
		}
		m.log.Error(conflictMessage, append(args, "times", d.times, conflictLimit.By(d.addr))...)
	}
}

// mentions reports whether the configuration has an address: that it is another host's
// as well is no news.
func (m *Manager) mentions(addr netip.Addr) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.cfg.Addresses, func(a Address) bool { return a.Prefix.Addr() == addr })
}

// conflict counts a claim and reports it, and adds what is to be logged to news. Called
// with m.mu held.
func (m *Manager) conflict(news []dispute, c claim) []dispute {
	ifname, foreign := m.foreign(c.sighting)
	if !foreign {
		return news // the link is another one by now
	}
	m.status.Conflicts += c.times
	if !conflictLimit.Mutes(m.log, slog.LevelError, conflictMessage, c.addr, c.times) {
		news = append(news, dispute{c, ifname})
	}
	if c.time.Sub(m.disputed[c.addr]) < conflictEvery {
		return news
	}
	m.disputed[c.addr] = c.time
	if tell := m.cfg.OnConflict; tell != nil {
		m.onConflict.Add(func() { tell(Conflict{Address: c.addr, MAC: c.mac, Interface: ifname, Time: c.time}) })
	}
	return news
}
