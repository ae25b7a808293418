package daemon

import (
	"slices"
	"testing"
)

// TestOrphans: an orphan is who has ended and is still there at many looks in a row;
// another child with the same number begins anew.
func TestOrphans(t *testing.T) {
	var r reaper
	orphan, late := endedChild{7, 100}, endedChild{8, 100}
	for n := range reapLooks - 1 {
		if got := r.look([]endedChild{orphan, late}); got != nil {
			t.Fatalf("look %d takes %v", n+1, got)
		}
	}
	late.start = 200 // the first one was collected by who has started it
	if got := r.look([]endedChild{late, orphan}); !slices.Equal(got, []int{7}) {
		t.Errorf("the last look takes %v, want 7", got)
	}
	if got := r.look(nil); got != nil {
		t.Errorf("%v are taken that are gone", got)
	}
	if got := r.look([]endedChild{late, orphan}); got != nil {
		t.Errorf("%v are taken at once after they have come again", got)
	}
}
