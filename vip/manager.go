package vip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/havip/havip/internal/quietlog"
	"github.com/havip/havip/vip/internal/hook"
)

// Manager keeps the addresses of one virtual router. Acquire, Announce and
// Release may be called from any goroutine, before and while Run runs.
type Manager struct {
	log *slog.Logger

	signals
	// Calls that goroutines of their own make: of OnLost, of OnConflict, and of
	// logConflicts, which asks the kernel first. Only the end of Run waits for them.
	losses, conflicts, asides *quietlog.Calls

	// mu guards the fields below, but for the atomic ones. The configuration is written
	// with Namespace.mu locked, too, so that the Namespace can read it. mu stays locked
	// during requests to the kernel and calls of OnRemovals and Entitled; all other
	// callbacks run without mu.
	//
	// Locks are taken in this order: mu, Namespace.routing, Namespace.mu, hearing, and
	// last those of limiter and package filter. A Namespace tells a Manager of events
	// with Namespace.mu locked: it sets a signal or calls takeSighting, and never waits
	// for mu.
	mu sync.Mutex
	view
	life
	looks     looks
	filter    packetFilter
	raised    []settingKey
	faults    knownFaults
	held      bool // the desired state
	lease     lease
	limit     time.Duration // of the lease, see Depart; 0: none
	puts      []assigned    // what a renewal writes
	lacking   lacks
	announcer announcer
	budgeted  time.Time // the Namespace's budget is used up until then
	lost      error     // to be reported to OnLost
	status    Status

	// hearing guards rivals.claims, told and elders, and successors.list, which sightings
	// change. Nothing waits while hearing is locked.
	hearing    sync.Mutex
	rivals     rivals
	successors successors
}

// signals are for goroutines that must not wait for the Manager's mutex.
type signals struct {
	wake    chan struct{} // Run has work to do
	ready   chan struct{} // closed when a step succeeded
	closing chan struct{} // closed by Close
	closed  sync.Once

	dirty   atomic.Bool               // the kernel's state may differ from the desired one
	holds   atomic.Bool               // copy of held
	lapses  atomic.Pointer[time.Time] // see Lapsed; nil: never
	toClean atomic.Pointer[Removals]  // see Removals; nil: before the first look
}

// poke makes Run look for work at once.
func (s *signals) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// disturb makes Run look at the kernel's state soon.
func (s *signals) disturb() {
	s.dirty.Store(true)
	s.poke()
}

// life is how far a Manager has come.
type life struct {
	name    string // Config.Name, which stays
	running bool   // Run was called
	settled bool   // a step has succeeded: ready is closed
	ended   bool   // nothing is added any more
}

// refuse returns an error if there is no context, or the Manager is closed. what says what
// was asked of the Manager.
func (l *life) refuse(ctx context.Context, what string) error {
	switch {
	case ctx == nil:
		return fmt.Errorf("vip: %s: %s: no context", l.name, what)
	case l.ended:
		return l.closedError(what)
	}
	return nil
}

// closedError is the error of a closed Manager.
func (l *life) closedError(what string) error {
	return fmt.Errorf("vip: %s: %s: %w", l.name, what, ErrClosed)
}

// Status is a snapshot of a Manager for people and metrics.
type Status struct {
	// Held: the addresses are on the interface.
	Held bool
	// Reinstated counts addresses that another program removed and that were
	// put back.
	Reinstated uint64
	// Removed counts addresses that appeared while they were not to be held,
	// a predecessor's leftovers included, and that were removed.
	Removed uint64
	// Lost counts the times that held addresses could not be kept.
	Lost uint64
	// Conflicts counts the times that another host claimed an address that was
	// held here.
	Conflicts uint64
	// LastConflict is the latest of these; nil: there was none.
	LastConflict *Conflict
	// Problem is why the addresses are not as they should be, or could not be
	// looked at, the last time that was tried; empty: they are.
	Problem string
}

// NewManager makes a Manager. It changes nothing on the host and calls nothing of cfg;
// Run does. A missing interface is no error but a fault, for as long as the interface
// is missing: see [Manager.WatchFaults] and [Manager.Check].
func NewManager(cfg Config) (*Manager, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("vip: %s: %w", cfg.WithDefaults().Name, err)
	}
	cfg = cfg.WithDefaults()
	if cfg.NoAccept && hook.OpenFilter == nil {
		return nil, fmt.Errorf("vip: %s: NoAccept: want an import of github.com/havip/havip/vip/filter: %w", cfg.Name, errors.ErrUnsupported)
	}
	cfg.Logger = quietlog.Limited(cfg.Logger, nil)
	ns := cfg.Namespace
	if ns == nil {
		var err error
		if ns, err = OpenNamespace(cfg.Logger); err != nil {
			return nil, err
		}
	}
	m := &Manager{
		log:        cfg.Logger.With("router", cfg.Name),
		signals:    signals{wake: make(chan struct{}, 1), ready: make(chan struct{}), closing: make(chan struct{})},
		losses:     quietlog.NewCalls(),
		conflicts:  quietlog.NewCalls(),
		asides:     quietlog.NewCalls(),
		view:       view{ns: ns},
		life:       life{name: cfg.Name},
		filter:     packetFilter{Filter: ns.kernel.packets(), name: cfg.Name, drops: cfg.NoAccept},
		rivals:     rivals{reported: make(map[netip.Addr]time.Time)},
		successors: successors{list: make(map[netip.Addr]successor), told: make(map[netip.Addr]time.Time)},
		lease:      lease{lifetime: cfg.lifetime()},
		announcer:  announcer{schedule: cfg.Announce},
	}
	m.setLinks(nil)
	if err := ns.join(m, func() { m.cfg = cfg }); err != nil {
		return nil, fmt.Errorf("vip: %s: %w", cfg.Name, err)
	}
	return m, nil
}

