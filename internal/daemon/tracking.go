package daemon

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/vrrp"
)

// routerControl is what tracking needs of a *vrrp.Router.
type routerControl interface {
	SetPriority(uint8)
	Hold(reason string) (release func())
	Await(reason string) (release func())
	Resign() error
	Status() vrrp.Status
}

// tracker turns the health of the checks that a router tracks into faults and
// priority.
type tracker struct {
	router  routerControl
	changed func() // hears of other faults

	mu       sync.Mutex // guards what follows, and the order of calls of router
	cfg      config.Router
	base     uint8                        // in the place of the file's priority; 0: none is
	priority uint8                        // as last set
	state    map[string]healthcheck.State // by check; what stays when a Monitor is replaced
	faults   map[string]fault             // by check: the fault in force
	cancels  []func()                     // of the subscriptions to checks
	round    int                          // of subscriptions: those of earlier rounds have no say
}

// fault is a reason to stay out of the election, and what ends that.
type fault struct {
	reason  string
	release func()
}

// newTracker follows the checks that cfg names. It starts from what is known of
// them, with a fault for every check without a weight that is not known to be up:
// an address is not taken before the checks have said that it can be served.
// changed is called whenever the faults may have changed, and must not call the
// tracker.
func newTracker(r routerControl, cfg config.Router, checks map[string]*check, changed func()) *tracker {
	t := &tracker{
		router: r, changed: changed, cfg: cfg, priority: cfg.Priority,
		state: map[string]healthcheck.State{}, faults: map[string]fault{},
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, tr := range cfg.Track {
		t.state[tr.Check] = checks[tr.Check].state()
	}
	t.applyStates()
	t.subscribe(checks)
	return t
}

// reconfigure goes on with other tracks, another priority, and checks of which some
// may have taken the place of others. A check that is followed from now on takes
// nothing away before it has a result.
func (t *tracker) reconfigure(cfg config.Router, checks map[string]*check) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, tr := range cfg.Track {
		if !slices.ContainsFunc(t.cfg.Track, func(old config.Track) bool { return old.Check == tr.Check }) {
			t.state[tr.Check] = cmp.Or(checks[tr.Check].state(), healthcheck.Up)
		}
	}
	if t.cfg.Priority != cfg.Priority {
		t.base = 0 // the file has the last word
	}
	t.cfg = cfg
	t.applyStates()
	t.subscribe(checks)
}

// setBase puts another priority in the place of the file's, to which the weights of checks
// are added; 0: the file's counts again.
func (t *tracker) setBase(priority uint8) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.base = priority
	t.applyStates()
}

// subscribe follows the checks that are tracked, and no other. Each says at first what it
// has found. t.mu is held.
func (t *tracker) subscribe(checks map[string]*check) {
	t.unsubscribe()
	round := t.round
	for _, tr := range t.cfg.Track {
		if c := checks[tr.Check]; c != nil {
			t.cancels = append(t.cancels, c.monitor.Subscribe(func(s healthcheck.Status) { t.hearCheck(tr.Check, round, s.State) }))
		}
	}
}

// unsubscribe follows no check any more. t.mu is held.
func (t *tracker) unsubscribe() {
	for _, cancel := range t.cancels {
		cancel()
	}
	t.cancels = nil
	t.round++
}

// stop ends following. The router is about to end.
func (t *tracker) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unsubscribe()
}

// hearCheck takes the state of a check in, unless it is Unknown, or is said in an earlier
// round: the check may have been replaced, or have said something else since.
func (t *tracker) hearCheck(check string, round int, s healthcheck.State) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if round != t.round || s == healthcheck.Unknown || t.state[check] == s {
		return
	}
	t.state[check] = s
	t.applyStates()
}

// applyStates makes the router's faults and priority what the states of its checks
// say. t.mu is held.
func (t *tracker) applyStates() {
	weights, resigns, faulty := 0, false, map[string]bool{}
	for _, tr := range t.cfg.Track {
		s := t.state[tr.Check]
		if tr.Weight != 0 {
			weights += weight(tr.Weight, s)
			// The priority is below what it could be.
			resigns = resigns || tr.Mode == "resign" && weight(tr.Weight, s) < weight(tr.Weight, healthcheck.Up)
			continue
		}
		if faulty[tr.Check] = s != healthcheck.Up; faulty[tr.Check] {
			t.holdFor(tr.Check, s)
		}
	}
	for check, f := range t.faults {
		if !faulty[check] {
			f.release()
			delete(t.faults, check)
		}
	}
	t.changed()
	if t.cfg.Priority == config.OwnerPriority {
		return
	}
	before := t.priority
	t.priority = clampPriority(int(cmp.Or(t.base, t.cfg.Priority)) + weights)
	t.router.SetPriority(t.priority)
	// Only a fall of the priority is a reason to resign. A Backup is silent, so
	// nothing tells when a Backup with a better claim comes back, and to find out by
	// resigning would cut connections again and again where there is no such Backup.
	if resigns && t.priority < before && t.isBeaten() {
		_ = t.router.Resign() // an error only says that it is not Active
	}
}

// holdFor makes a check that is not up a fault of the router. The new fault is there
// before the old one goes, or the router would take part in between.
func (t *tracker) holdFor(check string, s healthcheck.State) {
	hold, reason := t.router.Hold, "check "+check+" is down"
	if s == healthcheck.Unknown {
		hold, reason = t.router.Await, "check "+check+" has no result yet"
	}
	before, held := t.faults[check]
	if held && before.reason == reason {
		return
	}
	t.faults[check] = fault{reason, hold(reason)}
	if held {
		before.release()
	}
}

// isBeaten reports whether another router has a better claim. Backups are silent:
// the priority of a peer is not known if the peer was never heard as Active, or said
// when it was last heard that it leaves. An unknown priority counts as better: should
// nobody take over, the addresses come back.
func (t *tracker) isBeaten() bool {
	status := t.router.Status()
	better := func(p vrrp.Peer) bool { return p.Priority == 0 || p.Priority > t.priority }
	unheard := func(a netip.Addr) bool {
		return a != status.Source && // all nodes may have the same list
			!slices.ContainsFunc(status.Peers, func(p vrrp.Peer) bool { return p.Address == a })
	}
	return len(status.Peers) == 0 || slices.ContainsFunc(status.Peers, better) || slices.ContainsFunc(t.cfg.Peers, unheard)
}

// weight is what a check adds to the priority, as in Keepalived: a negative
// weight while it is down, a positive one while it is up. A check without a
// result counts as neither.
func weight(w int, s healthcheck.State) int {
	if (w < 0 && s == healthcheck.Down) || (w > 0 && s == healthcheck.Up) {
		return w
	}
	return 0
}

// clampPriority keeps a priority what a Backup may have (RFC 9568 §5.2.4).
func clampPriority(p int) uint8 { return uint8(min(max(p, 1), 254)) }
