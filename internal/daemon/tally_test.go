package daemon

import (
	"sync"
	"testing"
	"time"

	"github.com/havip/havip/lb"
)

// TestTally: each record is in one class and in one bucket.
func TestTally(t *testing.T) {
	last := len(tallyBounds)
	for _, tc := range []struct {
		name          string
		record        lb.Record
		class, bucket int
	}{
		{"a fast response", lb.Record{Status: 204, Duration: 100 * time.Microsecond}, 2, 0},
		{"a bound belongs to its bucket", lb.Record{Status: 301, Duration: time.Millisecond}, 3, 1},
		{"what is longer than a bound does not", lb.Record{Status: 404, Duration: time.Millisecond + 1}, 4, 2},
		{"a switch of protocols", lb.Record{Status: 101, Duration: time.Minute}, 1, last - 1},
		{"longer than all bounds", lb.Record{Status: 503, Duration: time.Hour}, 5, last},
		{"a connection has no class", lb.Record{Duration: 2 * time.Second}, 0, 11},
		{"nor has a status out of range", lb.Record{Status: 999, Duration: 2 * time.Second}, 0, 11},
		{"a clock that went back", lb.Record{Status: 200, Duration: -time.Second}, 2, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got tally
			got.record(&tc.record)
			var want Tally
			want.Statuses[tc.class], want.Durations[tc.bucket], want.Sum = 1, 1, max(0, tc.record.Duration)
			if got.total() != want {
				t.Errorf("got %+v, want %+v", got.total(), want)
			}
		})
	}
}

// TestTallyLosesNothing: many loops count at the same time, and allocate nothing.
func TestTallyLosesNothing(t *testing.T) {
	const loops, each = 8, 10000
	var sum tally
	var done sync.WaitGroup
	for i := range loops {
		done.Go(func() {
			for n := range each {
				sum.record(&lb.Record{Status: 200, Duration: time.Duration(i*n) * time.Microsecond})
			}
		})
	}
	done.Wait()
	got, records := sum.total(), uint64(0)
	for _, n := range got.Durations {
		records += n
	}
	if got.Statuses[2] != loops*each || records != loops*each {
		t.Errorf("%d responses and %d durations, want %d", got.Statuses[2], records, loops*each)
	}
	r := lb.Record{Status: 200, Duration: time.Second}
	record := (&Daemon{}).recorder(parse(t, `services: [{name: a, listen: ":80", backends: ["192.0.2.1:80"]}]`).Services[0], &sum, new(lines))
	if n := testing.AllocsPerRun(1000, func() { record(r) }); n != 0 {
		t.Errorf("%v allocations a record, want none", n)
	}
}

// BenchmarkTally is what each request or connection pays to be counted.
func BenchmarkTally(b *testing.B) {
	b.Run("one loop", func(b *testing.B) {
		var sum tally
		r := lb.Record{Status: 200, Duration: 3 * time.Millisecond}
		for b.Loop() {
			sum.record(&r)
		}
	})
	b.Run("all loops", func(b *testing.B) {
		var sum tally
		b.RunParallel(func(pb *testing.PB) {
			r := lb.Record{Status: 200, Duration: 3 * time.Millisecond}
			for pb.Next() {
				sum.record(&r)
			}
		})
	})
}
