package vrrp

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"
)

// world is an in-memory network in virtual time: hosts on one LAN, or on two
// where each host's routers form a group. All that happens comes from rng, so a
// seed is a schedule.
type world struct {
	rng    *rand.Rand
	now    time.Duration
	queue  queue
	events int // so far
	hosts  []*host
	lans   int

	// side says which part of a LAN a host is on: those of one part hear each
	// other. deaf ones hear nobody.
	side [2][]int
	deaf [2][]bool

	base            time.Duration // the shortest interval of a host
	former          time.Duration // the longest that is a host's no more
	mixed           bool          // the hosts' intervals differ
	crossed         bool          // a host's priorities differ, too
	loss, duplicate float64
	delay           time.Duration // the longest
	jitter          time.Duration // by which timers fire late at most
	ordered         bool          // no packet overtakes another one of its host

	changed time.Duration // when a router last became or stopped being Active
	watch   func()        // called after each event; nil: nothing
	trace   *transcript   // nil: none
}

// host is a computer with a router on each LAN and a clock of its own.
type host struct {
	id         int
	rate       float64 // of its clock
	up, frozen bool
	stopping   bool // it is up until its routers have handed over
	group      *Group
	ports      []*port
	last       []time.Duration // when each host got the last packet from here
}

// port is one router of a host, and what is known of it from outside.
type port struct {
	w    *world
	host *host
	lan  int
	cfg  Config
	m    *Machine

	armed time.Time // the deadline that the queue knows of
	alarm int       // numbers the alarms: only the last one counts
	inbox []packet  // what arrives while the host is frozen

	state    State
	held     bool // the addresses are on the interface
	faulty   bool
	planned  bool      // the fault is one that was planned
	leaving  bool      // hands over
	offered  time.Time // the last priority 0, by the host's clock
	offers   int       // in this hand-over
	resigned bool
	priority uint8
	sent     time.Time // last advertisement, by the host's clock
	ready    time.Time // end of StartDelay, by the host's clock
	stalled  time.Time // when it last noticed that it had not run

	acquired, announced time.Duration
	released            time.Duration // 0: never, or without a last advertisement
}

// packet is an advertisement on its way.
type packet struct {
	from     *port
	priority uint8
}

// event is something that will happen: a packet arrives, or an alarm rings.
type event struct {
	at     time.Duration
	number int // keeps events of one time in order
	to     *port
	packet packet // from is nil: an alarm
	alarm  int
}

// failure is a broken rule, thrown by fail.
type failure string

func (w *world) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.note("BROKEN: %s", text)
	panic(failure(text))
}

func (w *world) note(format string, args ...any) {
	if w.trace != nil {
		w.trace.add(w.now, fmt.Sprintf(format, args...), true)
	}
}

// detail is a line that only matters close to the end.
func (w *world) detail(format string, args ...any) {
	if w.trace != nil {
		w.trace.add(w.now, fmt.Sprintf(format, args...), false)
	}
}

func (p *port) String() string {
	if p.w.lans == 1 {
		return fmt.Sprintf("host%d", p.host.id)
	}
	return fmt.Sprintf("host%d/lan%d", p.host.id, p.lan)
}

// address is where a host's advertisements come from.
func (h *host) address() netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(h.id)}) }

// clock reads a host's clock.
func (h *host) clock() time.Time {
	return epoch.Add(time.Duration(float64(h.ports[0].w.now) * h.rate))
}

// run lets virtual time pass.
func (w *world) run(d time.Duration) {
	until := w.now + d
	for len(w.queue) > 0 && w.queue[0].at <= until {
		e := w.queue.pop()
		w.now = e.at
		switch {
		case !e.to.host.up:
		case e.packet.from != nil && !w.hears(e.to.host, e.packet.from):
		case e.packet.from != nil:
			e.to.deliver(e.packet)
		case e.alarm == e.to.alarm && !e.to.host.frozen:
			e.to.step("tick", e.to.m.Tick)
		}
		if w.watch != nil {
			w.watch()
		}
	}
	w.now = until
}

// hears reports whether the LAN carries packets from a port to a host.
func (w *world) hears(h *host, from *port) bool {
	return w.side[from.lan][h.id] == w.side[from.lan][from.host.id] && !w.deaf[from.lan][h.id]
}

// broadcast sends an advertisement to everyone who can hear it.
func (p *port) broadcast(priority uint8) {
	w := p.w
	for _, h := range w.hosts {
		if h == p.host || !w.hears(h, p) {
			continue
		}
		copies := 1
		if w.chance(w.loss) {
			copies = 0
		} else if w.chance(w.duplicate) {
			copies = 2
		}
		for range copies {
			at := w.now + w.upTo(w.delay)
			if w.ordered {
				at = max(at, p.host.last[h.id])
				p.host.last[h.id] = at
			}
			w.push(event{at: at, to: h.ports[p.lan], packet: packet{p, priority}})
		}
	}
}

