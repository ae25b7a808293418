package vip

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

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
