package lb

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Orders of nginx's ngx_http_upstream_round_robin.c; TestOrderOfARealNginx asks one.
func TestRoundRobinOrderOfNginx(t *testing.T) {
	for _, tt := range []struct {
		weights []int
		want    string
	}{
		{[]int{5, 1, 1}, "a a b a c a a a a b a c a a"},
		{[]int{1, 1, 1}, "a b c a b c"},
		{[]int{1, 2, 1}, "b a c b b a c b"},
		{[]int{3, 2}, "a b a b a a b a b a"},
		{[]int{2, 4}, "b a b b a b"},
		{[]int{1, 5}, "b b a b b b"},
		{[]int{7}, "a a a"},
		{[]int{4, 3, 2, 1}, "a b c a b d a c b a"},
	} {
		p := newPool(t, PoolConfig{Backends: backends(tt.weights...)})
		if got := picks(t, p, len(strings.Fields(tt.want))); got != tt.want {
			t.Errorf("weights %v: order %q, want %q", tt.weights, got, tt.want)
		}
	}
}

// nginxOrder is nginx's algorithm taken literally: the oracle of schedule.
func nginxOrder(weights []int, n int) []int {
	current := make([]int, len(weights))
	var order []int
	for range n {
		best, total := -1, 0
		for i, w := range weights {
			current[i] += w
			total += w
			if best < 0 || current[i] > current[best] {
				best = i
			}
		}
		current[best] -= total
		order = append(order, best)
	}
	return order
}

func TestScheduleEqualsNginx(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.IntRange(1, 40), 1, 12).Draw(t, "weights")
		got := schedule(weights)
		if want := nginxOrder(weights, len(got)); !slices.Equal(got, want) {
			t.Fatalf("schedule(%v) = %v, want %v", weights, got, want)
		}
	})
}

func TestScheduleOfHugeWeightsIsBoundedAndProportional(t *testing.T) {
	weights := []int{65535, 65521, 1, 30011}
	order := schedule(weights)
	if len(order) > maxSchedule+len(weights) {
		t.Fatalf("%d entries, want at most %d", len(order), maxSchedule+len(weights))
	}
	counts := make([]int, len(weights))
	for _, i := range order {
		counts[i]++
	}
	for i, w := range weights {
		want := max(1, float64(w)/161068*float64(len(order)))
		if d := float64(counts[i]) - want; d > 2 || d < -2 {
			t.Errorf("weight %d has %d of %d turns, want about %.0f", w, counts[i], len(order), want)
		}
	}
}

// A pool of hundreds of different weights has its schedule in the time that it takes to
// write that down. Each member has its turns, about evenly spread.
func TestScheduleOfManyWeightsIsSpread(t *testing.T) {
	for _, n := range []int{200, 500, 5000} {
		weights := make([]int, n)
		for i := range weights {
			weights[i] = 1 + i*i
		}
		weights[7] = MaxWeight
		reduced, total := reduce(weights)
		if c := distinct(reduced) * total; c <= maxComparisons {
			t.Fatalf("%d: %d comparisons: want more weights", n, c)
		}
		order := schedule(weights)
		last, counts := make([]int, n), make([]int, n)
		for at, i := range order {
			want := total / reduced[i]
			if gap := at - last[i]; counts[i] > 0 && (gap > want+64 || gap < want-64 || gap < want/2) {
				t.Errorf("%d: %d turns between two of weight %d of %d, want about %d", n, gap, reduced[i], total, want)
			}
			last[i] = at
			counts[i]++
		}
		if !slices.Equal(counts, reduced) {
			t.Errorf("%d: the turns are not as many as the weights say", n)
		}
	}
}

func BenchmarkSchedule(b *testing.B) {
	for _, n := range []int{500, 5000} {
		for name, weight := range benchWeights {
			b.Run(fmt.Sprintf("%d %s", n, name), func(b *testing.B) {
				weights := make([]int, n)
				for i := range weights {
					weights[i] = weight(i)
				}
				for b.Loop() {
					schedule(weights)
				}
			})
		}
	}
}

