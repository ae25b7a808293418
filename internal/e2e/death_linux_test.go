package e2e

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
)

var deathOnly = flag.String("death.only", "", "TestDeath: trials whose names match this pattern")

var deathAll = flag.Bool("death.all", false, "TestDeath: every cause at every interval, several times")

// allIntervals are those at which both programs are compared.
var allIntervals = []time.Duration{time.Second, 100 * time.Millisecond, 10 * time.Millisecond}

// TestDeath: whatever dies on the node that has the address, the other node
// takes over in the time that the protocol allows, and has it alone. Keepalived's
// deaths are there for comparison.
//
//	go test ./internal/e2e -run TestDeath -v -death.all -timeout 30m
//
// measures everything that is in README's table.
func TestDeath(t *testing.T) {
	lab.Need(t, "keepalived", "nsenter", "dd")
	t.Parallel()
	lab.New(t) // or say why there cannot be labs
	h := havipPeer(t)
	slow, fast := deathTrials(h)
	// Trials with a short interval have less to wait for, and suffer more from
	// one another.
	results := make(map[*trial][]result)
	if *deathAll {
		runTrials(t, slow, 3, 4, results)
		runTrials(t, fast, 5, 2, results)
	} else {
		runTrials(t, slow, 1, 8, results)
		runTrials(t, fast, 1, 2, results)
	}
	t.Logf("until LB-02 answers, in parentheses how much of it nobody does; for how long both have the address:\n%s", deathTable(append(slow, fast...), results))
}

// deathTrials returns the trials at an interval of one second, and the others.
func deathTrials(h peer) (slow, fast []*trial) {
	only := regexp.MustCompile(*deathOnly)
	// At shorter intervals one of each kind will do.
	some := map[string]bool{"SIGTERM": true, "SIGKILL": true, "SIGSTOP": true}
	for _, active := range []struct {
		peer   peer
		causes []*cause
	}{{h, havipCauses}, {keepalivedPeer, keepalivedCauses}} {
		for _, c := range active.causes {
			for _, other := range []peer{h, keepalivedPeer} {
				for _, interval := range allIntervals {
					tr := &trial{interval: interval, peers: [2]peer{active.peer, other}, cause: c, phase: rand.N(interval), fine: *deathAll}
					switch {
					case !only.MatchString(tr.String()):
					case interval == time.Second:
						slow = append(slow, tr)
					case *deathAll || active.peer.name == h.name && some[c.name]:
						fast = append(fast, tr)
					}
				}
			}
		}
	}
	return slow, fast
}

// runTrials runs each trial so often, so many at the same time, and collects
// the results.
func runTrials(t *testing.T, trials []*trial, times, atOnce int, results map[*trial][]result) {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := make(chan *trial)
	for range atOnce {
		wg.Go(func() {
			for tr := range next {
				r, err := tr.run(t.TempDir())
				// On a machine that is too busy for the interval it may have to
				// be tried again.
				for n := 1; errors.Is(err, errDoubtful) && n < doubtfulTries; n++ {
					r, err = tr.run(t.TempDir())
				}
				switch {
				case errors.Is(err, errImpossible):
					t.Log(err)
					mu.Lock()
					tr.impossible = true
					mu.Unlock()
				case errors.Is(err, errDoubtful):
					t.Log(err)
				case err != nil:
					t.Error(err)
				default:
					mu.Lock()
					results[tr] = append(results[tr], r)
					mu.Unlock()
				}
			}
		})
	}
	for range times {
		for _, tr := range trials {
			next <- tr
		}
	}
	close(next)
	wg.Wait()
}

// errDoubtful is found in the error of a trial that says nothing.
var errDoubtful = errors.New("the machine was too busy")

// doubtfulTries is how often a trial is tried.
const doubtfulTries = 5

// judge finds what is wrong, not what is slow: the numbers are for the table.
func (tr *trial) judge(r result) error {
	if tr.peers[0].name == keepalivedPeer.name {
		return nil // it is what it is
	}
	limit, both := outage+r.stalled, time.Second+r.late
	if tr.cause.told && tr.interval == time.Second {
		// Less than LB-02 waits if it is not told. And while it waits LB-01 lets
		// go of the address.
		limit, both = farewell+r.stalled, 20*time.Millisecond+r.late
	}
	if tr.cause.leased {
		// The kernel is up to half a second late, and this machine too.
		both = max(time.Second, 3*tr.interval) + time.Second + r.late
	}
	switch {
	case r.outage > limit || r.silence > limit || r.both > both:
		return fmt.Errorf("LB-02 answered after %v, nobody for %v, both had the address for %v; want at most %v and %v",
			r.outage, r.silence, r.both, limit, both)
	case r.told == tr.cause.told || tr.cause.leased:
		return nil
	case r.doubtful:
		return fmt.Errorf("%w: LB-01 may not have been Active", errDoubtful)
	}
	return fmt.Errorf("LB-01 sent priority 0: %v", r.told)
}

// deathTable prints the medians of the results, and for how long both had the
// address at worst.
func deathTable(trials []*trial, results map[*trial][]result) string {
	var b strings.Builder
	b.WriteString("| what dies | peer |")
	for _, i := range allIntervals {
		fmt.Fprintf(&b, " %v |", i)
	}
	b.WriteString("\n|---|---|---|---|---|\n")
	type row struct{ active, cause, peer string }
	var rows []row
	cells := map[row]map[time.Duration]string{}
	for _, tr := range trials {
		k := row{tr.peers[0].name, tr.cause.name, tr.peers[1].name}
		if cells[k] == nil {
			cells[k] = map[time.Duration]string{}
			rows = append(rows, k)
		}
		if tr.impossible {
			cells[k][tr.interval] = "cannot be done here"
		}
		if list := results[tr]; len(list) > 0 {
			slices.SortFunc(list, func(a, b result) int { return cmp.Compare(a.outage, b.outage) })
			median := list[(len(list)-1)/2]
			for _, r := range list {
				median.both = max(median.both, r.both)
			}
			cells[k][tr.interval] = median.String()
		}
	}
	for _, k := range rows {
		fmt.Fprintf(&b, "| %s: %s | %s |", k.active, k.cause, k.peer)
		for _, i := range allIntervals {
			fmt.Fprintf(&b, " %s |", cells[k][i])
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func (r result) String() string {
	ms := func(d time.Duration) string { return d.Round(time.Millisecond).String() }
	s := fmt.Sprintf("%s (%s)", ms(r.outage), ms(r.silence))
	switch {
	case r.forgood:
		s += ", both for good"
	case r.both > 0:
		s += ", both " + ms(r.both)
	}
	if r.healed > 0 {
		s += ", back in " + ms(r.healed)
	}
	if r.bothHealed > 0 {
		s += ", both " + ms(r.bothHealed)
	}
	return s
}
