package vrrp

import (
	"container/heap"
	"errors"
	"os"
	"sync"
	"time"
)

const (
	// readBatch is how many packets are read before the machines hear them.
	readBatch = 64
	// drainBatches bounds how many full batches are received before overdue
	// timers run all the same: more than a socket's buffer holds.
	drainBatches = 256

	// Thousands of packets a second that come one by one would cost a wake-up each.
	// After paceRounds rounds that followed each other faster than pace, the loop
	// rests for pace between rounds and finds many packets at once. A tenth of the
	// shortest interval is no harm to any timer.
	pace       = time.Millisecond
	paceRounds = 16
)

// past is a deadline that interrupts a read.
var past = time.Unix(1, 0)

// loop runs the routers of a Conn that use one IP protocol. Its goroutine waits for
// packets until the earliest deadline of a machine. Other goroutines use a machine with
// the Conn's lock held, and bring the read's deadline forward if necessary.
type loop struct {
	conn     *Conn
	protocol uint8

	// Guarded by conn.mu.
	deadlines deadlines
	adv       Advertisement // parsed into
	out       []Packet      // the queued packets
	senders   []*Router     // of the packets in out
	buf       []byte        // of the packets in out
	touched   []*Router     // routers with tasks for their workers

	// wakeMu is also taken by goroutines of other Conns, which hold Group.mu.
	wakeMu sync.Mutex
	pc     PacketConn
	armed  time.Time // the read's deadline
	woken  []*Router // routers that a group has moved
}

func newLoop(c *Conn, pc PacketConn, protocol uint8) *loop {
	return &loop{conn: c, pc: pc, protocol: protocol}
}

// run is the loop's goroutine. It ends when the Conn is closed.
func (l *loop) run() {
	in := make([]Packet, readBatch)
	full, hasty := 0, 0
	var last time.Time // when the last round began
	for {
		if hasty >= paceRounds && full == 0 {
			time.Sleep(pace)
		}
		pc := l.armRead()
		if pc == nil {
			return
		}
		n, err := pc.ReadBatch(in)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !l.survivesError(pc, err) {
			return
		}
		if full++; n < len(in) {
			full = 0
		}
		l.conn.mu.Lock()
		now := time.Now()
		for i := range in[:n] {
			l.receivePacket(&in[i], now)
		}
		// A machine must hear what has arrived before an overdue timer runs. A
		// process that was stopped for a while would otherwise believe that
		// its peers were silent.
		if full%drainBatches == 0 {
			l.runTimers(now)
		}
		switch quick := now.Sub(last) < pace; {
		case n == 0, n == 1 && !quick:
			hasty = 0
		case quick:
			hasty++
		}
		last = now
		l.sendQueued()
		l.conn.mu.Unlock()
	}
}

// armRead sets the read's deadline and returns the socket, or nil when the Conn is closed.
func (l *loop) armRead() PacketConn {
	c := l.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	var at time.Time
	if len(l.deadlines) > 0 {
		at = c.base.Add(l.deadlines[0].deadline)
	}
	l.wakeMu.Lock()
	defer l.wakeMu.Unlock()
	if len(l.woken) > 0 {
		at = past
	}
	if at != l.armed {
		l.armed = at
		l.pc.SetReadDeadline(at)
	}
	return l.pc
}

// advanceDeadline brings the read's deadline forward to the earliest of the machines'.
// conn.mu is held.
func (l *loop) advanceDeadline() {
	if len(l.deadlines) == 0 {
		return
	}
	at := l.conn.base.Add(l.deadlines[0].deadline)
	l.wakeMu.Lock()
	defer l.wakeMu.Unlock()
	if l.armed.IsZero() || at.Before(l.armed) {
		l.armed = at
		l.pc.SetReadDeadline(at)
	}
}

// wakeFor makes the loop look at r, which a group has moved.
func (l *loop) wakeFor(r *Router) {
	l.wakeMu.Lock()
	defer l.wakeMu.Unlock()
	l.woken = append(l.woken, r)
	l.armed = past
	l.pc.SetReadDeadline(past)
}

// replaceSocket closes the loop's socket and puts another in its place. conn.mu is held.
func (l *loop) replaceSocket(pc PacketConn) {
	l.wakeMu.Lock()
	old := l.pc
	l.pc = pc
	l.armed = time.Time{} // a new socket has none
	l.wakeMu.Unlock()
	old.Close()
	l.advanceDeadline()
}

// survivesError reports whether the loop goes on after an error of pc.
func (l *loop) survivesError(pc PacketConn, err error) bool {
	l.conn.mu.Lock()
	closed, replaced := l.conn.closed, l.pc != pc
	l.conn.mu.Unlock()
	if closed {
		return false
	}
	if replaced {
		return true
	}
	l.conn.log.Warn("receiving advertisements", "interface", l.conn.name, "err", err, noteLimit.By(l))
	// timers go on at this pace if the error lasts
	time.Sleep(10 * time.Millisecond)
	return true
}

