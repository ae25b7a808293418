package lb

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/lb/internal/reactor"
)

// greetings are the connections of a loop whose PROXY header is awaited.
type greetings struct {
	loop   *httpLoop
	all    []*greeting // by slot; nil: unused
	unused []int32     // slots
	serial int32       // of the latest mark
	timers reactor.Timers[*greeting]
}

// greeting is one of them.
type greeting struct {
	arrival
	slot, mark int32
	need       int // how much of the beginning is needed at least
	timer      reactor.Timer[*greeting]
}

// place is that of a slot among the descriptors of the loop, below the listener's.
func (g *greeting) place() int32 { return placeListener - 1 - g.slot }

// await reads the header of a, before the loop goes on with it.
func (gs *greetings) await(a arrival) {
	gs.serial++
	g := &greeting{arrival: a, mark: gs.serial}
	if n := len(gs.unused); n > 0 {
		g.slot = gs.unused[n-1]
		gs.unused = gs.unused[:n-1]
		gs.all[g.slot] = g
	} else {
		g.slot = int32(len(gs.all))
		gs.all = append(gs.all, g)
	}
	g.timer.Owner = g
	gs.timers.Set(&g.timer, gs.loop.Now(), defaultHandshakeTimeout)
	if errno := gs.loop.Watch(g.fd, reactor.Readable, g.place(), g.mark); errno != 0 {
		gs.refuse(g, errno)
	}
}

// read reads from a connection that an event is about.
func (gs *greetings) read(ev reactor.Event) {
	slot := placeListener - 1 - ev.Fd
	if int(slot) >= len(gs.all) || gs.all[slot] == nil || gs.all[slot].mark != ev.Pad {
		return // of a descriptor that was closed in this very round
	}
	g := gs.all[slot]
	var buf [1024]byte
	n, errno := reactor.Read(g.fd, buf[:])
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
		return
	case errno != 0 || n == 0:
		gs.refuse(g, errEarlyEnd)
		return
	}
	if g.early = append(g.early, buf[:n]...); len(g.early) < g.need {
		return
	}
	used, err := g.origin.parseProxy(g.early)
	switch err {
	case nil:
		gs.loop.Unwatch(g.fd)
		g.early = g.early[used:]
		gs.drop(g)
		gs.loop.welcome(g.arrival)
	case io.ErrUnexpectedEOF:
		g.need = used
	default:
		gs.refuse(g, err)
	}
}

// errEarlyEnd: the client has left before it has said what tells where its connection goes.
var errEarlyEnd = errors.New("ended before its beginning was complete")

// refuse closes a connection that does not begin as it must.
func (gs *greetings) refuse(g *greeting, err error) {
	gs.loop.in.counters.refused.Add(1)
	g.cfg.gate.log.Warn("connection refused", "client", g.origin.client, "err", err)
	if len(g.early) > 0 { // who says nothing checks whether the port is open, maybe
		gs.loop.e.settings().recordGarbage(&requestOrigin{client: g.origin.client}, 0, err, firstLine(g.early))
	}
	gs.drop(g)
	gs.loop.dismiss(g.arrival)
}

// drop forgets g.
func (gs *greetings) drop(g *greeting) {
	gs.timers.Stop(&g.timer)
	gs.all[g.slot] = nil
	gs.unused = append(gs.unused, g.slot)
	if len(gs.unused) == len(gs.all) {
		gs.all, gs.unused = nil, nil
	}
}

// expire refuses those that have waited for too long.
func (gs *greetings) expire() {
	for t := gs.timers.Expired(gs.loop.Now()); t != nil; t = gs.timers.Expired(gs.loop.Now()) {
		gs.refuse(t.Owner, errors.New("its beginning did not come in time"))
	}
}

// dismissAll closes all of them.
func (gs *greetings) dismissAll() {
	for _, g := range gs.all {
		if g != nil {
			gs.drop(g)
			gs.loop.dismiss(g.arrival)
		}
	}
}
