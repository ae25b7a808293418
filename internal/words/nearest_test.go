package words

import "testing"

// TestNearest: slips of the hand, other ways to join words, and beginnings are found;
// what is like nothing is not.
func TestNearest(t *testing.T) {
	list := []string{"preempt_delay", "priority", "peers", "interval"}
	for s, want := range map[string]string{
		"preemptDelay": "preempt_delay", "PREEMPT-DELAY": "preempt_delay", "prioirty": "priority", "peer": "peers", "intervall": "interval",
		"prio": "priority", "nothing": "", "": "", "x": "",
	} {
		if got := Nearest(s, list); got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
}
