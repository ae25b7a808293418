package admin

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/havip/havip/internal/retry"
)

// lookEvery is how often a door looks whether its place is still its own.
const lookEvery = 10 * time.Second

// place is where a door listens. It is comparable; the zero value is nowhere.
type place struct{ address, group string }

// doorKind is what differs between the socket and TCP.
type doorKind interface {
	// want is where the configuration has the door.
	want(*settings) place
	// open listens there. old, if it is not nil, still does elsewhere; open closes its
	// listener only if the new one cannot be had beside it.
	open(ctx context.Context, at place, old *gate) (*listener, error)
	// regroup opens a place that stays to another group.
	regroup(at place)
	// complain is the level at which a failure is logged.
	complain(*settings) slog.Level
	name() string
}

// listener is an open place.
type listener struct {
	net.Listener
	close func()      // in the place of Listener's; may be called again
	lost  func() bool // reports whether clients do not find the place any more
}

// door keeps a listener where the configuration wants one.
type door struct {
	doorKind
	s       *Server
	changed chan struct{}
	closing sync.WaitGroup // of gates that are not needed any more
	said    string         // the failure that was logged last
	gate    atomic.Pointer[gate]
}

func newDoor(s *Server, kind doorKind) *door {
	return &door{doorKind: kind, s: s, changed: make(chan struct{}, 1)}
}

// poke has the door look at the configuration.
func (d *door) poke() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// run keeps the door until ctx ends.
func (d *door) run(ctx context.Context) {
	defer d.closing.Wait()
	var now *gate
	defer func() { d.retire(now) }()
	pause := retry.First
	for ctx.Err() == nil {
		next := d.follow(ctx, now)
		wait := lookEvery
		switch missing := next == nil && d.want(d.s.settings.Load()) != (place{}); {
		case missing:
			wait, pause = pause, min(2*pause, retry.Last)
		default:
			pause = retry.First
		}
		now = next
		d.gate.Store(now)
		d.rest(ctx, now, wait)
	}
}

// follow brings the door to where the configuration wants it, and returns what then
// serves. If that fails the gate of before goes on, unless its place is to be none.
func (d *door) follow(ctx context.Context, now *gate) *gate {
	set := d.s.settings.Load()
	at := d.want(set)
	if at == (place{}) {
		d.retire(now)
		return nil
	}
	if now != nil && now.at == at && !now.l.lost() && !now.dead() {
		return now
	}
	if now != nil && now.at.address == at.address && !now.l.lost() && !now.dead() {
		now.at = at
		d.regroup(at)
		return now
	}
	l, err := d.open(ctx, at, now)
	if err != nil {
		if said := fmt.Sprint(at, err); said != d.said && ctx.Err() == nil {
			d.said = said
			d.s.log.Log(ctx, d.complain(set), "admin: cannot listen", d.name(), at.address, "err", err)
		}
		if now != nil && now.dead() {
			d.retire(now)
			return nil
		}
		return now
	}
	d.said = ""
	d.s.log.Info("admin: listening", d.name(), at.address)
	next := d.s.serve(l, at)
	d.retire(now)
	return next
}

// retire has a gate, which may be nil, end beside what follows it.
func (d *door) retire(g *gate) {
	if g != nil {
		d.closing.Go(g.end)
	}
}

// rest waits until there may be something to do.
func (d *door) rest(ctx context.Context, now *gate, wait time.Duration) {
	var failed <-chan struct{}
	if now != nil {
		failed = now.failed
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-d.changed:
	case <-failed:
	case <-timer.C:
	}
}

// tcpDoor is the TCP listener.
type tcpDoor struct{ s *Server }

func (tcpDoor) name() string                  { return "listen" }
func (tcpDoor) complain(*settings) slog.Level { return slog.LevelWarn }
func (t tcpDoor) want(set *settings) (at place) {
	if set.Listen.Port() != 0 {
		at.address = fmt.Sprintf(":%d", set.Listen.Port())
		if set.Listen.Addr().IsValid() {
			at.address = set.Listen.String()
		}
	}
	return at
}

func (tcpDoor) regroup(place) {} // TCP has none

func (t tcpDoor) open(ctx context.Context, at place, old *gate) (*listener, error) {
	if files := t.s.settings.Load().files; files != nil {
		if _, err := files.current(t.s.log); err != nil {
			return nil, err
		}
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", at.address)
	if err != nil && old != nil {
		// A wildcard, or an address below it, has the port.
		old.l.close()
		l, err = new(net.ListenConfig).Listen(ctx, "tcp", at.address)
	}
	if err != nil {
		return nil, err
	}
	return &listener{l, sync.OnceFunc(func() { l.Close() }), func() bool { return false }}, nil
}
