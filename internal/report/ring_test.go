package report

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"
)

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

// TestRingKeepsWhatIsRare: a kind of which there are many, as while a check flaps, takes the
// room of none that is rare.
func TestRingKeepsWhatIsRare(t *testing.T) {
	r := NewRing(100)
	for range 10 {
		r.Add(Event{Kind: KindTransition})
	}
	for range 5000 {
		r.Add(Event{Kind: KindCheck})
		r.Add(Event{Kind: KindBackend})
	}
	kept := map[string]int{}
	events, last, lost := r.After(0)
	for _, e := range events {
		kept[e.Kind]++
	}
	if kept[KindTransition] != 10 || kept[KindCheck] != 45 || kept[KindBackend] != 45 || last != 10010 || !lost {
		t.Errorf("kept %v, the last is %d, lost %v", kept, last, lost)
	}
	if events[0].ID != 1 || events[len(events)-1].ID != last {
		t.Errorf("from %d to %d, want 1 to %d", events[0].ID, events[len(events)-1].ID, last)
	}
}

// TestRing: whatever comes, a ring has as many as fit, with IDs that grow by one. Who asks
// for what is behind an ID gets all of it that is kept, in order, and hears whether that is
// all there was.
func TestRing(t *testing.T) {
	kinds := rapid.SampledFrom([]string{KindTransition, KindCheck, KindCheck, KindCheck, KindBackend})
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 8).Draw(t, "size")
		r := NewRing(size)
		added := map[uint64]string{}
		for id := range uint64(rapid.IntRange(0, 40).Draw(t, "events")) {
			kind := kinds.Draw(t, "kind")
			r.Add(Event{Kind: kind})
			added[id+1] = kind
			if events, last, _ := r.After(0); len(events) != min(len(added), size) || last != id+1 || events[len(events)-1].ID != last {
				t.Fatalf("%d events, the last is %d, of %d", len(events), last, len(added))
			}
		}
		all, last, _ := r.After(0)
		for id := range last + 3 {
			events, _, lost := r.After(id)
			from := id
			if id > last {
				from = 0
			}
			want := slices.Clone(all)
			want = slices.DeleteFunc(want, func(e Event) bool { return e.ID <= from })
			if !slices.EqualFunc(events, want, func(a, b Event) bool { return a.ID == b.ID && a.Kind == added[a.ID] }) {
				t.Fatalf("after %d: %v, want %v", id, events, want)
			}
			if missing := uint64(len(events)) < last-from; lost != missing {
				t.Fatalf("after %d: lost %v, but %d of %d are there", id, lost, len(events), last-from)
			}
		}
	})
}

// TestRingWait: who waits is woken by the next event, and not before.
func TestRingWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRing(2)
		r.Add(Event{})
		woken := make(chan error, 1)
		go func() { woken <- r.Wait(t.Context(), 1) }()
		synctest.Wait()
		if len(woken) != 0 {
			t.Fatal("woken by nothing")
		}
		r.Add(Event{})
		if err := <-woken; err != nil {
			t.Fatal(err)
		}
		for _, id := range []uint64{0, 1, 3} { // late, and of before a restart
			if err := r.Wait(t.Context(), id); err != nil {
				t.Errorf("after %d: %v", id, err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := r.Wait(ctx, 2); err != context.Canceled {
			t.Errorf("given up: %v", err)
		}
	})
}
