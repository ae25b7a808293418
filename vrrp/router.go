package vrrp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/havip/havip/internal/inet"
	"github.com/havip/havip/internal/quietlog"
)

// Router is one virtual router: a [Machine] on a [Conn], and a [Handler] that
// has the addresses. Its methods may be called from any goroutine, also before
// Run.
type Router struct {
	name    string
	conn    *Conn
	handler Handler
	log     *slog.Logger
	report  func(Transition)    // Config.OnTransition
	leave   func(now time.Time) // the group
	work    *worker             // for the Handler
	asides  *quietlog.Calls     // for lines that take a question
	news    *worker             // for OnTransition
	mac     net.HardwareAddr    // with VirtualMAC

	// Guarded by conn.mu; the machine, if it is in a group, by that as well.
	cfg     Config
	machine *Machine
	wire    *wire
	loop    *loop
	phase   phase
	called  bool  // Run was called and has not returned
	outside bool  // of its group: Run has failed
	err     error // what Run returns
	// source is the address to send from, the last one that was known if the
	// router is sourceless; to is where to send to. home is the first one that
	// is no virtual address.
	source     netip.Addr
	home       netip.Addr
	sourceless bool
	to         []netip.Addr
	linkFault  string
	holds      map[string]int // reasons given to Hold, and how often
	awaited    map[string]int // the same for Await
	addresses  acquisition
	told       []task // to be delivered after what is queued was sent
	status     status

	deadline time.Duration // since conn.base
	place    int           // in loop.deadlines

	moved []Action // by the group; guarded by its mutex
}

// phase is how far a Router has come.
type phase uint8

const (
	created phase = iota
	running
	stopped
)

// NewRouter makes a virtual router on conn, whose family must be that of
// cfg. h owns the addresses. Nil: there are none, or their owner follows
// Config.OnTransition.
func NewRouter(cfg Config, conn *Conn, h Handler) (*Router, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	if conn == nil {
		return nil, fmt.Errorf("vrrp: %s: no Conn: want one of Listen", cfg.Name)
	}
	if fam := cfg.family(); fam != conn.family {
		return nil, fmt.Errorf("vrrp: %s: %v addresses, but the Conn on %s is for %v", cfg.Name, fam, conn.name, conn.family)
	}
	r := &Router{
		name:    cfg.Name,
		cfg:     cfg,
		conn:    conn,
		handler: h,
		log:     cfg.Logger.With("router", cfg.Name),
		report:  cfg.OnTransition,
		leave:   func(time.Time) {},
		work:    newWorker(),
		asides:  quietlog.NewCalls(),
		news:    newWorker(),
		holds:   make(map[string]int),
		awaited: make(map[string]int),
	}
	if cfg.VirtualMAC {
		r.mac = inet.VirtualMAC(cfg.VRID, cfg.family() == familyIPv6)
	}
	if r.machine, err = NewMachine(cfg); err != nil {
		return nil, err
	}
	if l, ok := h.(Lessee); ok {
		r.machine.lapsed = l.Lapsed
	}
	r.wire = newWire(&r.cfg)
	r.join()
	return r, nil
}

// join makes the router a member of its group.
func (r *Router) join() {
	if g := r.cfg.Group; g != nil {
		r.leave = g.join(r.machine, r.movedByGroup)
	}
}

// Run takes part in the election until ctx is done. It then sends an
// advertisement of priority 0 if the router is Active, lets the Handler release
// the addresses, and returns nil when the last call of Config.OnTransition has
// returned, too.
//
// It returns an error if the Conn cannot take the router, for instance
// [ErrVRIDInUse], see [Router.Reserve]: then Run may be called again, and until then
// a Group goes on without the router. The error is [ErrClosed] if the Conn was closed
// before, or is closed while the router runs. Once on its Conn, a Router does not run
// again: the error is [ErrRunTwice], also while the first Run lasts.
func (r *Router) Run(ctx context.Context) error {
	if ctx == nil {
		return fmt.Errorf("vrrp: %s: no context", r.name)
	}
	if err := r.beginRun(); err != nil {
		return err
	}
	defer r.endRun()
	if ctx.Err() != nil {
		r.abandon()
		return nil
	}
	release, err := r.Reserve(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		r.abandon()
		return nil
	case err != nil:
		return err
	}
	defer release()
	defer r.watchHandler(ctx)()
	if ctx.Err() != nil {
		r.abandon()
		return nil
	}
	if err := r.start(); err != nil {
		r.waitOutside()
		return fmt.Errorf("vrrp: %s: %w", r.name, err)
	}
	unregister := context.AfterFunc(ctx, func() { r.shutdown(context.Cause(ctx)) })
	defer unregister()
	var told sync.WaitGroup
	told.Go(func() { r.news.report(r.report) })
	for {
		e, ctx, ok := r.work.next()
		if !ok {
			break
		}
		r.carryOut(ctx, e)
	}
	r.news.close()
	told.Wait()
	r.asides.Wait()
	quietlog.Flush(r.log)
	return r.err
}

// beginRun lets one Run at a time begin, and none after one that ran.
func (r *Router) beginRun() error {
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	if r.called || r.phase != created {
		return fmt.Errorf("vrrp: %s: %w", r.name, ErrRunTwice)
	}
	r.called = true
	return nil
}

func (r *Router) endRun() {
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	r.called = false
}

// abandon ends a router that has not run: its group does not wait for it any
// more.
func (r *Router) abandon() {
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	if r.phase == created {
		r.phase = stopped
		r.leave(time.Now())
	}
}

