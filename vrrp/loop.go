package vrrp

import (
	"errors"
	"math"
	"os"
	"slices"
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

// routerTask is a task for the worker of a router.
type routerTask struct {
	router *Router
	task   task
}

// loop runs the routers of a Conn that use one IP protocol. Its goroutine waits for
// packets until the earliest deadline of a machine. Other goroutines use a machine with
// the Conn's lock held, and bring the read's deadline forward if necessary.
type loop struct {
	conn     *Conn
	protocol uint8

	// Guarded by conn.mu.
	deadlines [256]time.Duration // by VRID: when a machine must be run, since conn.base
	adv       Advertisement      // parsed into
	out       []Packet           // the queued packets
	senders   []*Router          // of the packets in out
	buf       []byte             // of the packets in out
	tasks     []routerTask       // for workers, once out was sent
	left      []*Router          // that end then

	// wakeMu is also taken by goroutines of other Conns, which hold Group.mu.
	wakeMu sync.Mutex
	pc     PacketConn
	armed  time.Time // the read's deadline
	woken  []*Router // routers that a group has moved
}

// never is the deadline of a router whose machine waits for no time.
const never = time.Duration(math.MaxInt64)

func newLoop(c *Conn, pc PacketConn, protocol uint8) *loop {
	l := &loop{conn: c, pc: pc, protocol: protocol}
	for i := range l.deadlines {
		l.deadlines[i] = never
	}
	return l
}

// nextDeadline returns the earliest deadline; zero: there is none. conn.mu is held.
func (l *loop) nextDeadline() (at time.Time) {
	if next := slices.Min(l.deadlines[:]); next != never {
		at = l.conn.base.Add(next)
	}
	return at
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
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			l.noteReadError(pc, err)
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
	if c.isClosed() {
		return nil
	}
	at := l.nextDeadline()
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
	at := l.nextDeadline()
	if at.IsZero() {
		return
	}
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

// noteReadError logs an error of pc, and rests: timers go on at this pace if the error
// lasts. An error of a socket that was closed or replaced means nothing.
func (l *loop) noteReadError(pc PacketConn, err error) {
	l.conn.mu.Lock()
	expected := l.conn.isClosed() || l.pc != pc
	l.conn.mu.Unlock()
	if expected {
		return
	}
	l.conn.log.Warn("receiving advertisements", "interface", l.conn.name, "err", err, noteLimit.By(l))
	time.Sleep(10 * time.Millisecond)
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
		drop := err.(*DropError)
		comes := r.suspects(drop, now)
		r.countDiscard(drop, now)
		if comes {
			r.step(now, func(now time.Time) []Action { return r.machine.suspectSuccessor(now, drop.Source) })
		}
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
	for vrid, at := range l.deadlines[:] {
		if at <= due {
			r := l.conn.routers[vrid]
			r.step(now, r.machine.Tick)
		}
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
	framed, n := ps[0].HardwareSource != nil, 1
	for n < len(ps) && (ps[n].HardwareSource != nil) == framed {
		n++
	}
	if framed && l.conn.frames != nil {
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
	for _, t := range l.tasks {
		t.router.work.pushTask(t.task)
	}
	clear(l.tasks)
	l.tasks = l.tasks[:0]
	for _, r := range l.left {
		r.detach()
	}
	clear(l.left)
	l.left = l.left[:0]
}
