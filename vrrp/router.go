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

// Router is one virtual router: a [Machine] on a [Conn], with a [Handler] that
// has the addresses. Its methods may be called from any goroutine, also before
// Run.
type Router struct {
	name    string
	conn    *Conn
	handler Handler
	log     *slog.Logger
	report  func(Transition) // Config.OnTransition
	work    *worker          // of Handler calls
	asides  *quietlog.Calls  // log lines that wait for an answer of the Handler
	news    *worker          // of OnTransition calls
	mac     net.HardwareAddr // with VirtualMAC

	// Guarded by conn.mu, and the machine of a group's member by Group.mu, too.
	cfg     Config
	machine *Machine
	wire    *wire
	loop    *loop
	phase   phase
	called  bool                // Run was called and has not returned
	leave   func(now time.Time) // leaves the group; nil: the router is no member
	err     error               // the result of Run

	source     netip.Addr     // to send from; the last one known if sourceless
	home       netip.Addr     // the first source that was no virtual address
	sourceless bool           // the interface has no address to send from
	to         []netip.Addr   // the destinations
	linkFault  string         // or ""
	holds      map[string]int // how often each reason was given to Hold
	standdowns map[string]int // the same for StandDown
	awaited    map[string]int // and for Await
	addresses  acquisition
	status     status

	moved []Action // that the group brought about; guarded by Group.mu
}

// phase is how far a Router has come.
type phase uint8

const (
	created phase = iota
	running
	leaving // as running, but Run ends as soon as the machine has handed over
	stopped
)

// NewRouter makes a virtual router of the family of conn. h adds and removes the addresses.
// h may be nil: there are no addresses, or the program moves them after
// Config.OnTransition.
func NewRouter(cfg Config, conn *Conn, h Handler) (*Router, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	if conn == nil {
		return nil, fmt.Errorf("vrrp: %s: nil Conn: want one from Listen", cfg.Name)
	}
	if fam := cfg.family(); fam != conn.family {
		return nil, fmt.Errorf("vrrp: %s: %v addresses, but the Conn on %s is for %v", cfg.Name, fam, conn.name, conn.family)
	}
	r := &Router{
		name:       cfg.Name,
		cfg:        cfg,
		conn:       conn,
		handler:    h,
		log:        cfg.Logger.With("router", cfg.Name),
		report:     cfg.OnTransition,
		work:       newWorker(),
		asides:     quietlog.NewCalls(),
		news:       newWorker(),
		holds:      make(map[string]int),
		standdowns: make(map[string]int),
		awaited:    make(map[string]int),
	}
	if cfg.VirtualMAC {
		r.mac = inet.VirtualMAC(cfg.VRID, cfg.family() == familyIPv6)
	}
	r.machine = newMachine(cfg)
	if l, ok := h.(Lessee); ok {
		r.machine.lapsed = l.Lapsed
	}
	r.wire = newWire(&r.cfg)
	r.joinGroup()
	return r, nil
}

// joinGroup makes the router a member of its group, if it has one. conn.mu is held, or
// nobody else has the router yet.
func (r *Router) joinGroup() {
	if g := r.cfg.Group; g != nil && r.leave == nil {
		r.leave = g.joinMachine(r.machine, r.movedByGroup)
	}
}

// leaveGroup ends the membership. conn.mu is held.
func (r *Router) leaveGroup(now time.Time) {
	if r.leave != nil {
		r.leave(now)
		r.leave = nil
	}
}

// Run takes part in the election until ctx is done. Then an Active router sends an
// advertisement of priority 0 and keeps its addresses until it hears its successor, for one
// interval and 200 ms at most, or 1.2 s in version 2. The Handler releases the addresses,
// and Run returns nil after the last call of Config.OnTransition has returned. A router
// whose addresses must not overlap releases them at once, see [Machine].
//
// Run returns an error if the Conn cannot take the router, such as [ErrVRIDInUse], see
// [Router.Reserve]: then Run may be called again, and until then a Group goes on without
// the router. The error is [ErrClosed] if the Conn was closed before, or is closed while
// the router runs. A Router runs only once: the error of a later or simultaneous Run is
// [ErrRunTwice].
func (r *Router) Run(ctx context.Context) (err error) {
	if ctx == nil {
		return fmt.Errorf("vrrp: %s: no context", r.name)
	}
	if err := r.beginRun(); err != nil {
		return err
	}
	defer func() { r.endRun(err == nil) }()
	if ctx.Err() != nil {
		return nil
	}
	release, err := r.Reserve(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer release()
	defer r.watchHandler(ctx)()
	if ctx.Err() != nil {
		return nil
	}
	if err := r.start(); err != nil {
		r.waitOutside()
		return fmt.Errorf("vrrp: %s: %w", r.name, err)
	}
	defer context.AfterFunc(ctx, func() {
		r.conn.mu.Lock()
		defer r.conn.mu.Unlock()
		r.stop(context.Cause(ctx), nil)
	})()
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

// beginRun lets one Run at a time begin, and none after a router that ran.
func (r *Router) beginRun() error {
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	if r.called || r.phase != created {
		return fmt.Errorf("vrrp: %s: %w", r.name, ErrRunTwice)
	}
	r.called = true
	return nil
}

// endRun ends a Run. forGood: no other Run will follow. A router that never got to its Conn
// then leaves the group, which would wait for it.
func (r *Router) endRun(forGood bool) {
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	r.called = false
	if forGood && r.phase == created {
		r.phase = stopped
		r.leaveGroup(time.Now())
	}
}

// waitOutside leaves the group until Run is called again.
func (r *Router) waitOutside() {
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	if r.phase == created {
		r.leaveGroup(time.Now())
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
	r.joinGroup() // again, after a Run that failed
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

// stop ends Run, which will return err, when the addresses are handed over. With an error
// no successor could be heard: Run ends now. why is the cause that Run's context was
// cancelled with, or nil. conn.mu is held.
func (r *Router) stop(why, err error) {
	if !r.runs() || r.phase == leaving && err == nil {
		return
	}
	cause, reason := CauseShutdown, ""
	if errors.Is(why, ErrReconfigured) {
		cause = CauseReconfigured
		_, reason, _ = strings.Cut(why.Error(), ErrReconfigured.Error()+": ")
	}
	r.phase, r.err = leaving, err
	r.useMachineLocked(func(now time.Time) []Action { return r.machine.shutdown(now, cause, reason, err != nil) })
}

// runs reports whether the router is on its Conn. conn.mu is held.
func (r *Router) runs() bool { return r.phase == running || r.phase == leaving }

// hasLeft reports whether Run is about to end: the machine has handed over. conn.mu is
// held, and the group's.
func (r *Router) hasLeft() bool { return r.phase == leaving && !r.machine.started }

// detach takes the router off its Conn once the last advertisement is sent. conn.mu is
// held.
func (r *Router) detach() {
	if r.phase == stopped {
		return
	}
	r.leaveGroup(time.Now())
	r.conn.detachRouter(r)
	r.phase = stopped
	r.addresses.endAttempt()
	r.work.close()
}
