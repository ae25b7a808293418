package lb

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The table must be the same in all versions that may ever share a cluster.
func TestMaglevTableIsFixed(t *testing.T) {
	table := MaglevTable([]string{"192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80"}, []int{1, 2, 1})
	var h uint64
	for _, i := range table {
		h = mix(h ^ uint64(i))
	}
	if want := uint64(0x774ac60a14df7ba6); len(table) != 65537 || h != want {
		t.Errorf("table of %d entries with digest %#x, want 65537 and %#x", len(table), h, want)
	}
}

// paperTable is the algorithm taken literally, and slow: round after round each backend is
// asked whether it has its turn. The oracle of MaglevTable.
func paperTable(names []string, weights []int) []uint32 {
	size, heaviest := tableSize(len(names)), slices.Max(weights)
	type backend struct {
		index, credit int
		at, skip      uint64
	}
	order := make([]backend, len(names))
	for i, name := range names {
		h := hashString(name)
		order[i] = backend{index: i, at: h % size, skip: mix(h+1)%(size-1) + 1}
	}
	slices.SortFunc(order, func(a, b backend) int { return strings.Compare(names[a.index], names[b.index]) })
	const empty = ^uint32(0)
	table := slices.Repeat([]uint32{empty}, int(size))
	for filled := uint64(0); ; {
		for i := range order {
			b := &order[i]
			b.credit += weights[b.index]
			if b.credit < heaviest {
				continue
			}
			b.credit -= heaviest
			for table[b.at] != empty {
				b.at = (b.at + b.skip) % size
			}
			table[b.at] = uint32(b.index)
			if filled++; filled == size {
				return table
			}
		}
	}
}

// Whatever the weights, the table is that of the versions before.
func TestMaglevTableEqualsThePaper(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		heaviest := rapid.SampledFrom([]int{1, 3, 100, MaxWeight}).Draw(t, "heaviest")
		weights := rapid.SliceOfN(rapid.IntRange(0, heaviest), 1, 60).Draw(t, "weights")
		weights[rapid.IntRange(0, len(weights)-1).Draw(t, "one")] = heaviest
		var names []string
		for i := range weights {
			names = append(names, fmt.Sprintf("app%d", (i*7919)%len(weights)*len(weights)+i))
		}
		if got := MaglevTable(names, weights); !slices.Equal(got, paperTable(names, weights)) {
			t.Fatalf("another table of weights %v", weights)
		}
	})
}

// A table of the next size up, most of whose rounds are those of one backend.
func TestMaglevTableOfManyEqualsThePaper(t *testing.T) {
	names, weights := make([]string, 1500), make([]int, 1500)
	for i := range names {
		names[i], weights[i] = fmt.Sprint("app", i), 1+i%3
	}
	weights[7] = 500
	if !slices.Equal(MaglevTable(names, weights), paperTable(names, weights)) {
		t.Error("another table")
	}
}

// A backend without weight has no entries. The entries of others are as if the backend
// were not there, in a table of the same size.
func TestMaglevTableWithoutWeight(t *testing.T) {
	table := MaglevTable([]string{"a", "b", "c"}, []int{1, 0, 1})
	if slices.Contains(table, 1) || !slices.Contains(table, 0) || !slices.Contains(table, 2) {
		t.Error("want entries of a and c")
	}
	for _, weights := range [][]int{nil, {0, 0}} {
		if table := MaglevTable([]string{"a", "b"}[:len(weights)], weights); table != nil {
			t.Errorf("weights %d: a table of %d entries, want none", weights, len(table))
		}
	}
}

// Each step on the way to a table is a turn, whatever the weights: rounds in which thousands
// have none cost nothing.
func TestMaglevTableStepsAreTurns(t *testing.T) {
	const n = 5000
	r := newRounds(n, func(i int) int {
		if i == n/2 {
			return MaxWeight
		}
		return 1
	})
	// Until the light ones have their first turns, the heavy one has all turns but theirs.
	counts := make([]int, n)
	for range MaxWeight + n - 1 {
		counts[r.take()]++
	}
	for i, got := range counts {
		want := 1
		if i == n/2 {
			want = MaxWeight
		}
		if got != want {
			t.Fatalf("%d has %d turns, want %d", i, got, want)
		}
	}
}

func BenchmarkMaglevTable(b *testing.B) {
	for _, n := range []int{500, 5000} {
		for name, weight := range benchWeights {
			b.Run(fmt.Sprintf("%d %s", n, name), func(b *testing.B) {
				names, weights := make([]string, n), make([]int, n)
				for i := range names {
					names[i], weights[i] = fmt.Sprint("app", i), weight(i)
				}
				for b.Loop() {
					MaglevTable(names, weights)
				}
			})
		}
	}
}

// benchWeights are kinds of weights that cost differently.
var benchWeights = map[string]func(i int) int{
	"equal":    func(int) int { return 1 },
	"mixed":    func(i int) int { return 1 + i%100 },
	"distinct": func(i int) int { return 1 + i },
	"heavy": func(i int) int {
		if i == 7 {
			return MaxWeight
		}
		return 1
	},
}
