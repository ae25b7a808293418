package monitor

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// healthyPair is two routers that do as RFC 9568 §6.4 says, on a link that loses less than
// makes a Backup take over. Neither is ever wrong.
type healthyPair struct {
	*rand.Rand
	t       *testing.T
	routers [2]*router
	every   float64 // seconds
	now     float64
	active  int
	frames  []Frame
}

// jitter is by how much a timer of a busy machine is late.
func (p *healthyPair) jitter() float64 { return p.Float64() * min(p.every/4, 0.01) }

// heard sends what the router i says, unless the capture or the link loses it.
func (p *healthyPair) heard(i int, at float64) {
	p.frames = append(p.frames, p.routers[i].frame(p.t, at))
}

// serve has the Active router advertise n times, of which at most two in a row are lost.
func (p *healthyPair) serve(n int) {
	lost := 0
	for i := range n {
		if lost < 2 && i > 0 && i < n-1 && p.IntN(5) == 0 {
			lost++
		} else {
			p.heard(p.active, p.now+p.jitter())
			lost = 0
		}
		p.now += p.every
	}
}

func (p *healthyPair) skew(i int) float64 {
	return p.every * float64(256-int(p.routers[i].Priority)) / 256
}

// announce has the router i say that it has the address now.
func (p *healthyPair) announce(i int, at float64) {
	if p.routers[i].Source.Is6() {
		p.frames = append(p.frames, neighbor(at, p.routers[i].mac, "2001:db8::100"))
		return
	}
	p.frames = append(p.frames, arp(at, 1, p.routers[i].mac, "192.0.2.100", "192.0.2.100"))
}

// answer has the router i answer a question for the address.
func (p *healthyPair) answer(i int, at float64) {
	if p.routers[i].Source.Is4() {
		p.frames = append(p.frames, arp(at, 2, p.routers[i].mac, "192.0.2.100", a3))
	}
}

// next is one of the things that happen to a pair in order.
func (p *healthyPair) next() (what string) {
	other := 1 - p.active
	switch what = []string{"serves", "dies", "hands over", "is outranked", "answers priority 0"}[p.IntN(5)]; what {
	case "dies":
		p.now += 2*p.every + p.skew(other) + p.jitter()
		p.announce(other, p.now-0.001)
		p.active = other
	case "hands over": // and keeps the address until it hears the other one
		last := p.now - p.every/2
		p.frames = append(p.frames, p.routers[p.active].leave(p.t, last))
		p.now = last + p.skew(other) + p.jitter()
		p.answer(p.active, p.now-0.001)
		p.answer(p.active, p.now+0.001)
		p.active = other
	case "is outranked":
		if p.routers[other].Priority > p.routers[p.active].Priority {
			p.now -= p.every * p.Float64()
			p.answer(p.active, p.now+0.001)
			p.announce(other, p.now+0.002)
			p.active = other
		}
	case "answers priority 0": // a Backup that takes over at once, and is outranked by one that starts again
		last := p.now - p.every/2
		p.frames = append(p.frames, p.routers[p.active].leave(p.t, last))
		p.now = last + p.skew(other)
		p.active = other
		p.serve(1)
		if back := 1 - p.active; p.routers[back].Priority > p.routers[p.active].Priority {
			p.active = back
		}
	}
	p.serve(2 + p.IntN(30))
	return what
}

// TestHealthyPairs: whatever happens to a pair that does as it should, no problem is said of
// it: at all intervals, in both versions and families, with another pair beside it that
// has the same number in the other family.
func TestHealthyPairs(t *testing.T) {
	seed := rand.Uint64()
	for i := range 200 {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		every1 := []time.Duration{10 * time.Millisecond, 100 * time.Millisecond, time.Second, 3 * time.Second}[r.IntN(4)]
		version := func(*router) {}
		if every1 >= time.Second && r.IntN(2) == 0 {
			version = version2("secret")
		}
		var frames []Frame
		var story []string
		end := 1e9 // when the first pair has no frames any more
		hosts := [][2]string{{a1, a2}, {"fe80::1", "fe80::2"}}
		if every1 < time.Second || r.IntN(2) == 0 {
			hosts = hosts[:1]
		}
		for _, h := range hosts {
			if h[0] != a1 {
				version = func(*router) {}
			}
			priorities := [2]uint8{uint8(1 + r.IntN(254)), uint8(1 + r.IntN(254))}
			p := &healthyPair{Rand: r, t: t, every: every1.Seconds(), routers: [2]*router{
				newRouter(h[0], priorities[0], every(every1), version), newRouter(h[1], priorities[1], every(every1), version)}}
			p.serve(3)
			for range 20 {
				story = append(story, p.next())
			}
			frames = append(frames, p.frames...)
			end = min(end, p.now)
		}
		frames = slices.DeleteFunc(frames, func(f Frame) bool { return f.Time.After(at(end)) })
		w, events := show(t, end, frames...)
		if n := w.Problems(); n > 0 {
			var said []string
			for _, e := range events {
				if e.Kind != KindAdvertisement {
					said = append(said, fmt.Sprintf("%.3f %v %s", e.Time.Sub(epoch).Seconds(), e.Kind, e.Text))
				}
			}
			t.Fatalf("seed %d, %d, every %v: %d problems of %v:\n%s", seed, i, every1, n, story, strings.Join(said, "\n"))
		}
	}
}
