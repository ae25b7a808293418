package lb

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/havip/havip/internal/words"
)

// maxTries bounds the backends that one flow may try.
const maxTries = 8

// Flow is one connection or request that needs a backend. The zero value will do
// for balancers that do not hash. Picking again with the same Flow avoids the
// backends it was given before; it is not safe for concurrent use.
type Flow struct {
	Client netip.AddrPort // for SourceHash and Maglev
	Key    string         // for KeyHash

	tried  [maxTries]*server
	tries  int
	prefer *server // has the flow's connection; nil: none
	stuck  *server // has the flow's session, and keeps that while it drains; nil: none
}

// undo takes the latest try back.
func (f *Flow) undo() { f.tries = max(0, f.tries-1) }

// triedAll reports whether f has tried whatever g has: if nothing is free for g,
// nothing is for f.
func (f *Flow) triedAll(g *Flow) bool {
	for _, s := range g.tried[:g.tries] {
		if !slices.Contains(f.tried[:f.tries], s) {
			return false
		}
	}
	return true
}

// Result is the outcome of using a backend.
type Result uint8

// Outcomes. Only those that the backend is responsible for count.
const (
	Neutral Result = iota // nothing was learned: for instance, the client went away
	Success               // the backend answered
	Failure               // the backend refused, timed out or broke off
)

var results = []string{"neutral", "success", "failure"}

// String returns "neutral", "success" or "failure".
func (r Result) String() string { return words.Of(results, r) }

// MarshalText implements encoding.TextMarshaler.
func (r Result) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Result) UnmarshalText(text []byte) error { return words.Parse(results, text, r) }

// Balancer is a way of choosing that this package does not have. It may be called
// concurrently, and must not block nor call the pool: a pick waits for it, maybe under the
// lock of the pool's queue.
type Balancer interface {
	// Pick returns the index of the backend that f is given. The candidates are those
	// that may be used now, primaries or backups, in the order of the configuration;
	// there is at least one. An index out of range stands for none of them.
	Pick(f Flow, candidates []Candidate) int
}

// Candidate is a backend among which a Balancer chooses.
type Candidate struct{ m *member }

// Backend returns the backend's configuration.
func (c Candidate) Backend() Backend { return c.m.Backend }

// Active returns how many picks of the backend are not done.
func (c Candidate) Active() int64 { return c.m.active.Load() }

// Pick is a backend given to one flow. Done must be called, of one copy only. The
// methods of the zero Pick, which has no backend, do nothing.
type Pick struct {
	pool   *Pool
	member *member
	began  uint64 // how many cuts the pool knew when the choice began
	done   bool
}

// isCut reports whether the connections of k's backend have been cut since the choice began:
// a plane is not told of a cut before it knows the backend.
func (k Pick) isCut() bool { return k.member.lastCut.Load() > k.began }

// Backend returns the backend's name.
func (k Pick) Backend() string {
	if k.member == nil {
		return ""
	}
	return k.member.Name
}

// Address returns where to connect: host:port, or unix: and a path.
func (k Pick) Address() string {
	if k.member == nil {
		return ""
	}
	return k.member.connectTo
}

// Report records an outcome before the connection is over: of a long one it is
// known early whether the backend accepted it.
func (k Pick) Report(r Result) {
	switch {
	case k.member == nil:
	case r == Failure:
		k.pool.failed(k.member)
	case r == Success && k.member.fails.Load() != 0:
		k.pool.succeeded(k.member)
	}
}

// Done returns the backend to the pool and records the outcome. A second call does
// nothing.
func (k *Pick) Done(r Result) {
	if k.member == nil || k.done {
		return
	}
	k.done = true
	k.Report(r)
	k.member.active.Add(-1)
	if k.pool.queue.waiting.Load() > 0 {
		k.pool.queue.serve()
	}
}

// Connected records how long it took to connect to the backend.
func (k Pick) Connected(took time.Duration) {
	if k.member == nil {
		return
	}
	k.member.connects.Add(1)
	k.member.connectTime.Add(uint64(max(took, 0)))
}

