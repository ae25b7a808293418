package lb

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/havip/havip/internal/field"
)

// PoolConfig configures a pool.
type PoolConfig struct {
	// Name appears in errors, logs and Status.
	Name string
	// Balance chooses among the available backends. Default RoundRobin.
	Balance Balance
	// Balancer takes the place of Balance. nil: there is a Balance.
	Balancer Balancer `json:"-"`
	// Backends are the first set; Update replaces it.
	Backends []Backend
	// MaxFails is the number of failures, reported through Done, within
	// FailTimeout that takes a backend out for FailTimeout. After it one
	// connection tries the backend again. Default 1 as in nginx; negative: never.
	// The last backend is never taken out this way.
	MaxFails int
	// FailTimeout is the window and the duration of MaxFails. Default 10 s.
	FailTimeout time.Duration
	// SlowStart is the time in which a backend that has come up, or was added by
	// Update, is given a growing share of its traffic. Backends that are
	// there from the beginning start at their full share. 0: off.
	SlowStart time.Duration
	// Quorum is the total weight of healthy non-backup backends below which the
	// backup ones are used. Default 1: backups serve when all others are down. The
	// Backends given with it must weigh so much, unless one of them is a name, or has no
	// weight for now.
	Quorum int
	// Hysteresis widens Quorum: it is lost below Quorum - Hysteresis and regained
	// at Quorum + Hysteresis, or when all that do not drain are healthy again and
	// weigh Quorum. Must be less than Quorum.
	Hysteresis int
	// Panic is the percentage, 0 to 100, of the backends in use - the primaries, or
	// the backups while those serve - below which health is not believed any
	// more and all are used, primaries before backups. Default 0: health is
	// always believed.
	Panic int
	// KillOnDown cuts the connections of a backend that goes down, the requests
	// under way and the UDP sessions; by default they live as long as the backend
	// answers, except that a UDP session moves with its next datagram.
	KillOnDown bool
	// DrainTimeout is how long after a backend began to drain, or was removed, its
	// connections, requests and UDP sessions are cut. A change counts for backends that
	// drain, but not for backends that were removed before. Default 0: never.
	DrainTimeout time.Duration
	// Queue is how many flows may wait, first come first served, while all
	// backends are at their MaxConns. Default 0: none waits. See Acquire; datagrams
	// never wait.
	Queue int
	// QueueTimeout bounds the wait. Default 10 s.
	QueueTimeout time.Duration
	// ResolveInterval is how often Run resolves the names among the
	// addresses. Default 10 s.
	ResolveInterval time.Duration
	// Resolver answers for Run. nil: net.DefaultResolver.
	Resolver Resolver `json:"-"`
	// Logger gets changes of health. Nothing waits for it. nil: silent.
	Logger *slog.Logger
}

// WithDefaults returns c with its zero fields filled in, those of the backends too.
// Resolver stays nil for the default.
func (c PoolConfig) WithDefaults() PoolConfig {
	if c.Balancer == nil {
		c.Balance = cmp.Or(c.Balance, RoundRobin)
	}
	c.MaxFails = cmp.Or(c.MaxFails, 1)
	c.FailTimeout = cmp.Or(c.FailTimeout, 10*time.Second)
	c.Quorum = cmp.Or(c.Quorum, 1)
	c.QueueTimeout = cmp.Or(c.QueueTimeout, 10*time.Second)
	c.ResolveInterval = cmp.Or(c.ResolveInterval, 10*time.Second)
	c.Backends = backendsWithDefaults(c.Backends)
	return c
}

// backendsWithDefaults returns a copy: what WithDefaults is called on stays as it is.
func backendsWithDefaults(backends []Backend) []Backend {
	filled := slices.Clone(backends)
	for i, b := range filled {
		filled[i] = b.WithDefaults()
	}
	return filled
}

// Validate returns what is wrong with c: FieldErrors, joined.
func (c PoolConfig) Validate() error {
	c = c.WithDefaults()
	weight, known := primaryWeight(c.Backends)
	return errors.Join(
		field.Between("MaxFails", max(c.MaxFails, 0), 0, maxCount),
		field.Between("FailTimeout", c.FailTimeout, time.Millisecond, day),
		field.Between("SlowStart", c.SlowStart, 0, day),
		field.Between("Quorum", c.Quorum, 1, maxCount),
		field.Between("Panic", c.Panic, 0, 100),
		field.Between("DrainTimeout", c.DrainTimeout, 0, 30*day),
		field.Between("Queue", c.Queue, 0, maxCount),
		field.Between("QueueTimeout", c.QueueTimeout, time.Millisecond, time.Hour),
		field.Between("ResolveInterval", c.ResolveInterval, 100*time.Millisecond, day),
		validateBackends(c.Backends),
		field.In("Balance", new(Balance).UnmarshalText([]byte(c.Balance))),
		field.If(c.Balancer != nil && c.Balance != "", "Balance", "%q: want none together with a Balancer", c.Balance),
		field.If(c.Quorum > weight && weight > 0 && known, "Quorum",
			"%d: out of reach: want no more than %d, what the backends that are no backups weigh in all", c.Quorum, weight),
		cmp.Or(field.Between("Hysteresis", c.Hysteresis, 0, maxCount),
			field.If(c.Hysteresis >= max(c.Quorum, 1), "Hysteresis", "%d: want less than the quorum, %d", c.Hysteresis, c.Quorum)))
}

// primaryWeight is the total weight of the backends that are no backups; not known of
// names, nor of those that drain for want of a weight, and will have one again.
func primaryWeight(backends []Backend) (weight int, known bool) {
	known = true
	for _, b := range backends {
		if !b.Backup {
			weight += max(b.Weight, 0)
			known = known && b.Weight > 0 && !b.isMany()
		}
	}
	return weight, known
}

// validateBackends returns what is wrong with each of a pool's backends, which have
// their defaults, and which names stand twice.
func validateBackends(backends []Backend) error {
	var errs []error
	seen := make(map[string]bool, len(backends))
	for i, b := range backends {
		at := fmt.Sprintf("Backends[%d]", i)
		errs = append(errs, field.In(at, b.Validate()),
			field.If(seen[b.Name], at+".Name", "%q: taken by another backend: want one of its own", b.Name))
		seen[b.Name] = true
	}
	return errors.Join(errs...)
}
