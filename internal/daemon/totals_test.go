package daemon

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/havip/havip/lb"
	"pgregory.net/rapid"
)

// TestLedger: parts come, count, change their names and end, in any order. The total of a
// name is what its parts have counted, no more and no less, and never falls.
func TestLedger(t *testing.T) {
	names := rapid.SampledFrom([]string{"a", "b", "c"})
	rapid.Check(t, func(t *rapid.T) {
		type part struct {
			counts checkCounts
			entry  *entry[checkCounts]
			name   string
			left   map[string]uint64 // what it had counted when it took another name
		}
		var l ledger[checkCounts]
		var parts []*part
		want, before := map[string]uint64{}, map[string]uint64{}
		choose := func(t *rapid.T) *part {
			if len(parts) == 0 {
				t.Skip("no part")
			}
			return rapid.SampledFrom(parts).Draw(t, "part")
		}
		t.Repeat(map[string]func(*rapid.T){
			"open": func(t *rapid.T) {
				p := &part{name: names.Draw(t, "name"), left: map[string]uint64{}}
				p.entry = l.open(p.name, func() checkCounts { return p.counts })
				parts = append(parts, p)
			},
			"count": func(t *rapid.T) {
				p, n := choose(t), rapid.Uint64Range(1, 10).Draw(t, "n")
				p.counts.probes += n
				want[p.name] += n
			},
			"rename": func(t *rapid.T) {
				p, name := choose(t), names.Draw(t, "name")
				if name != p.name {
					p.left[p.name] = p.counts.probes
					want[name] += p.counts.probes - p.left[name] // which it takes along
					p.left[name] = 0
				}
				p.name = name
				p.entry.rename(name)
			},
			"look": func(t *rapid.T) { choose(t).entry.look() },
			"close": func(t *rapid.T) {
				p := choose(t)
				p.entry.close()
				p.entry.close()
				p.entry.look()
				p.counts.probes += 100 // of which nobody takes note
				for i := range parts {
					if parts[i] == p {
						parts = append(parts[:i], parts[i+1:]...)
						break
					}
				}
			},
			"": func(t *rapid.T) {
				for _, name := range []string{"a", "b", "c"} {
					got := l.total(name).probes
					if got != want[name] || got < before[name] {
						t.Fatalf("%s: %d, want %d, and was %d", name, got, want[name], before[name])
					}
					before[name] = got
				}
			},
		})
	})
}

// TestLedgerNameOfBefore: who comes back to a name brings only what has been counted since.
func TestLedgerNameOfBefore(t *testing.T) {
	var l ledger[checkCounts]
	now := checkCounts{probes: 5}
	e := l.open("a", func() checkCounts { return now })
	e.rename("b")
	now.probes = 7
	e.rename("a")
	now.probes = 8
	if a, b := l.total("a").probes, l.total("b").probes; a != 8 || b != 7 {
		t.Errorf("a has %d, b has %d, want 8 and 7", a, b)
	}
}

// TestLedgerIsBounded: names that change all the time are forgotten in the end, and no other.
func TestLedgerIsBounded(t *testing.T) {
	var l ledger[checkCounts]
	one := func() checkCounts { return checkCounts{probes: 1} }
	renamed := l.open("before", one)
	renamed.rename("stays")
	for i := range 10 * maxAbsent {
		e := l.open(fmt.Sprint(i), one)
		e.rename(fmt.Sprint(i, " later"))
		e.close()
		if n := len(l.books); n > maxAbsent+10 {
			t.Fatalf("%d are remembered", n)
		}
	}
	if l.total("stays").probes != 1 || l.total("before").probes != 1 {
		t.Errorf("what counts is forgotten: %v, %v", l.total("stays"), l.total("before"))
	}
	before := l.total("stays")
	l.open("short", one).close()
	if l.total("short").probes != 1 || l.total("stays") != before {
		t.Error("a name of a moment ago is forgotten")
	}
}

// TestLedgerUnderLoad: a counter that is read while its part ends, and another begins, is
// neither missing nor counted twice.
func TestLedgerUnderLoad(t *testing.T) {
	var l ledger[checkCounts]
	done := make(chan struct{})
	var begun atomic.Uint64
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for last := uint64(0); ; {
				now := l.total("a").probes
				if most := begun.Load(); now < last || now > most {
					t.Errorf("%d, was %d, of %d", now, last, most)
				}
				last = now
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for range 1000 {
		begun.Add(1)
		e := l.open("a", func() checkCounts { return checkCounts{probes: 1} })
		e.close()
	}
	close(done)
	readers.Wait()
	if got := l.total("a").probes; got != 1000 {
		t.Errorf("%d in the end, want 1000", got)
	}
}

// TestPoolMemory: backends of a pool come and go, come back at the same or another address,
// and count. A counter never falls and never has more than was counted. If every change is
// preceded by a look, as a reload is, it has all.
func TestPoolMemory(t *testing.T) {
	names := rapid.SampledFrom([]string{"a", "b", "c", "d"})
	rapid.Check(t, func(t *rapid.T) {
		var memory poolMemory
		prompt := rapid.Bool().Draw(t, "a look precedes each change")
		present := map[string]*lb.BackendStatus{}
		counted, before := map[string]uint64{}, map[string]uint64{}
		look := func() {
			var s lb.PoolStatus
			for _, b := range present {
				s.Backends = append(s.Backends, *b)
			}
			memory.look(s)
		}
		t.Repeat(map[string]func(*rapid.T){
			"come": func(t *rapid.T) {
				name := names.Draw(t, "name")
				if prompt {
					look()
				}
				if present[name] == nil {
					b := new(lb.BackendStatus)
					b.Name, b.Resolved = name, fmt.Sprintf("192.0.2.%d:80", rapid.IntRange(1, 2).Draw(t, "address"))
					present[name] = b
				}
			},
			"go": func(t *rapid.T) {
				if prompt {
					look()
				}
				delete(present, names.Draw(t, "name"))
			},
			"count": func(t *rapid.T) {
				name, n := names.Draw(t, "name"), rapid.Uint64Range(1, 5).Draw(t, "n")
				if b := present[name]; b != nil {
					b.Picks += n
					counted[name] += n
				}
			},
			"": func(t *rapid.T) {
				if !rapid.Bool().Draw(t, "somebody looks") {
					return
				}
				look()
				for name, b := range memory.counts().backends {
					if b.picks < before[name] || b.picks > counted[name] || prompt && present[name] != nil && b.picks != counted[name] {
						t.Fatalf("%s: %d, was %d, %d counted", name, b.picks, before[name], counted[name])
					}
					before[name] = b.picks
				}
			},
		})
	})
}

// TestPoolMemoryIsBounded: names that change all the time are forgotten in the end.
func TestPoolMemoryIsBounded(t *testing.T) {
	var memory poolMemory
	for i := range 10 * maxAbsent {
		var b lb.BackendStatus
		b.Name, b.Picks = fmt.Sprint(i), 1
		memory.look(lb.PoolStatus{Backends: []lb.BackendStatus{b}})
		if n := len(memory.backends); n > maxAbsent+10 {
			t.Fatalf("%d are remembered", n)
		}
	}
}
