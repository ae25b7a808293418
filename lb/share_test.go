package lb

import "testing"

// A share that is used up is taken from whoever has most, until those that ask have
// as much as that one. What is taken counts as given back at once.
func TestShareIsTakenFromWhoeverHasMost(t *testing.T) {
	var s share
	asked := 0
	a := s.join(10, func() { asked++ })
	b := s.join(10, func() { t.Error("the smaller one was asked to give way") })
	took := func(h *holder) (n int) {
		for range 20 {
			if h.take() {
				n++
			}
		}
		return n
	}
	check := func(what string, held, owed, got, want int) {
		t.Helper()
		if a.held != held || a.owed != owed || got != want || a.held+b.held != s.total || s.total > s.limit {
			t.Errorf("%s: %d got; a holds %d and owes %d, b holds %d, in all %d; want %d got, a to hold %d and to owe %d",
				what, got, a.held, a.owed, b.held, s.total, want, held, owed)
		}
	}
	check("alone", 10, 0, took(a), 10)
	check("against the first one", 5, 5, took(b), 5)
	check("again", 5, 5, took(a), 0)
	if asked != 5 {
		t.Errorf("asked %d times to give way, want 5", asked)
	}
	for i := range 5 {
		if !a.owes() {
			t.Errorf("nothing is owed after %d were given back", i)
		}
		a.give()
	}
	check("given back", 5, 0, took(a), 0)
	a.give()
	check("one closed", 5, 0, took(a), 1)
	for range 5 {
		b.give()
	}
	b.leave()
	check("alone again", 10, 0, took(a), 5)
	c := s.join(4, func() {})
	if s.limit != 4 || !c.take() || c.held != 1 || s.total != 10 {
		t.Errorf("with a lower limit: %+v, %+v", c, s.total)
	}
}