// deliver hands a packet to the machine, or to the socket of a frozen host.
func (p *port) deliver(pkt packet) {
	if p.host.frozen {
		if len(p.inbox) < 50 {
			p.inbox = append(p.inbox, pkt)
		}
		return
	}
	if p.w.trace != nil {
		p.w.detail("%v receives %d from %v", p, pkt.priority, pkt.from)
	}
	adv := Advertisement{
		Source:   pkt.from.host.address(),
		Version:  p.cfg.Version,
		Priority: pkt.priority,
		Interval: pkt.from.cfg.Interval,
	}
	leaving := p.leaving
	p.step("receive", func(now time.Time) []Action { return p.m.Receive(now, &adv) })
	if leaving && p.host.up && p.held && p.acquired != p.w.now { // an owner takes them again
		p.w.fail("%v keeps the addresses that %v has", p, pkt.from)
	}
}

// step uses the machine once, as a Router does, and lets the group follow.
func (p *port) step(what string, use func(time.Time) []Action) {
	now := p.host.clock()
	p.perform(what, use(now))
	if p.host.group != nil {
		p.host.group.settle(now)
	}
	for _, q := range p.host.ports {
		q.inspect(now, what == "tick" && q == p)
		q.rearm(now)
	}
	p.host.endIfLeft()
}

// rearm puts the machine's deadline into the queue.
func (p *port) rearm(now time.Time) {
	deadline, ok := p.m.Deadline()
	if !ok || deadline.Equal(p.armed) {
		if !ok {
			p.alarm++
			p.armed = time.Time{}
		}
		return
	}
	if deadline.Before(now) {
		p.w.fail("%v: timer armed %v in the past", p, now.Sub(deadline))
	}
	p.armed = deadline
	p.alarm++
	in := time.Duration(float64(deadline.Sub(now))/p.host.rate) + time.Nanosecond
	p.w.push(event{at: p.w.now + in + p.w.upTo(p.w.jitter), to: p, alarm: p.alarm})
}

// start boots a host that is down.
func (h *host) start() {
	w := h.ports[0].w
	w.note("host%d starts", h.id)
	h.up, h.frozen, h.stopping = true, false, false
	h.group = nil
	if w.lans > 1 {
		h.group = NewGroup("G")
	}
	for _, p := range h.ports {
		m, err := NewMachine(p.cfg)
		if err != nil {
			panic(err)
		}
		p.m, p.priority, p.ready = m, p.cfg.Priority, h.clock().Add(p.cfg.StartDelay)
		p.state, p.held, p.faulty, p.resigned, p.planned, p.leaving = Initialize, false, false, false, false, false
		p.armed, p.sent, p.stalled, p.inbox = time.Time{}, time.Time{}, time.Time{}, nil
		p.alarm++
		if h.group != nil {
			h.group.joinMachine(m, func(actions []Action) { p.perform("group", actions) })
		}
	}
	for _, p := range h.ports {
		p.step("start", p.m.Start)
	}
}

// crash ends a host without a last advertisement.
func (h *host) crash() {
	h.ports[0].w.note("host%d crashes", h.id)
	h.up = false
	h.gone()
}

// shutdown ends a host in good order.
func (h *host) shutdown() {
	h.ports[0].w.note("host%d shuts down", h.id)
	for _, p := range h.ports {
		p.step("shutdown", p.m.Shutdown)
	}
	h.stopping = true
	h.endIfLeft()
}

// endIfLeft ends a host that shuts down when all of its routers have handed over.
func (h *host) endIfLeft() {
	for _, p := range h.ports {
		if !h.stopping || p.m.started {
			return
		}
	}
	h.up, h.stopping = false, false
	h.gone()
}

func (h *host) gone() {
	for _, p := range h.ports {
		if p.state == Active {
			p.w.changed = p.w.now
		}
		p.state, p.held = Initialize, false
	}
}

// thaw lets a frozen host run on. Sockets are read before timers are looked
// at, or not: a Router has more than one goroutine.
func (h *host) thaw() {
	w := h.ports[0].w
	w.note("host%d thaws", h.id)
	h.frozen = false
	timersFirst := w.chance(0.3)
	for range 2 {
		for _, p := range h.ports {
			if timersFirst && h.up {
				p.step("tick", p.m.Tick)
				continue
			}
			inbox := p.inbox
			p.inbox = nil
			for _, pkt := range inbox {
				if h.up {
					p.deliver(pkt)
				}
			}
		}
		timersFirst = !timersFirst
	}
	for _, p := range h.ports {
		p.armed = time.Time{} // alarms meanwhile were missed
		p.rearm(h.clock())
	}
}

func (w *world) chance(p float64) bool { return p > 0 && w.rng.Float64() < p }

// upTo returns a random duration up to d.
func (w *world) upTo(d time.Duration) time.Duration {
	return time.Duration(w.rng.Int64N(int64(d) + 1))
}

func (w *world) push(e event) {
	w.events++
	e.number = w.events
	w.queue.push(e)
}

// queue is a heap of events, the next one first.
type queue []event

func (q queue) less(i, j int) bool {
	if q[i].at != q[j].at {
		return q[i].at < q[j].at
	}
	return q[i].number < q[j].number
}

func (q *queue) push(e event) {
	*q = append(*q, e)
	h := *q
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if !h.less(i, parent) {
			break
		}
		h[i], h[parent] = h[parent], h[i]
		i = parent
	}
}

func (q *queue) pop() event {
	h := *q
	first, last := h[0], len(h)-1
	h[0] = h[last]
	h = h[:last]
	*q = h
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			break
		}
		if child+1 < last && h.less(child+1, child) {
			child++
		}
		if !h.less(child, i) {
			break
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
	return first
}
