package daemon

import "time"

const (
	// reapInterval is the pause between two looks of the system's first process for
	// children that have ended.
	reapInterval = time.Second
	// reapLooks is how many looks in a row have to find an ended child before the child
	// is taken for an orphan: whoever starts a child here waits for it at once. Looks
	// are counted rather than time, of which a frozen process may miss any amount.
	reapLooks = 5
)

// reaper finds the orphans among the children that have ended. Processes that
// programs leave behind become children of the system's first process, and nobody else
// collects them. A child for which a check waits must be left alone: its end is the
// result of the check.
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
