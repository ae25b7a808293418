package daemon

import (
	"sync"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/lb"
	"github.com/havip/havip/vip"
	"github.com/havip/havip/vrrp"
)

// counts is a set of counters, each of which only grows.
type counts[C any] interface {
	plus(C) C // returns what both have counted
}

// ledger adds up what the parts of one name have counted, one after the other or at the
// same time: a part that takes the place of another begins at zero, and whoever watches a
// counter expects that it never falls. What a name has counted stays, so a part that comes
// back under its name goes on where it was.
//
// A part is asked for its counts while mu is held, since they would not be added once
// otherwise, or twice, if it ended at that moment. So mu is taken before the locks of the
// parts that guard their counters, and none of those is ever held for long.
type ledger[C counts[C]] struct {
	mu    sync.Mutex
	books map[string]*book[C]
}

// book is what belongs to one name.
type book[C counts[C]] struct {
	ended   C                      // what parts have counted that are no more
	entries map[*entry[C]]func() C // how to ask those that count
}

// entry is a part that counts.
type entry[C counts[C]] struct {
	ledger *ledger[C]
	name   string
}

// open begins to count for a name what read returns. read is never called by two goroutines
// at the same time.
func (l *ledger[C]) open(name string, read func() C) *entry[C] {
	e := &entry[C]{l, name}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.book(name).entries[e] = read
	return e
}

// book returns the one of a name. l.mu is held.
func (l *ledger[C]) book(name string) *book[C] {
	if l.books == nil {
		l.books = map[string]*book[C]{}
	}
	b := l.books[name]
	if b == nil {
		b = &book[C]{entries: map[*entry[C]]func() C{}}
		l.books[name] = b
	}
	return b
}

// close takes in what a part has counted up to its end. Calls but the first do nothing.
func (e *entry[C]) close() {
	e.ledger.mu.Lock()
	defer e.ledger.mu.Unlock()
	e.settle()
}

// look asks a part for its counts, before something of it goes.
func (e *entry[C]) look() {
	e.ledger.mu.Lock()
	defer e.ledger.mu.Unlock()
	if read := e.ledger.book(e.name).entries[e]; read != nil {
		read()
	}
}

// settle adds what the part has counted to what its name has, for good, and returns how
// the part was asked; nil: it was closed before. The ledger's mu is held.
func (e *entry[C]) settle() func() C {
	b := e.ledger.book(e.name)
	read := b.entries[e]
	if read != nil {
		b.ended = b.ended.plus(read())
		delete(b.entries, e)
	}
	return read
}

// rename goes on under another name, with all that the part has counted: its own counts do
// not begin anew. The name of before keeps what it had, too.
func (e *entry[C]) rename(name string) {
	e.ledger.mu.Lock()
	defer e.ledger.mu.Unlock()
	if name == e.name {
		return
	}
	read := e.settle()
	e.name = name
	if read != nil {
		e.ledger.book(name).entries[e] = read
	}
}

// total returns what was counted for a name.
func (l *ledger[C]) total(name string) C {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.books[name]
	if b == nil {
		var none C
		return none
	}
	sum := b.ended
	for _, read := range b.entries {
		sum = sum.plus(read())
	}
	return sum
}

// totals are the counts of all parts of a daemon, by name.
type totals struct {
	routers  ledger[routerCounts]
	checks   ledger[checkCounts]
	services ledger[serviceCounts]
	pools    ledger[poolCounts]
}

// routerCounts are those of a router and of its addresses.
type routerCounts struct {
	vrrp vrrp.Counters
	vip  vip.Status // its counters only
}

func (c routerCounts) plus(o routerCounts) routerCounts {
	a, b := &c.vrrp, &o.vrrp
	a.Sent += b.Sent
	a.Received += b.Received
	a.SendErrors += b.SendErrors
	a.Mismatched += b.Mismatched
	a.MessageChecksums += b.MessageChecksums
	a.OldUnicastChecksums += b.OldUnicastChecksums
	a.Unsigned += b.Unsigned
	a.Conflicts += b.Conflicts
	a.Splits += b.Splits
	a.Transitions += b.Transitions
	a.Dropped, a.Causes = merge(a.Dropped, b.Dropped), merge(a.Causes, b.Causes)
	c.vip.Reinstated += o.vip.Reinstated
	c.vip.Removed += o.vip.Removed
	c.vip.Lost += o.vip.Lost
	c.vip.Conflicts += o.vip.Conflicts
	return c
}

// merge returns the sums of two maps, which stay as they are.
func merge[K comparable](a, b map[K]uint64) map[K]uint64 {
	if len(a) == 0 {
		return b
	}
	sum := make(map[K]uint64, max(len(a), len(b)))
	for k, n := range a {
		sum[k] = n
	}
	for k, n := range b {
		sum[k] += n
	}
	return sum
}

// checkCounts are those of a check.
type checkCounts struct{ probes, failed, changes uint64 }

func (c checkCounts) plus(o checkCounts) checkCounts {
	return checkCounts{c.probes + o.probes, c.failed + o.failed, c.changes + o.changes}
}

func checkCountsOf(s healthcheck.Status) checkCounts {
	return checkCounts{s.Probes, s.Failed, s.Changes}
}

// serviceCounts are those of a service. Active is no counter, but that of a service is what
// its planes have under way together, those included that are about to end.
type serviceCounts struct {
	stats lb.Stats
	tally Tally
}

func (c serviceCounts) plus(o serviceCounts) serviceCounts {
	a, b := &c.stats, &o.stats
	a.Active += b.Active
	a.Accepted += b.Accepted
	a.Refused += b.Refused
	a.Failed += b.Failed
	a.Retries += b.Retries
	a.Paused += b.Paused
	a.Received += b.Received
	a.Sent += b.Sent
	c.tally = c.tally.plus(o.tally)
	return c
}
