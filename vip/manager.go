package vip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/havip/havip/internal/quietlog"
)

// Manager keeps the addresses of one virtual router. Acquire, Announce and
// Release may be called from any goroutine, before and while Run runs.
type Manager struct {
	cfg        Config
	log        *slog.Logger
	ns         *Namespace
	ownsNS     bool
	interfaces []string // names, each once

	wake       chan struct{}   // Run has something to look at
	ready      chan struct{}   // closed when a step succeeded
	inbox      inbox           // sightings of our addresses, by whomever
	onLost     *quietlog.Calls // of that function
	onConflict *quietlog.Calls // the same
	asides     *quietlog.Calls // for lines that take a question
	closed     sync.Once

	// For Namespace.dispatch, which must not wait for mu.
	dirty   atomic.Bool                  // the kernel's state may differ from the desired one
	holds   atomic.Bool                  // copy of held
	seeks   atomic.Bool                  // there are successors to be found
	faulty  atomic.Bool                  // there are faults
	indexes atomic.Pointer[[]int]        // of links
	own     atomic.Pointer[[]netip.Addr] // of the host, not ours to touch; nil: not known yet
	lapses  atomic.Pointer[time.Time]    // see Lapsed; nil: never

	mu         sync.Mutex
	parting    parting
	links      map[string]link // as last seen
	raised     []settingKey
	undo       []func()
	told       *Removals           // what OnRemovals was told last; nil: nothing
	occupied   bool                // our macvlan has an address that is not ours
	seen       map[target]bool     // where the addresses were looked for the last time
	spared     map[assigned]string // why Takeover leaves an unmarked address; empty: it does not
	held       bool                // the desired state
	accepts    bool                // there is no filter
	swept      bool                // nor one of a predecessor's
	ended      bool                // nothing is added any more
	renewed    time.Time           // the lease counts from then
	renewAt    time.Time
	puts       []assigned       // what a renewal writes
	lacking    map[string]error // what the addresses are held without, and why
	announcer  announcer
	budgeted   time.Time // the Namespace's budget is used up until then
	looked     time.Time // last reconciliation
	lookNext   time.Time // next one if nothing happens
	complained time.Time
	reported   time.Time // status.Problem was logged
	lost       error     // to be reported to OnLost
	watchers   []*faultWatcher
	watched    bool                            // by somebody, once
	faults     []string                        // why the addresses could not be held
	failed     bool                            // the last Acquire did
	failedIn   string                          // which surroundings, as last seen
	hope       bool                            // they have changed
	acquired   time.Time                       // the addresses are held since then
	disputed   map[netip.Addr]time.Time        // when a conflict was last reported
	noted      map[netip.Addr]note             // what the log has of conflicts
	claims     map[netip.Addr]claim            // by another host, to be judged
	claimed    map[netip.Addr]time.Time        // when another host last told the link, or was about to
	elders     map[netip.Addr]net.HardwareAddr // hosts that had an address before
	seeking    map[netip.Addr]successor        // of released addresses
	spokenFor  map[netip.Addr]time.Time        // when the link was last told of one
	status     Status
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
	// Problem is why the addresses are not as they should be, or could not be
	// looked at, the last time that was tried; empty: they are.
	Problem string
}

// NewManager makes a Manager, and changes nothing yet; Run does. That an interface
// does not exist yet is no error, but a fault until it does: [Manager.WatchFaults]
// tells, and [Manager.Check] whoever would rather not begin.
func NewManager(cfg Config) (*Manager, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("vip: %s: %w", cfg.WithDefaults().Name, err)
	}
	cfg = cfg.WithDefaults()
	cfg.Logger = quietlog.New(cfg.Logger)
	ns, owns := cfg.Namespace, false
	if ns == nil {
		var err error
		if ns, err = OpenNamespace(cfg.Logger); err != nil {
			return nil, err
		}
		owns = true
	}
	m := &Manager{
		cfg:        cfg,
		log:        cfg.Logger.With("router", cfg.Name),
		ns:         ns,
		ownsNS:     owns,
		interfaces: cfg.interfaces(),
		wake:       make(chan struct{}, 1),
		ready:      make(chan struct{}),
		onLost:     quietlog.NewCalls(),
		onConflict: quietlog.NewCalls(),
		asides:     quietlog.NewCalls(),
		disputed:   make(map[netip.Addr]time.Time),
		noted:      make(map[netip.Addr]note),
		claims:     make(map[netip.Addr]claim),
		claimed:    make(map[netip.Addr]time.Time),
		elders:     make(map[netip.Addr]net.HardwareAddr),
		seeking:    make(map[netip.Addr]successor),
		spokenFor:  make(map[netip.Addr]time.Time),
		links:      make(map[string]link),
		announcer:  announcer{schedule: cfg.Announce},
	}
	m.indexes.Store(new([]int))
	ns.join(m)
	return m, nil
}