func TestDistributionFollowsWeights(t *testing.T) {
	for _, balance := range []Balance{RoundRobin, Random, PowerOfTwo, Maglev, SourceHash, KeyHash} {
		t.Run(string(balance), func(t *testing.T) {
			bs := backends(1, 2, 4, 8)
			p := newPool(t, PoolConfig{Balance: balance, Backends: bs})
			const n = 30000
			counts := make(map[string]int)
			for i := range n {
				addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
				k, err := p.Pick(&Flow{Client: netip.AddrPortFrom(addr, uint16(i)), Key: fmt.Sprint("key", i)})
				if err != nil {
					t.Fatal(err)
				}
				counts[k.Backend()]++
				k.Done(Success)
			}
			for _, b := range bs {
				want := n * b.Weight / 15
				if got := counts[b.Name]; got < want*9/10-100 || got > want*11/10+100 {
					t.Errorf("%s with weight %d has %d, want about %d", b.Name, b.Weight, got, want)
				}
			}
		})
	}
}

// What a backend that is out would get goes to the others by their weights, however
// much that is.
func TestWeightsHoldWithoutTheHeaviest(t *testing.T) {
	for _, balance := range []Balance{RoundRobin, LeastConn, PowerOfTwo, Random} {
		for _, weights := range [][]int{{100, 1, 1}, {500, 1, 2}, {65535, 3, 1}} {
			p := newPool(t, PoolConfig{Balance: balance, Backends: backends(weights...), FailTimeout: time.Hour})
			for f := new(Flow); !p.Status().Backends[0].Ejected; {
				k, err := p.Pick(f)
				if err != nil {
					t.Fatal(err)
				}
				if k.Backend() == "a" {
					k.Report(Failure)
				}
				k.Done(Neutral)
			}
			got := picks(t, p, 3000)
			b, c := strings.Count(got, "b"), strings.Count(got, "c")
			want := 3000 * weights[1] / (weights[1] + weights[2])
			if b+c != 3000 || b < want-150 || b > want+150 {
				t.Errorf("%s, weights %v: b has %d, c %d; want %d and %d", balance, weights, b, c, want, 3000-want)
			}
		}
	}
}

func TestLeastConnAndPowerOfTwoEvenOut(t *testing.T) {
	for _, balance := range []Balance{LeastConn, PowerOfTwo} {
		p := newPool(t, PoolConfig{Balance: balance, Backends: backends(1, 1, 2)})
		for range 400 {
			if _, err := p.Pick(new(Flow)); err != nil {
				t.Fatal(err)
			}
		}
		for i, want := range []int64{100, 100, 200} {
			got := p.Status().Backends[i].Active
			if slack := map[Balance]int64{LeastConn: 0, PowerOfTwo: 15}[balance]; got < want-slack || got > want+slack {
				t.Errorf("%s: backend %d has %d connections, want %d", balance, i, got, want)
			}
		}
	}
}

// LeastConn compares connections per weight: two of a backend that weighs three are fewer
// than one of a backend that weighs one, whoever's turn it is.
func TestLeastConnGoesByWeight(t *testing.T) {
	for _, tt := range []struct {
		weights, active [2]int
		want            string
	}{
		{[2]int{1, 3}, [2]int{1, 2}, "b"},
		{[2]int{3, 1}, [2]int{2, 1}, "a"},
		{[2]int{1, 3}, [2]int{1, 4}, "a"},
		{[2]int{3, 1}, [2]int{4, 1}, "b"},
	} {
		for turn := range 4 {
			p := newPool(t, PoolConfig{Balance: LeastConn, Backends: backends(tt.weights[:]...)})
			p.turns[0].schedule.Store(uint64(turn))
			for i, m := range p.snap.Load().all {
				m.active.Store(int64(tt.active[i]))
			}
			if got := picks(t, p, 1); got != tt.want {
				t.Errorf("weights %d, connections %d, turn %d: picked %s, want %s", tt.weights, tt.active, turn, got, tt.want)
			}
		}
	}
}

