package lb

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// byName prefers the backend that a flow names, and else takes the one least loaded.
type byName struct{ seen [][]string }

func (b *byName) Pick(f Flow, candidates []Candidate) int {
	var names []string
	least := 0
	for i, c := range candidates {
		names = append(names, c.Backend().Name)
		if c.Active() < candidates[least].Active() {
			least = i
		}
	}
	b.seen = append(b.seen, names)
	switch f.Key {
	case "":
		return least
	case "none":
		return -1
	}
	return slices.Index(names, f.Key)
}

// A Balancer chooses among the backends that may be used, and no others.
func TestBalancerOfAnEmbedder(t *testing.T) {
	b := new(byName)
	p := newPool(t, PoolConfig{Balancer: b, Backends: []Backend{
		{Name: "a", Address: "192.0.2.1:80", MaxConns: 1}, {Name: "b", Address: "192.0.2.2:80"}, {Name: "c", Address: "192.0.2.3:80"},
		{Name: "d", Address: "192.0.2.4:80", Backup: true}}})
	p.SetHealth("c", errDown)
	flow := &Flow{Key: "b"}
	for i, tt := range []struct {
		flow       *Flow
		candidates string
		want       string
	}{
		{new(Flow), "a b", "a"},
		{nil, "b", "b"}, // a has its connection
		{flow, "b", "b"},
		{flow, "d", ""}, // b was tried
		{&Flow{Key: "none"}, "d", ""},
	} {
		k, err := p.Pick(tt.flow)
		if last := strings.Join(b.seen[len(b.seen)-1], " "); last != tt.candidates || k.Backend() != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("case %d: %q of %q, %v, want %q of %q", i, k.Backend(), last, err, tt.want, tt.candidates)
		}
	}
	cfg := PoolConfig{Balancer: b, Balance: Maglev}
	if err := cfg.Validate(); err == nil || err.Error() != `Balance: "maglev": want none together with a Balancer` {
		t.Error(err)
	}
	cfg.Balance = ""
	if err := cfg.WithDefaults().Validate(); err != nil {
		t.Error(err)
	}
}

// A pick is given back once, however often it is done.
func TestPickIsDoneOnce(t *testing.T) {
	p := newPool(t, PoolConfig{Backends: backends(1)})
	other, err := p.Acquire(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	k, err := p.Pick(nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		k.Done(Failure)
		if st := p.Status().Backends[0]; st.Active != 1 || st.Failures != 1 {
			t.Errorf("%d are active after %d failures, want 1 and 1", st.Active, st.Failures)
		}
	}
	other.Done(Neutral)
	k = Pick{}
	k.Report(Failure)
	k.Connected(1)
	k.Transferred(1, 1)
	k.Done(Failure)
	if k.Backend() != "" || k.Address() != "" {
		t.Errorf("no backend is called %q at %q", k.Backend(), k.Address())
	}
}

// Outcomes print as words, and are read as words.
func TestResultWords(t *testing.T) {
	for r, word := range map[Result]string{Neutral: "neutral", Success: "success", Failure: "failure"} {
		var got Result
		if text, _ := r.MarshalText(); string(text) != word || fmt.Sprint(r) != word || got.UnmarshalText(text) != nil || got != r {
			t.Errorf("%d is %q, which is %v, want %q", r, text, got, word)
		}
	}
	if err := new(Result).UnmarshalText([]byte("?")); err == nil || err.Error() != `"?": want neutral, success or failure` {
		t.Error(err)
	}
}