// Lasted records that a connection, session or request of the backend has ended, and how
// long the client's lasted from its beginning.
func (k Pick) Lasted(took time.Duration) {
	if k.member == nil {
		return
	}
	k.member.ended.Add(1)
	k.member.lasted.Add(uint64(max(took, 0)))
}

// Transferred records bytes sent to and received from the backend.
func (k Pick) Transferred(sent, received int64) {
	if k.member == nil {
		return
	}
	k.member.sent.Add(uint64(sent))
	k.member.received.Add(uint64(received))
}

// Pick chooses a backend for f. It fails with ErrBusy if only MaxConns stands in
// the way, and with ErrNoBackend otherwise. It takes no account of flows that
// wait in the queue: Acquire does. nil stands for a new Flow.
func (p *Pool) Pick(f *Flow) (Pick, error) {
	if f == nil {
		f = new(Flow)
	}
	k, outdated, err := p.choose(f)
	if outdated {
		p.refresh()
		k, _, err = p.choose(f)
	}
	return k, err
}

// choose is Pick for a Flow that is not nil. It may fail because of a snapshot that is
// outdated: there is another one, or a change that it does not know of, maybe one that is
// being made.
func (p *Pool) choose(f *Flow) (k Pick, outdated bool, err error) {
	began := p.cuts.Load()
	s := p.snap.Load()
	c := chooser{snap: s, cfg: s.cfg, restless: &p.restless, flow: f}
	if p.restless.Load() != 0 {
		c.now = p.now()
	}
	if m := s.preferred(&c); m != nil {
		return Pick{pool: p, member: m, began: began}, false, nil
	}
	for again := true; again; {
		for i := range s.tiers {
			if m := s.tiers[i].choose(&c); m != nil {
				return Pick{pool: p, member: m, began: began}, false, nil
			}
		}
		// No other backend is left: rather one that failed of late than none.
		again = c.passedOver
		c.now, c.passedOver = 0, false
	}
	outdated = c.outdated || p.stale() || p.snap.Load() != s
	if c.full {
		return Pick{}, outdated, ErrBusy
	}
	return Pick{}, outdated, ErrNoBackend
}

// Acquire is Pick, but waits in the pool's queue while all backends are at their
// MaxConns, until ctx ends or QueueTimeout has passed: ErrBusy. A backend with room
// again goes to the flow that has waited longest, unless that flow has tried the
// backend before. nil stands for a new Flow.
func (p *Pool) Acquire(ctx context.Context, f *Flow) (Pick, error) {
	if f == nil {
		f = new(Flow)
	}
	return p.acquire(ctx, f, nil)
}

// acquire is Acquire for a client that may leave while the flow waits: errLeft.
func (p *Pool) acquire(ctx context.Context, f *Flow, client waitingClient) (Pick, error) {
	k, err := p.pickInTurn(f)
	if err != ErrBusy || p.config().Queue == 0 {
		return k, err
	}
	w, err := p.enqueue(f)
	if err != nil {
		return Pick{}, err
	}
	return p.await(ctx, w, client)
}

// pickInTurn is Pick for a flow that could wait: flows that wait already go first.
func (p *Pool) pickInTurn(f *Flow) (Pick, error) {
	if p.queue.waiting.Load() == 0 {
		return p.Pick(f)
	}
	k, outdated, err := p.queue.inTurn(f)
	if outdated {
		p.refresh()
		k, _, err = p.queue.inTurn(f)
	}
	return k, err
}

// enqueue lets f wait; ErrBusy if the queue is full.
func (p *Pool) enqueue(f *Flow) (*waiter, error) { return p.queue.add(f, p.config().Queue) }

// await returns what w is served with.
func (p *Pool) await(ctx context.Context, w *waiter, client waitingClient) (Pick, error) {
	return p.queue.await(ctx, w, p.config().QueueTimeout, client)
}