// When a backend goes, or its health does, only the keys it had move.
func TestHashReshuffle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 12).Draw(t, "backends")
		weights := rapid.SliceOfN(rapid.IntRange(1, 5), n, n).Draw(t, "weights")
		gone := rapid.IntRange(0, n-1).Draw(t, "gone")
		bs := backends(weights...)
		p, err := NewPool(PoolConfig{Balance: KeyHash, Backends: bs})
		if err != nil {
			t.Fatal(err)
		}
		where := func(p *Pool) (names []string) {
			for i := range 2000 {
				k, err := p.Pick(&Flow{Key: fmt.Sprint(i)})
				if err != nil {
					t.Fatal(err)
				}
				names = append(names, k.Backend())
				k.Done(Success)
			}
			return names
		}
		moved := func(before, after []string) (mine, others int) {
			for i := range before {
				if before[i] == after[i] {
					continue
				}
				if before[i] == bs[gone].Name {
					mine++
				} else {
					others++
				}
			}
			return
		}
		before := where(p)
		p.SetHealth(bs[gone].Name, errDown)
		if _, others := moved(before, where(p)); others != 0 {
			t.Fatalf("%d keys of other backends moved when %s went down", others, bs[gone].Name)
		}
		p.SetHealth(bs[gone].Name, nil)
		if mine, others := moved(before, where(p)); mine+others != 0 {
			t.Fatalf("%d keys are elsewhere after %s came back", mine+others, bs[gone].Name)
		}
		// Another node, configured in another order, without that backend.
		rest := slices.Concat(bs[gone+1:], bs[:gone])
		if err := p.Update(rest); err != nil {
			t.Fatal(err)
		}
		if _, others := moved(before, where(p)); others > 2000*15/100 {
			t.Fatalf("%d of 2000 keys of other backends moved when %s was removed", others, bs[gone].Name)
		}
		q, err := NewPool(PoolConfig{Balance: KeyHash, Backends: slices.Concat(bs[:gone], bs[gone+1:])})
		if err != nil {
			t.Fatal(err)
		}
		if mine, others := moved(where(p), where(q)); mine+others != 0 {
			t.Fatalf("two nodes with the same backends differ in %d keys", mine+others)
		}
	})
}

// Where few are left, the answer still depends on names and weights alone.
func TestHashWithFewLeft(t *testing.T) {
	const n = 6000
	where := func(up string, reverse bool) (names []string) {
		var bs []Backend
		for i := range 100 {
			bs = append(bs, Backend{Name: fmt.Sprint("app", i), Address: "192.0.2.1:80", Weight: 1 + i%3})
		}
		if reverse {
			slices.Reverse(bs)
		}
		p := newPool(t, PoolConfig{Balance: KeyHash, Backends: bs})
		for _, b := range bs {
			p.SetHealth(b.Name, health(strings.Contains(up, b.Name+" ")))
		}
		for i := range n {
			k, err := p.Pick(&Flow{Key: fmt.Sprint(i)})
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, k.Backend())
			k.Done(Success)
		}
		return names
	}
	three := where("app10 app11 app12 ", false)
	counts := make(map[string]int)
	for _, name := range three {
		counts[name]++
	}
	for name, weight := range map[string]int{"app10": 2, "app11": 3, "app12": 1} {
		if got, want := counts[name], n*weight/6; got < want*9/10 || got > want*11/10 {
			t.Errorf("%s with weight %d has %d keys, want about %d", name, weight, got, want)
		}
	}
	if !slices.Equal(three, where("app10 app11 app12 ", true)) {
		t.Error("the order of the configuration matters")
	}
	for i, name := range where("app10 app12 ", false) {
		if three[i] != "app11" && three[i] != name {
			t.Fatalf("key %d moved from %s to %s, although only app11 went", i, three[i], name)
		}
	}
}

// However little a backend weighs, it has its turns.
func TestScheduleLeavesNobodyOut(t *testing.T) {
	turns := make([]int, 3)
	for _, i := range schedule([]int{1, 4 * maxSchedule, 3}) {
		turns[i]++
	}
	if turns[0] == 0 || turns[2] == 0 {
		t.Errorf("turns %v", turns)
	}
}
