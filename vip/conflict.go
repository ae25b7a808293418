package vip

import (
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

// conflictLimit: a conflict is logged when it begins, and every ten minutes while it goes
// on. After a minute without a claim the conflict is over, and a next one is another.
var conflictLimit = quietlog.Limit{Every: 10 * time.Minute, Pause: time.Minute}

const conflictMessage = "another host claims an address that is held here"

// takeSighting accepts a sighting from the Namespace, and never waits.
func (m *Manager) takeSighting(s sighting) {
	if m.holds.Load() || m.successors.some.Load() {
		m.inbox.add(s)
		m.poke()
	}
}

// takeSightings empties the inbox.
func (m *Manager) takeSightings() {
	list := m.inbox.take()
	if len(list) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range list {
		if _, foreign := m.foreign(s.sighting); !foreign {
			continue
		}
		if m.held {
			m.rivals.hear(s.sighting, s.times)
		} else {
			m.successors.hear(s.sighting)
		}
	}
}

// judgeClaims reports the claims that are due, to addresses that are still held here, and
// contradicts a host that has claimed an address later than this one.
func (m *Manager) judgeClaims(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	due := m.rivals.takeDue(now)
	if len(due) == 0 || m.cfg.Entitled != nil && !m.cfg.Entitled() {
		return
	}
	if m.rivals.newcomers(due) {
		m.announcer.answer(now)
	}
	var news []dispute
	for _, c := range due {
		news = m.countConflict(news, c)
	}
	if len(news) > 0 {
		own := m.cfg.addrs()
		m.calls.asides.Add(func() { m.logDisputes(news, own) })
	}
}

// dispute is a conflict that is to be logged.
type dispute struct {
	claim
	ifname string
}

// maxKnown is how many addresses of another host a line has: a router with proxy ARP
// answers for hundreds.
const maxKnown = 8

// logDisputes logs disputes with the IP addresses of the other hosts: a hardware address
// alone says little to a person. A line leaves out own, the addresses that are held here:
// the line says anyway that the other host has them, too.
func (m *Manager) logDisputes(news []dispute, own []netip.Addr) {
	hosts := map[string][]netip.Addr{} // by hardware address and interface
	for _, d := range news {
		key := fmt.Sprint(d.index, d.mac)
		if _, asked := hosts[key]; !asked {
			hosts[key], _ = m.ns.kernel.known(d.index, d.mac)
			hosts[key] = slices.DeleteFunc(hosts[key], func(a netip.Addr) bool { return slices.Contains(own, a) })
		}
		args := []any{"address", d.addr, "mac", d.mac.String(), "interface", d.ifname}
		if list := hosts[key]; len(list) > 0 {
			args = append(args, "host", list[:min(len(list), maxKnown)])
		}
		m.log.Error(conflictMessage, append(args, conflictLimit.Times(d.times, d.addr))...)
	}
}

// countConflict counts a claim and reports it, and appends what is to be logged to news.
// Called with m.mu held.
func (m *Manager) countConflict(news []dispute, c claim) []dispute {
	ifname, foreign := m.foreign(c.sighting)
	if !foreign {
		return news // the interface has changed since
	}
	m.status.Conflicts += c.times
	if !conflictLimit.Mutes(m.log, slog.LevelError, conflictMessage, c.addr, c.times) {
		news = append(news, dispute{c, ifname})
	}
	if tell := m.cfg.OnConflict; m.rivals.reportDue(c) && tell != nil {
		m.calls.conflict.Add(func() { tell(Conflict{Address: c.addr, MAC: c.mac, Interface: ifname, Time: c.time}) })
	}
	return news
}

// sighting is a claim to an address that was seen on a link: the sender of an
// ARP packet, the target of a neighbour advertisement.
type sighting struct {
	index int
	addr  netip.Addr
	mac   net.HardwareAddr
	probe bool // a host asks whether it may claim the address
	aside bool // sent to this host only, in answer to a question
	time  time.Time
}

// maxUnheard is how many different sightings wait for Run at most.
const maxUnheard = 4096

// inbox collects the sightings until Run takes them. When a thousand addresses move, the
// new holder announces each of them while the Manager is busy removing them.
type inbox struct {
	mu   sync.Mutex
	list []claim
	at   map[likeness]int // in the list
}

// likeness is what alike sightings have in common: the inbox keeps the latest of them.
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
