package monitor

import (
	"testing"
	"time"
)

// BenchmarkObserve is one advertisement of 255 virtual routers that advertise every 10 ms,
// which are 25,500 a second.
func BenchmarkObserve(b *testing.B) {
	var frames []Frame
	for i := range 255 {
		frames = append(frames, newRouter(a1, 120, func(r *router) { r.VRID = byte(i + 1) }, every(10*time.Millisecond)).frame(b, 0))
	}
	w := NewWatcher()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		f := frames[i%255]
		f.Time = epoch.Add(time.Duration(i) * 10 * time.Millisecond / 255)
		w.Observe(f)
	}
}
