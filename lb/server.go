package lb

import (
	"math"
	"net/netip"
	"sync/atomic"
	"time"
)

// server is what changes about a backend while it is in use. It outlives
// snapshots and updates.
type server struct {
	active   atomic.Int64
	picks    atomic.Uint64
	failures atomic.Uint64
	ejects   atomic.Uint64

	received, sent        atomic.Uint64
	connects, connectTime atomic.Uint64 // number, and nanoseconds in all
	ended, lasted         atomic.Uint64 // likewise

	down     atomic.Bool
	draining atomic.Bool
	moved    atomic.Bool   // its name has left it for other addresses
	changed  atomic.Int64  // time of the last change of down, 0 if none
	lastCut  atomic.Uint64 // of the pool's cuts, 0 if none

	ejected atomic.Int64 // until when; 0: not ejected
	ramp    atomic.Int64 // when slow start began; 0: no slow start

	// Pool.mu guards writing fails and lastFail, and what follows.
	fails    atomic.Int64 // failures with no more than FailTimeout between them
	lastFail atomic.Int64
	member   *member // of the current roster; nil: removed, so what fails now does not eject it

	drains       int64         // since when the server drains; 0: it does not
	drainTimer   *time.Timer   // cuts the server's connections
	drainTimeout time.Duration // of drainTimer; 0: none
}

// member is one configured backend, or one address of its name: immutable but for its
// server.
type member struct {
	Backend // an address has a Name of its own, and of an SRV record Weight and Backup
	*server
	index int    // in roster.all
	hash  uint64 // of the name

	configured int // Weight without an Override

	origin    *hostname      // of the name that has this address; nil: there is none
	connectTo string         // Backend.Address, resolved
	addrPort  netip.AddrPort // the same, not valid if it is a name or a path
	authority string         // see BackendSnapshot
}

// isDraining reports whether m gets no new connections.
func (m *member) isDraining() bool { return m.Drain || m.Weight < 0 || m.draining.Load() }

// tier is 0 for a primary, 1 for a backup.
func (m *member) tier() int {
	if m.Backup {
		return 1
	}
	return 0
}

// reserve counts a connection, unless MaxConns is reached. It never counts too many,
// not even for a moment: a Done at that moment would find no room for a flow that
// waits, and the queue would not be looked at again.
func (m *member) reserve() bool {
	if m.MaxConns == 0 {
		m.active.Add(1)
		return true
	}
	for {
		n := m.active.Load()
		if n >= int64(m.MaxConns) {
			return false
		}
		if m.active.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// score ranks m for a key by weighted rendezvous hashing: the share of the keys for
// which m ranks first is its share of the weight, whoever the others are and in
// whatever order.
func (m *member) score(key uint64) float64 {
	return math.Log(unit(mix(key^m.hash))) / float64(m.Weight)
}
