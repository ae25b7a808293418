package report

import "testing"

// TestRingCountsAll: events count by kind, however many of them are kept.
func TestRingCountsAll(t *testing.T) {
	r := NewRing(2)
	for range 10 {
		r.Add(Event{Kind: KindSplit})
		r.Add(Event{Kind: KindCheck})
		r.Add(Event{Kind: KindSplit})
	}
	if got := r.Counts(); len(got) != 2 || got[KindSplit] != 20 || got[KindCheck] != 10 {
		t.Errorf("got %v, want 20 of one kind and 10 of the other", got)
	}
}