// Check reports what is in the way of the addresses now: an interface that does
// not exist, with an error that wraps ErrNoInterface, one that is down or has IPv6
// disabled, or an address that is on another interface, with one that wraps
// ErrInUse. It changes nothing. Run works all the same, and waits until that has
// passed. It is to be called before Run, if at all.
func (m *Manager) Check() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cfg.VirtualMAC != nil {
		_, err := m.ns.kernel.link(0, m.cfg.Interface)
		return err // the rest needs the macvlan, which is made by Run
	}
	have, err := m.look(true)
	if err == nil {
		err = elsewhere(m.targets(m.cfg.Addresses), have, m.linkByIndex)
	}
	if down, other := m.linkFaults(nil); err == nil && len(down)+len(other) > 0 {
		err = fmt.Errorf("vip: %s: %s", m.cfg.Name, strings.Join(append(down, other...), ", "))
	}
	m.looked = time.Time{} // Run is to look at once
	m.told = nil           // and to tell
	m.spared = nil         // and to decide, when it is known which addresses are virtual
	return err
}

func (m *Manager) linkByIndex(index int) (link, error) {
	return m.ns.kernel.link(index, "")
}

// Run keeps the addresses as Acquire and Release say until ctx ends. It begins
// by removing what a predecessor left behind, and ends by removing the
// addresses; nothing can be acquired after that. What fails it tries again. It
// returns an error only if that last removal failed, or if addresses were lost and
// nobody would have heard of it: see [Config.OnLost]. It may be called once.
func (m *Manager) Run(ctx context.Context) error {
	defer quietlog.Flush(m.log)
	defer m.onLost.Wait()
	defer m.onConflict.Wait()
	defer m.asides.Wait()
	defer m.Close()
	m.dirty.Store(true)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		m.hear()
		m.judge(time.Now())
		m.bequeath(time.Now())
		if tried, err := m.step(); tried {
			m.note(err)
		}
		heard, lost := m.tellLost()
		m.tellFaults(lost)
		if lost != nil && !heard {
			lost = fmt.Errorf("vip: %s: addresses lost, and neither OnLost nor WatchFaults to tell of that: %w", m.cfg.Name, lost)
			return errors.Join(lost, m.end())
		}
		timer.Reset(time.Until(m.deadline()))
		select {
		case <-ctx.Done():
			err := m.end()
			m.finish()
			return err
		case <-m.wake:
		case <-timer.C:
		}
	}
}

// Ready is closed once Run has removed what a predecessor left behind, and has
// what the configuration asks for. Before that Acquire is likely to fail:
// Status tells why. Run goes on trying.
func (m *Manager) Ready() <-chan struct{} { return m.ready }

// remind is how often a problem that lasts is logged.
const remind = time.Minute

// note takes note of what came of a step that was tried.
func (m *Manager) note(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil && !m.prepared() {
		close(m.ready)
	}
	if err == nil {
		err = m.incomplete()
	}
	if err == nil {
		if m.status.Problem != "" {
			m.log.Info("addresses are as they should be again", "was", m.status.Problem)
		}
		m.status.Problem = ""
		return
	}
	if now := time.Now(); err.Error() != m.status.Problem || now.Sub(m.reported) >= remind {
		m.reported = now
		m.log.Error("addresses are not as they should be", "err", err)
	}
	m.status.Problem = err.Error()
}

// Acquire puts the addresses on the interface, and returns when they are
// there: all of them, but for optional ones, or none and an error.
func (m *Manager) Acquire(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("vip: %s: acquire: %w", m.cfg.Name, err)
	}
	if m.ended {
		return fmt.Errorf("vip: %s: acquire: %w", m.cfg.Name, ErrClosed)
	}
	m.lost = nil // what was lost before is held again, or this call says why not
	return m.acquire(ctx)
}

// Announce tells the link where the addresses are. It sends what is due at
// once as far as the budget goes, and leaves the rest of the schedule to Run.
// It does nothing while the addresses are not held. If it is called again after a
// few seconds, as while another host claims the addresses, too, there is one more
// round each time, a second after the last one at the earliest.
func (m *Manager) Announce(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.held {
		return nil
	}
	now := time.Now()
	m.announcer.again(now)
	err := m.announce(now)
	m.poke()
	return err
}

// Release takes the addresses off the interface. It does so whether or not
// they were acquired. If no other host announces them soon, Run asks the link who
// has them now and tells it, for neighbours that go on sending to this one: whoever
// had them all along, and has not heard of this host, sees no reason to.
func (m *Manager) Release(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lapses.Store(nil)
	return m.release()
}

