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
	r.joinGroup()
	return r, nil
}

// joinGroup makes the router a member of its group.
func (r *Router) joinGroup() {
	if g := r.cfg.Group; g != nil {
		r.leave = g.joinMachine(r.machine, r.movedByGroup)
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
	told.Go(func() { r.news.reportTransitions(r.report) })
	for {
		e, ctx, ok := r.work.nextTask()
		if !ok {
			break
		}
		r.runTask(ctx, e)
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
	r.conn.updateForRouter()
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	l, err := r.conn.attachRouter(r)
	if err != nil {
		return err
	}
	if r.outside {
		r.outside = false
		r.joinGroup()
	}
	r.step(time.Now(), func(time.Time) []Action {
		r.loop = l // the group looks at it
		return nil
	})
	r.phase = running
	r.conn.refreshRouters()
	r.logStart()
	r.useMachineLocked(r.machine.Start)
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
	r.loop.sendQueued()
	r.conn.detachRouter(r)
	r.phase = stopped
	r.err = err
	r.addresses.stopTimers()
	r.work.close()
}
