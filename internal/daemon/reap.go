package daemon

import "time"

const (
	// reapInterval is how often the system's first process looks for children that
	// have ended.
	reapInterval = time.Second
	// reapLooks is at how many looks in a row a child has to be there until nobody
	// can be waiting for it: whoever starts one here waits at once. Looks are
	// counted rather than time, of which a frozen process may miss any amount.
	reapLooks = 5
)

// reaper finds the orphans among the children that have ended: processes that
// programs leave behind become children of the system's first one, and nobody else
// is there to collect them. A child that somebody waits for must be left alone, as
// its end is the result of a check.
type reaper struct {
	seen map[endedChild]int // at how many looks in a row
}

// endedChild is a child that has ended and has not been collected.
type endedChild struct {
	pid   int
	start uint64 // when it began: another child may get its number
}

// look takes in all children that have ended by now, and returns the orphans.
func (r *reaper) look(ended []endedChild) (orphans []int) {
	seen := make(map[endedChild]int, len(ended))
	for _, c := range ended {
		seen[c] = r.seen[c] + 1
		if seen[c] >= reapLooks {
			orphans = append(orphans, c.pid)
		}
	}
	r.seen = seen
	return orphans
}