// Lapsed reports whether addresses that were acquired are gone, or about to go,
// because the lease was not renewed in time, as that is to be expected of a process
// that was not run. It never waits.
func (m *Manager) Lapsed() bool {
	at := m.lapses.Load()
	return at != nil && !time.Now().Before(*at)
}

// Status returns a snapshot.
func (m *Manager) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.status
	s.Held = m.held
	return s
}

// Removals are netlink messages for a process that is to clean up on behalf of
// this one: see package guard. They name interfaces by the index that these have
// now, so they go out of date: see [Config.OnRemovals].
type Removals struct {
	// Requests (NETLINK_ROUTE) remove the routes and the addresses and set a
	// macvlan down, if these are there.
	Requests [][]byte
	// Filters (NETLINK_NETFILTER) remove what drops packets for the addresses.
	Filters [][]byte
	// Settings (NETLINK_ROUTE) put settings of interfaces back: after the
	// Requests of all Managers, which rely on them.
	Settings [][]byte
}

// equal reports whether both do the same.
func (r Removals) equal(o Removals) bool {
	return slices.EqualFunc(r.Requests, o.Requests, bytes.Equal) &&
		slices.EqualFunc(r.Filters, o.Filters, bytes.Equal) &&
		slices.EqualFunc(r.Settings, o.Settings, bytes.Equal)
}

// Removals returns what would clean up now.
func (m *Manager) Removals() Removals {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.removals()
}

// tellRemovals tells OnRemovals what is new. Called with m.mu held.
func (m *Manager) tellRemovals() {
	if m.cfg.OnRemovals == nil {
		return
	}
	if now := m.removals(); m.told == nil || !now.equal(*m.told) {
		m.told = &now
		m.cfg.OnRemovals(now)
	}
}

func (m *Manager) removals() (out Removals) {
	for _, r := range m.allRoutes() {
		if l, ok := m.links[r.Interface]; ok {
			out.Requests = append(out.Requests, m.ns.kernel.routeRemoval(r, l.index))
		}
	}
	// What was not looked for yet may be the host's, and was not added.
	unseen := func(t target) bool { return !m.seen[t] }
	for _, t := range slices.DeleteFunc(m.targets(m.allAddresses()), unseen) {
		out.Requests = append(out.Requests, m.ns.kernel.removal(assigned{index: t.index, prefix: t.Prefix}))
	}
	if l, ok := m.links[m.cfg.MacvlanName]; ok && m.cfg.VirtualMAC != nil && !m.occupied {
		out.Requests = append(out.Requests, m.ns.kernel.setDown(l.index))
	}
	if m.cfg.NoAccept {
		out.Filters = [][]byte{m.ns.kernel.filterRemoval(m.cfg.Name)}
	}
	for _, key := range m.raised {
		if before, ok := m.ns.before(key); ok {
			out.Settings = append(out.Settings, m.ns.kernel.setting4(key.index, key.setting, before))
		}
	}
	return out
}

// raise makes a setting of an interface at least value until Close. Called with
// m.mu held.
func (m *Manager) raise(l link, setting int, value uint32) error {
	key := settingKey{l.index, setting}
	if slices.Contains(m.raised, key) {
		return nil
	}
	undo, err := m.ns.raise(l, setting, value)
	if err != nil {
		return err
	}
	m.raised = append(m.raised, key)
	m.undo = append(m.undo, undo)
	m.tellRemovals()
	return nil
}

// Close ends a Manager that Run is not going to be called for. Run calls it
// itself. The addresses stay as they are, unless they are on a macvlan.
func (m *Manager) Close() error {
	var err error
	m.closed.Do(func() {
		m.ns.leave(m)
		m.ns.leaveRoutes(m)
		m.mu.Lock()
		defer m.mu.Unlock()
		m.ended = true
		err = m.removeMacvlan()
		for _, undo := range m.undo {
			undo()
		}
		if m.ownsNS {
			err = errors.Join(err, m.ns.Close())
		}
	})
	return err
}

// end removes the addresses for good.
func (m *Manager) end() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = true
	return m.release()
}

// disturb says that the kernel's state may not be the desired one any more.
func (m *Manager) disturb() {
	m.dirty.Store(true)
	m.poke()
}

// poke makes Run look at the time and at what there is to do.
func (m *Manager) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// tellLost tells OnLost why addresses were lost since the last time, if they were.
// It reports whether anybody hears of that.
func (m *Manager) tellLost() (heard bool, lost error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	lost, m.lost = m.lost, nil
	tell := m.cfg.OnLost
	if lost != nil && tell != nil {
		m.onLost.Add(func() { tell(lost) })
	}
	return tell != nil || m.watched, lost
}
