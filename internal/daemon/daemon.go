// Package daemon makes the objects that a configuration asks for and ties them
// together: health reaches routers and pools here, and nowhere else. It also
// moves from one configuration to the next without touching what stays.
//
// The first configuration and a reload go the same way, in two steps:
//
//   - prepare compares the next configuration with what runs. For every router,
//     check, group, notifier, service, upstream and monitor a diff says whether the
//     part is kept, updated, replaced, added or removed. What is new is opened, as
//     far as that can be done beside what runs, and is kept in a plan. An error
//     ends the reload here, and nothing has changed.
//   - apply carries the steps out. A part that goes on has one method for that,
//     reconfigure, and a part that begins is made of its plan, whole, by its
//     constructor. At the end a View is published.
//
// Whoever reports reads the View, and never waits for a reload.
package daemon

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/quietlog"
	"github.com/havip/havip/lb"
	"github.com/havip/havip/vip"
	_ "github.com/havip/havip/vip/filter" // for accept: false
	"github.com/havip/havip/vip/guard"
	"github.com/havip/havip/vrrp"
)

// Daemon is everything that one configuration asks for.
//
// mu is held for all of a change: from the moment when the next configuration is
// compared with what runs until every part has followed. That may take tens of
// seconds, so nothing that serves, probes, elects or reports takes mu. The locks of
// the parts are taken in this order, and mu before all of them:
//
//   - steering.mu, for what commands say, which never take Daemon.mu; and before that
//     steering.saving, which nobody else takes;
//   - tracker.mu, for what a check says; under it the faults and the priority of a
//     vrrp.Router change, which takes the router's own locks;
//   - teller.mu, for what becomes of a router; a transition begins here;
//   - group.mu, for what becomes of the routers of a group together;
//   - notifier.mu, for what is told to programs and FIFOs: queues, of which
//     goroutines of their own tell.
//
// service.mu is a leaf. So are, but for the locks by which parts guard their counters, those
// of totals.
type Daemon struct {
	log     *slog.Logger
	access  func(lb.Record) // logs what services record
	written func()          // waits for what was logged so
	started chan struct{}   // closed when Run has begun

	steering *steering

	mu        sync.Mutex  // guards what follows, up to view
	pending   *change     // what New opened and Run begins with
	failed    func(error) // hears of a part that has ended; nil once Run is about to return
	cfg       *config.Config
	ns        *vip.Namespace // nil until there is a router, and so is guard
	guard     *guard.Guard
	conns     map[connKey]*vrrp.Conn
	checks    map[string]*check
	groups    map[string]*group
	notifiers map[string]*notifier
	routers   map[string]*router
	services  []*service
	ended     []*service     // of earlier configurations, some of which have connections
	leaving   sync.WaitGroup // services and notifiers of earlier configurations

	view      atomic.Pointer[View]
	published chan struct{} // has an entry when there is another View
	totals    totals        // of all parts that there were
}

// New opens every socket that cfg needs, in the network namespace of the
// calling thread, and starts nothing: an error leaves the machine as it was. Where
// a part cannot begin now, for a reason that may pass, New returns no error: Run
// logs the reason and tries the part again, and no other part waits for it. With strict
// that is an error, which names all such parts, one a line. What services record goes to
// access, or to log if access is nil.
func New(cfg *config.Config, log, access *slog.Logger, strict bool) (*Daemon, error) {
	d := &Daemon{
		log:       quietlog.New(log),
		published: make(chan struct{}, 1),
		started:   make(chan struct{}),
		steering:  newSteering(),
		cfg:       &config.Config{},
		conns:     map[connKey]*vrrp.Conn{},
		routers:   map[string]*router{},
	}
	d.access, d.written = lb.LogRecords(cmp.Or(access, log))
	d.view.Store(&View{Config: d.cfg})
	var err error
	if d.pending, err = d.prepare(cfg, true); err != nil {
		return nil, err
	}
	if strict {
		err = errors.Join(slices.Concat(d.pending.faults, d.pending.routerFaults(), programFaults(cfg))...)
	}
	if err != nil {
		d.pending.abandon()
		return nil, err
	}
	return d, nil
}

// Run does the work until ctx ends. Then the addresses are handed over, connections
// finish, and Run returns nil. A part that fails does not end Run: the failure is
// logged, and routers and services are tried again. Run may be called once.
func (d *Daemon) Run(ctx context.Context) error {
	d.mu.Lock()
	d.failed = func(err error) { d.log.Error("a part of the daemon has ended", "err", err) }
	reaping := startTask(func(ctx context.Context) error { return reapOrphans(ctx, d.log) }, d.failed)
	defer reaping.stop()
	if err := d.apply(d.pending); err != nil {
		d.log.Error("not everything runs", "err", err)
	}
	v := d.View()
	d.log.Info("running", "pid", os.Getpid(), "routers", len(v.Routers), "services", len(v.Services), "checks", len(v.Checks))
	d.mu.Unlock()
	watch := &certificateWatch{log: d.log}
	services := func() []ServiceView { return d.View().Services }
	watching := startTask(func(ctx context.Context) error { return watch.run(ctx, services, d.published) }, d.failed)
	defer watching.stop()
	close(d.started)
	<-ctx.Done()

	began := time.Now()
	d.log.Info("stopping", "cause", context.Cause(ctx))
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed = nil
	d.stop()
	d.view.Store(&View{Config: &config.Config{}})
	d.log.Info("stopped", "took", time.Since(began))
	return nil
}

// stop ends everything. The addresses go first: a peer takes the traffic while
// connections that are established here finish.
func (d *Daemon) stop() {
	together(endsOf(maps.Values(d.routers)))
	together(slices.Concat(endsOf(slices.Values(d.services)), endsOf(maps.Values(d.notifiers))))
	together(endsOf(maps.Values(d.checks)))
	d.leaving.Wait()
	d.written()
	for _, c := range d.conns {
		c.Close()
	}
	if d.ns != nil {
		d.guard.Close()
		d.ns.Close()
	}
}
