package vip

import (
	"testing"
	"time"
)

func TestLooks(t *testing.T) {
	now := time.Unix(1000, 0)
	var l looks
	if !l.due(false).Before(now) || !l.due(true).Before(now) {
		t.Error("the first look is not due at once")
	}
	l.begun(now)
	if got, soon := l.due(false).Sub(now), l.due(true).Sub(now); got != patrol || soon != spacing {
		t.Errorf("the next look is due after %v, and %v if something happens", got, soon)
	}
	l.soon()
	if got, soon := l.due(false).Sub(now), l.due(true).Sub(now); got != again || soon != spacing {
		t.Errorf("after a failure it is due after %v, and %v if something happens", got, soon)
	}
}

// TestHope: an Acquire that failed may succeed when the surroundings are no longer
// those in which it failed, or with another configuration.
func TestHope(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(f *knownFaults)
		want   bool
	}{
		"nothing changes":                  {func(f *knownFaults) { f.compare("a") }, false},
		"something changes":                {func(f *knownFaults) { f.compare("b") }, true},
		"something changes back":           {func(f *knownFaults) { f.compare("b"); f.compare("a") }, true},
		"another configuration":            {func(f *knownFaults) { f.changed() }, true},
		"another failure":                  {func(f *knownFaults) { f.acquired(false); f.compare("b") }, false},
		"another one once it is acquired":  {func(f *knownFaults) { f.acquired(true); f.changed() }, false},
		"something changes after failures": {func(f *knownFaults) { f.acquired(false); f.compare("b"); f.compare("c") }, true},
	} {
		var f knownFaults
		f.acquired(false)
		f.compare("a")
		tt.change(&f)
		if f.hope != tt.want {
			t.Errorf("%s: hope %v, want %v", name, f.hope, tt.want)
		}
	}
	var f knownFaults
	f.changed()
	if f.set([]string{"link eth0 down"}); f.hope || !f.some.Load() {
		t.Error("hope before any failure, or no faults")
	}
}