// waitOutside leaves the group until Run is called again.
func (r *Router) waitOutside() {
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	if r.phase == created && !r.outside {
		r.outside = true
		r.leave(time.Now())
	}
}

// start puts the router on its Conn.
func (r *Router) start() error {
	r.conn.update()
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	l, err := r.conn.attach(r)
	if err != nil {
		return err
	}
	if r.outside {
		r.outside = false
		r.join()
	}
	r.step(time.Now(), func(time.Time) []Action {
		r.loop = l // the group looks at it
		return nil
	})
	r.phase = running
	r.conn.refresh()
	r.logStart()
	r.useLocked(r.machine.Start)
	return nil
}

// shutdown ends Run, for a reason.
func (r *Router) shutdown(why error) {
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	r.stop(why, nil)
}

// stop is shutdown with conn.mu held. Run will return err.
func (r *Router) stop(why, err error) {
	if r.phase != running {
		return
	}
	now := time.Now()
	r.step(now, func(now time.Time) []Action {
		actions := r.machine.Shutdown(now)
		if errors.Is(why, ErrReconfigured) {
			for i := range actions {
				if actions[i].Kind == Changed {
					_, what, _ := strings.Cut(why.Error(), ErrReconfigured.Error()+": ")
					actions[i].Transition.Cause, actions[i].Transition.Reason = CauseReconfigured, what
				}
			}
		}
		return actions
	})
	r.leave(now)
	r.loop.flush()
	r.conn.detach(r)
	r.phase = stopped
	r.err = err
	r.addresses.stop()
	r.work.close()
}

// step calls f, which may use the machine, carries out the actions that f returns, lets
// the group follow, and re-arms the router's timer. f is called with the group's lock
// held. conn.mu is held.
func (r *Router) step(now time.Time, f func(now time.Time) []Action) {
	g := r.cfg.Group
	if g != nil {
		g.mu.Lock()
		defer g.mu.Unlock()
		r.catchUp()
	}
	r.do(now, f(now))
	if g != nil {
		g.settle(now)
		r.catchUp()
	}
	r.observeSplit()
	r.observeFault()
	if r.loop == nil || r.phase == stopped {
		return
	}
	if at, ok := r.machine.Deadline(); ok {
		r.loop.deadlines.set(r, at.Sub(r.conn.base))
	} else {
		r.loop.deadlines.remove(r)
	}
}

// movedByGroup keeps the actions for the router's own loop: the one that has
// brought them about may be another Conn's.
func (r *Router) movedByGroup(actions []Action) {
	r.moved = append(r.moved, actions...)
	if r.loop != nil {
		r.loop.wake(r)
	}
}

// catchUp does what the group left to do. The group's mutex is held, and
// conn.mu.
func (r *Router) catchUp() {
	if len(r.moved) > 0 {
		r.do(time.Now(), r.moved)
		r.moved = r.moved[:0]
	}
}

// do carries out actions, as far as that is possible here and now.
func (r *Router) do(now time.Time, actions []Action) {
	for _, a := range actions {
		switch a.Kind {
		case Send:
			r.loop.send(r, a.Priority, now)
		case Changed:
			r.changed(&a.Transition)
			r.logState(a.Transition)
			r.tell(task{kind: Changed, transition: a.Transition})
		case Acquire:
			r.tell(task{kind: Acquire, id: r.addresses.begin(r.acquireFailed)})
		case Release:
			r.addresses.end()
			r.tell(task{kind: Release})
		default:
			r.tell(task{kind: a.Kind})
		}
	}
}

// tell keeps a task until what is queued has been sent: the others hear of a
// new Active router before it touches an address.
func (r *Router) tell(e task) {
	if len(r.told) == 0 {
		r.loop.touched = append(r.loop.touched, r)
	}
	r.told = append(r.told, e)
}

// deliver is called by the loop when everything was sent.
func (r *Router) deliver() {
	for _, e := range r.told {
		r.work.push(e)
	}
	clear(r.told)
	r.told = r.told[:0]
}

// use lets f use the machine, sends what comes of it and adjusts the timer.
func (r *Router) use(f func(now time.Time) []Action) {
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	r.useLocked(f)
}

// useLocked is use with conn.mu held.
func (r *Router) useLocked(f func(now time.Time) []Action) {
	if r.phase == stopped {
		return
	}
	r.step(time.Now(), f)
	if r.loop != nil {
		r.loop.flush()
		r.loop.hurry()
	}
}

// carryOut does the work of one task in Run's goroutine. Whoever is told of a
// transition finds the addresses as they are after it.
func (r *Router) carryOut(ctx context.Context, e task) {
	if e.kind == Changed {
		if r.report != nil {
			r.news.push(e)
		}
		return
	}
	began := time.Now()
	err := r.handle(ctx, e.kind)
	overtaken := errors.Is(context.Cause(ctx), context.Canceled)
	r.work.done()
	if err == nil {
		r.logDeed(e.kind, time.Since(began))
	}
	switch {
	case e.kind == Acquire && err == nil:
		r.acquired(e.id)
	case e.kind == Acquire:
		r.acquireFailed(e.id, err)
	case err != nil && !overtaken:
		r.log.Error("addresses", "do", strings.ToLower(e.kind.String()), "err", err)
	}
}

// handle makes one call of the Handler.
func (r *Router) handle(ctx context.Context, kind ActionKind) error {
	if r.handler == nil {
		return nil
	}
	switch kind {
	case Acquire:
		return r.handler.Acquire(ctx)
	case Announce:
		return r.handler.Announce(ctx)
	default:
		return r.handler.Release(ctx)
	}
}
