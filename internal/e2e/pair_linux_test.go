package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/vrrp"
)

// holders is the set of nodes that have a router's addresses.
type holders uint8

const (
	nobody holders = 0
	lb01   holders = 1 << 0
	lb02   holders = 1 << 1
	both           = lb01 | lb02
)

func (h holders) String() string { return [...]string{"nobody", "LB-01", "LB-02", "both"}[h&both] }

// change is a new set of holders.
type change struct {
	at time.Time
	by holders
}

// pair is two nodes on a LAN, whose addresses are watched all the time.
type pair struct {
	t       *testing.T
	lab     *lab.Lab
	routers []virtualRouter
	nodes   [2]*node
	wire    *lab.Capture

	mu        sync.Mutex
	timelines [][]change // by router
	stalls    []stall
}

// stall is for how much too long the machine did not come to look.
type stall struct {
	at time.Time
	d  time.Duration
}

// newPair makes the hosts, LB-01 with the lesser addresses, and starts nothing.
func newPair(t *testing.T, peers [2]peer, routers []virtualRouter) *pair {
	t.Helper()
	l := lab.New(t)
	p := &pair{t: t, lab: l, routers: routers, timelines: make([][]change, len(routers))}
	for i := range p.nodes {
		h := l.MustHost(fmt.Sprintf("lb%02d", i+1), fmt.Sprintf("192.168.31.%d/24", 240+i), fmt.Sprintf("2001:db8:31::24%d/64", i))
		own, err := h.Addrs()
		if err != nil {
			t.Fatal(err)
		}
		link, err := h.Netlink().LinkByName("eth0")
		if err != nil {
			t.Fatal(err)
		}
		p.nodes[i] = &node{
			side: i, peer: peers[i], host: h, own: own, macs: []string{string(link.Attrs().HardwareAddr)},
			dir: t.TempDir(), routers: routers,
		}
		for j := range routers {
			if peers[i].mac != nil {
				p.nodes[i].macs = append(p.nodes[i].macs, string(peers[i].mac(&routers[j])))
			}
		}
	}
	p.nodes[0].other, p.nodes[1].other = p.nodes[1], p.nodes[0]
	lan, err := l.Segment("lan")
	if err != nil {
		t.Fatal(err)
	}
	p.wire, err = lan.Capture(func(f lab.Frame) bool { return lab.Protocol(112)(f) || lab.Protocol(51)(f) })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for last := time.Now(); ctx.Err() == nil; last = time.Now() {
			p.sample()
			time.Sleep(every)
			p.overdue(time.Since(last) - every)
		}
	}()
	queue, err := watchQueue(ctx, p.nodes[0].host, p.overdue)
	t.Cleanup(func() {
		cancel()
		<-done
		if queue != nil {
			<-queue
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// every is the time between two looks at who has the addresses.
const every = 4 * time.Millisecond

// overdue notes that a look, or a change to an interface, came late by d.
func (p *pair) overdue(d time.Duration) {
	if d < 10*every {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalls = append(p.stalls, stall{time.Now(), d})
}

// stalled tells by how much the looks were late since then: the nodes, on the
// same machine, may have been so too.
func (p *pair) stalled(then time.Time) time.Duration { return p.stalledBetween(then, time.Now()) }

// stalledBetween is stalled for the looks that were due between two times.
func (p *pair) stalledBetween(from, to time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return total(slices.Clone(p.stalls), from, to)
}

// total returns how long the stalls took that touch a time, each moment counted once.
func total(stalls []stall, from, to time.Time) (sum time.Duration) {
	slices.SortFunc(stalls, func(a, b stall) int { return a.at.Compare(b.at) })
	until := to.Add(time.Hour) // what is counted begins there
	for _, s := range slices.Backward(stalls) {
		begin := s.at.Add(-s.d)
		if !s.at.After(from) || !begin.Before(to) || !begin.Before(until) {
			continue
		}
		sum += min(s.d, until.Sub(begin))
		until = begin
	}
	return sum
}

// sample looks who has which addresses.
func (p *pair) sample() {
	by := make([]holders, len(p.routers))
	for i, n := range p.nodes {
		if n.peer.holds == nil {
			n.mark(by, 1<<i, p.routers)
			continue
		}
		for j := range p.routers {
			if n.peer.holds(n, &p.routers[j]) && !n.off.Load() {
				by[j] |= 1 << i
			}
		}
	}
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for j, tl := range p.timelines {
		if len(tl) == 0 || tl[len(tl)-1].by != by[j] {
			p.timelines[j] = append(tl, change{now, by[j]})
		}
	}
}

// mark sets bit for the routers all of whose addresses the node has.
func (n *node) mark(by []holders, bit holders, routers []virtualRouter) {
	addrs, err := n.host.Addrs()
	if err != nil || n.off.Load() {
		return
	}
	has := make(map[netip.Addr]bool, len(addrs))
	for _, a := range addrs {
		has[a.Addr()] = true
	}
	for j, r := range routers {
		if !slices.ContainsFunc(r.addresses, func(a netip.Prefix) bool { return !has[a.Addr()] }) {
			by[j] |= bit
		}
	}
}

// now is who has the addresses of each router.
func (p *pair) now() []holders {
	p.mu.Lock()
	defer p.mu.Unlock()
	by := make([]holders, len(p.timelines))
	for j, tl := range p.timelines {
		if len(tl) > 0 {
			by[j] = tl[len(tl)-1].by
		}
	}
	return by
}

// since tells for how long nobody and both had the addresses of router j since
// then, and how often that changed.
func (p *pair) since(j int, then time.Time) (none, two time.Duration, changes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	end := time.Now()
	for _, c := range slices.Backward(p.timelines[j]) {
		d := end.Sub(c.at)
		if c.at.Before(then) {
			d = max(0, end.Sub(then))
		} else {
			changes++
		}
		switch c.by {
		case nobody:
			none += d
		case both:
			two += d
		}
		if end = c.at; c.at.Before(then) {
			break
		}
	}
	return none, two, changes
}

// await waits until the addresses of every router are where they are wanted.
func (p *pair) await(what string, want func(r *virtualRouter) holders) {
	p.t.Helper()
	lab.Eventually(p.t, 30*time.Second, what, func() error {
		for j, by := range p.now() {
			if r := &p.routers[j]; by != want(r) {
				return fmt.Errorf("%s: %v, want %v", r.name, by, want(r))
			}
		}
		return nil
	})
}

// quiet watches for d that no address moves and that only those who have
// addresses advertise.
func (p *pair) quiet(what string, d time.Duration) {
	p.t.Helper()
	from, by := time.Now(), p.now()
	for time.Since(from) < d {
		time.Sleep(50 * time.Millisecond)
		for j, r := range p.routers {
			if _, _, changes := p.since(j, from); changes > 0 && p.stalled(from) < takeable {
				p.t.Fatalf("%s: %s: %v had the addresses, and now %v has (late by %v)", what, r.name, by[j], p.now()[j], p.stalled(from))
			}
		}
	}
	if p.stalled(from) >= takeable {
		return
	}
	for _, a := range p.advertisements(from) {
		if by[a.router]&(1<<a.node) == 0 {
			p.t.Errorf("%s: %s: LB-%02d advertises (priority %d), but %v has the addresses", what, p.routers[a.router].name, a.node+1, a.priority, by[a.router])
		}
	}
}

// advertisement is one that a node sent, whatever is said about its source.
type advertisement struct {
	at           time.Time
	node, router int
	priority     uint8
	mac          net.HardwareAddr // of the sender
}

// advertisements returns what the nodes have sent since then, oldest first.
func (p *pair) advertisements(then time.Time) []advertisement {
	var list []advertisement
	for _, f := range p.wire.Packets() {
		if f.Time.Before(then) {
			continue
		}
		src, dst, proto, payload, _ := f.IP()
		side := slices.IndexFunc(p.nodes[:], func(n *node) bool { return slices.Contains(n.macs, string(f.Data[6:12])) })
		if side < 0 {
			continue
		}
		// Where both use a virtual address, the source tells them apart.
		if other := p.nodes[side].other; slices.Contains(other.macs, string(f.Data[6:12])) && other.owns(src) {
			side = other.side
		}
		adv, _, err := vrrp.ParsePacket(&vrrp.Packet{Data: payload, Source: src, Destination: dst, Protocol: proto})
		if err != nil {
			p.t.Errorf("LB-%02d sent what is no advertisement: %v", side+1, err)
			continue
		}
		j := slices.IndexFunc(p.routers, func(r virtualRouter) bool { return r.vrid == adv.VRID && r.ipv6 == src.Is6() })
		if j >= 0 {
			list = append(list, advertisement{f.Time, side, j, adv.Priority, net.HardwareAddr(f.Data[6:12])})
		}
	}
	return list
}