// Check returns an error if the addresses could not be held now: an interface is
// missing (ErrNoInterface), is down or has IPv6 disabled, or an address is on another
// interface (ErrInUse). Check changes nothing, and Run works in spite of the error: it
// waits until the addresses can be held. Call Check before Run.
func (m *Manager) Check() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.life.ended {
		return m.life.closedError("check")
	}
	if m.cfg.VirtualMAC != nil {
		_, err := m.ns.kernel.link(0, m.cfg.Interface)
		return err // Run makes the macvlan, which the other checks need
	}
	have, err := m.lookAround(true)
	if err == nil {
		err = elsewhere(m.targets(m.cfg.Addresses), have, m.ns.kernel.link)
	}
	if down, other := m.faultsOfLinks(nil); err == nil && len(down)+len(other) > 0 {
		err = fmt.Errorf("vip: %s: %s", m.name, strings.Join(append(down, other...), ", "))
	}
	// For Run nothing was seen yet: other Managers, with their virtual addresses, may
	// be made meanwhile.
	m.looks.last, m.spared = time.Time{}, nil
	return err
}

// Acquire puts the addresses on the interface, and returns when all of them are there.
// Optional ones may be missing. After an error none is there.
func (m *Manager) Acquire(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.life.refuse(ctx, "acquire"); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("vip: %s: acquire: %w", m.name, err)
	}
	m.lost = nil // an earlier loss is no news: this call acquires again, or fails
	var err error
	if !m.held && m.cfg.Probe > 0 {
		if _, err = m.findLinks(); err == nil {
			err = m.ns.probe(ctx, m.questions(m.cfg.Addresses), m.cfg.Probe)
		}
	}
	m.holds.Store(true) // the addresses that are about to appear are wanted
	if err == nil {
		err = m.putAddresses(true)
	}
	m.faults.acquired(err == nil)
	if err != nil {
		return errors.Join(fmt.Errorf("vip: %s: acquire: %w", m.name, err), m.releaseAll())
	}
	m.setHeld(true)
	return nil
}

// Announce tells the link where the addresses are. It sends the first round, as far as
// the budget of the Namespace goes, and leaves the rest of the schedule to Run. While
// the addresses are not held Announce does nothing. Further calls within a few seconds,
// as while two hosts claim the addresses, add one round each, a second after the last
// round at the earliest.
func (m *Manager) Announce(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.life.ended {
		return m.life.closedError("announce")
	}
	if !m.held {
		return nil
	}
	err := m.limitLease(0)
	if !m.held {
		return err
	}
	now := time.Now()
	m.announcer.again(now)
	m.sendAnnouncements(now)
	m.poke()
	return err
}

// Release takes the addresses off the interface, whether or not they were acquired.
//
// If no other host announces the addresses soon, Run asks the link who has them now, and
// announces that host's hardware address, because neighbours go on sending to this host.
// A host that has had the addresses all along sees no reason to announce them.
func (m *Manager) Release(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lapses.Store(nil)
	if m.life.ended {
		return m.life.closedError("release")
	}
	return m.releaseAll()
}

// Lapsed reports whether the lease of acquired addresses was not renewed in time, as in
// a process that was frozen: the addresses are gone, or about to go. Lapsed never waits.
func (m *Manager) Lapsed() bool {
	at := m.lapses.Load()
	return at != nil && !time.Now().Before(*at)
}

// Depart says that the addresses are about to be handed over, within the given time: until
// Announce or Release is called, their lease is as short as the kernel allows, a second, or
// a quarter of that time. The new holder comes long before the usual lease of a process that
// is frozen or killed meanwhile would be over.
func (m *Manager) Depart(_ context.Context, within time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.life.ended {
		return m.life.closedError("depart")
	}
	if !m.held {
		return nil
	}
	return m.limitLease(max(minLease, (within / renewals).Truncate(time.Second)))
}

// Status returns a snapshot.
func (m *Manager) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.status
}