// receivePacket passes p to the router with its VRID. conn.mu is held.
func (l *loop) receivePacket(p *Packet, now time.Time) {
	vrid, ok := peekVRID(p)
	r := l.conn.routers[vrid]
	if !ok {
		l.conn.counters.dropped[DropShort]++
		return
	}
	if r == nil {
		l.conn.counters.dropped[DropVRID]++
		l.hearForeign(vrid, p, now)
		return
	}
	if err := r.wire.parse(&l.adv, p, now); err != nil {
		r.countDiscard(err.(*DropError), now)
		return
	}
	if r.debugs() {
		r.log.Debug("advertisement heard", "from", l.adv.Source, "priority", l.adv.Priority, "interval", l.adv.Interval)
	}
	r.step(now, func(now time.Time) []Action {
		if !r.heeds(&l.adv, now) {
			return nil
		}
		r.noteHeard(&l.adv, now)
		return r.machine.Receive(now, &l.adv)
	})
}

// runTimers runs the machines that are due, and those that a group has moved.
// conn.mu is held.
func (l *loop) runTimers(now time.Time) {
	l.wakeMu.Lock()
	woken := l.woken
	l.woken = nil
	l.wakeMu.Unlock()
	for _, r := range woken {
		r.step(now, func(time.Time) []Action { return nil })
	}
	due := now.Sub(l.conn.base)
	// After Tick no machine has a deadline in the past. The bound is against a fault
	// in that rule.
	for range 2 * len(l.deadlines) {
		if len(l.deadlines) == 0 || l.deadlines[0].deadline > due {
			return
		}
		r := l.deadlines[0]
		r.step(now, r.machine.Tick)
	}
}

// queueAdvertisement queues an advertisement of r to each of its destinations. conn.mu is
// held.
func (l *loop) queueAdvertisement(r *Router, priority uint8, now time.Time) {
	for _, dst := range r.to {
		p, buf, err := r.packet(l.buf, priority, dst, now)
		if err != nil {
			r.sendFailed(err)
			continue
		}
		if r.debugs() {
			r.log.Debug("advertisement sent", "to", dst, "priority", priority)
		}
		l.buf = buf // earlier packets keep their memory
		l.out = append(l.out, p)
		l.senders = append(l.senders, r)
	}
}

// nextRun returns the packets at the head of ps that leave by the same socket, and that
// socket. conn.mu is held.
func (l *loop) nextRun(ps []Packet) (packetWriter, []Packet) {
	if l.conn.frames == nil {
		return l.pc, ps
	}
	framed, n := ps[0].HardwareSource != nil, 1
	for n < len(ps) && (ps[n].HardwareSource != nil) == framed {
		n++
	}
	if framed {
		return l.conn.frames, ps[:n]
	}
	return l.pc, ps[:n]
}

// sendQueued sends the queued packets, and then gives the routers' tasks to their workers:
// peers hear of a new Active router before it touches an address. conn.mu is held.
func (l *loop) sendQueued() {
	for done := 0; done < len(l.out); {
		w, run := l.nextRun(l.out[done:])
		n, err := w.WriteBatch(run)
		for _, r := range l.senders[done : done+n] {
			r.status.counters.Sent++
		}
		if done += n; err != nil && done < len(l.out) {
			r, last := l.senders[done], l.out[done]
			if r.sourceless {
				err = l.conn.forceOut(last)
			}
			if err != nil {
				r.sendFailed(err)
			} else {
				r.status.counters.Sent++
			}
			done++
		}
	}
	clear(l.out)
	clear(l.senders)
	l.out, l.senders, l.buf = l.out[:0], l.senders[:0], l.buf[:0]
	for _, r := range l.touched {
		r.deliverTasks()
	}
	clear(l.touched)
	l.touched = l.touched[:0]
}

// deadlines is a heap of the routers whose machine has a deadline. The place of a router
// is its index plus one; 0: it is not in the heap.
type deadlines []*Router

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].deadline < d[j].deadline }

func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].place, d[j].place = i+1, j+1
}

// Push and Pop are for package heap.
func (d *deadlines) Push(x any) {
	*d = append(*d, x.(*Router))
	x.(*Router).place = len(*d)
}

func (d *deadlines) Pop() any {
	last := len(*d) - 1
	r := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	r.place = 0
	return r
}

// set puts r where its deadline at belongs.
func (d *deadlines) set(r *Router, at time.Duration) {
	switch {
	case r.place == 0:
		r.deadline = at
		heap.Push(d, r)
	case r.deadline != at:
		r.deadline = at
		heap.Fix(d, r.place-1)
	}
}

func (d *deadlines) remove(r *Router) {
	if r.place > 0 {
		heap.Remove(d, r.place-1)
	}
}
