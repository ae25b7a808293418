package daemon

import (
	"maps"
	"slices"
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
//
// Names that change all the time must not fill the memory: of those that nobody counts for
// all are forgotten when there are more than maxAbsent, beside three times as many as are
// counted for. A name that comes back then begins at zero.
type ledger[C counts[C]] struct {
	mu    sync.Mutex
	books map[string]*book[C]
}

// book is what belongs to one name.
type book[C counts[C]] struct {
	ended   C                      // what parts have counted that are no more
	left    map[*entry[C]]C        // what parts had counted when they took another name
	entries map[*entry[C]]func() C // how to ask those that count
}

// entry is a part that counts.
type entry[C counts[C]] struct {
	ledger *ledger[C]
	name   string
	names  []string // those of before
}

// open begins to count for a name what read returns. read is never called by two goroutines
// at the same time.
func (l *ledger[C]) open(name string, read func() C) *entry[C] {
	e := &entry[C]{ledger: l, name: name}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget()
	l.book(name).entries[e] = read
	return e
}

// forget forgets the names that nobody counts for, if they are too many. l.mu is held.
func (l *ledger[C]) forget() {
	counting := 0
	for _, b := range l.books {
		if !b.idle() {
			counting++
		}
	}
	if len(l.books)-counting > 3*counting+maxAbsent {
		maps.DeleteFunc(l.books, func(_ string, b *book[C]) bool { return b.idle() })
	}
}

// idle reports whether no part of the daemon counts for a name, nor may come back to it.
func (b *book[C]) idle() bool { return len(b.entries)+len(b.left) == 0 }

// book returns the one of a name. l.mu is held.
func (l *ledger[C]) book(name string) *book[C] {
	if l.books == nil {
		l.books = map[string]*book[C]{}
	}
	b := l.books[name]
	if b == nil {
		b = &book[C]{entries: map[*entry[C]]func() C{}, left: map[*entry[C]]C{}}
		l.books[name] = b
	}
	return b
}

// close takes in what a part has counted up to its end. Calls but the first do nothing.
func (e *entry[C]) close() {
	e.ledger.mu.Lock()
	defer e.ledger.mu.Unlock()
	b := e.ledger.book(e.name)
	if read := b.entries[e]; read != nil {
		b.ended = b.ended.plus(read())
		delete(b.entries, e)
	}
	for _, name := range e.names {
		b := e.ledger.book(name)
		b.ended = b.ended.plus(b.left[e])
		delete(b.left, e)
	}
	e.names = nil
}

// look asks a part for its counts, before something of it goes.
func (e *entry[C]) look() {
	e.ledger.mu.Lock()
	defer e.ledger.mu.Unlock()
	if read := e.ledger.book(e.name).entries[e]; read != nil {
		read()
	}
}

// rename goes on under another name, with all that the part has counted: its own counts do
// not begin anew. The name of before keeps what it had, too, until the part comes back to
// it: nothing counts twice then.
func (e *entry[C]) rename(name string) {
	e.ledger.mu.Lock()
	defer e.ledger.mu.Unlock()
	before := e.ledger.book(e.name)
	read := before.entries[e]
	if name == e.name || read == nil {
		return
	}
	before.left[e] = read()
	delete(before.entries, e)
	after := e.ledger.book(name)
	delete(after.left, e)
	after.entries[e] = read
	e.names = append(slices.DeleteFunc(e.names, func(n string) bool { return n == name }), e.name)
	e.name = name
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
	for _, c := range b.left {
		sum = sum.plus(c)
	}
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
	stats    lb.Stats
	tally    Tally
	routes   map[string]RouteTally
	unlogged uint64 // lines that the access log has lost
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
	c.tally, c.routes = c.tally.plus(o.tally), mergeRoutes(c.routes, o.routes)
	c.unlogged += o.unlogged
	return c
}
