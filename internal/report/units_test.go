package report

import (
	"math"
	"testing"
	"time"
)

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 430 * time.Millisecond: "0.4s", 9*time.Second + 999*time.Millisecond: "9.9s", 59 * time.Second: "59s",
		3*time.Minute + 12*time.Second: "3m12s", 5 * time.Minute: "5m", 59*time.Minute + 59*time.Second: "59m59s",
		2*time.Hour + 5*time.Minute: "2h5m", 52 * time.Hour: "2d4h", 400 * day: "400d",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%v) is %s, want %s", d, got, want)
		}
	}
	if got := age(now, time.Time{}); got != "-" {
		t.Errorf("an unknown time has the age %s, want -", got)
	}
}

func TestLatency(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "-", 85 * time.Microsecond: "85us", 420 * time.Microsecond: "0.42ms", 4*time.Millisecond + 260*time.Microsecond: "4.3ms",
		12 * time.Millisecond: "12ms", 1240 * time.Millisecond: "1.2s",
	} {
		if got := latency(Seconds(d)); got != want {
			t.Errorf("latency(%v) is %s, want %s", d, got, want)
		}
	}
}

// TestCount never says more than there is, and takes five characters at most.
func TestCount(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0", 999: "999", 1000: "1.0k", 1999: "1.9k", 9999: "9.9k", 10_000: "10k", 999_999: "999k", 1_000_000: "1.0M", 48_123_456_789: "48G",
		math.MaxUint64: "18E",
	} {
		if got := count(n); got != want {
			t.Errorf("count(%d) is %s, want %s", n, got, want)
		}
	}
}
