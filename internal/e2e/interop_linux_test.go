package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
)

// outage is longer than any that the timers explain. How long it is exactly is
// asserted in virtual time, and printed here.
const outage = 10 * interval

// takeable is a stall in which a node may have been silent for so long that the other
// one takes over: for more than three intervals from an advertisement that was up to
// one interval ago.
const takeable = 2 * interval

// handover is longer than a node that is there takes to hand over to another.
const handover = 2 * interval

// farewell is within what a router has taken over that has heard priority 0:
// without that it would wait for more than two intervals and skew.
const farewell = 5 * interval / 2

// skew is for how long a router of the priority waits after priority 0 (RFC
// 3768 §6.1, RFC 9568 §6.1) with an interval of one second.
func skew(priority uint8) time.Duration { return time.Duration(256-int(priority)) * interval / 256 }

// step is one event in the life of a pair.
type step struct {
	what string
	do   func(p *pair) error
	// Who has the addresses then: of routers with a better priority on LB-01,
	// and of those with equal priorities.
	better, equal holders
	// Whether it has to be noticed that nobody has the addresses.
	dark bool
	// For how long nothing may happen after that.
	quiet time.Duration
}

const (
	// aWhile is long enough for a wrong answer to an advertisement.
	aWhile = interval + 200*time.Millisecond
	// aLongWhile is long enough for a node that hears nothing to take over.
	aLongWhile = 9 * interval / 2
)

// life is what every pair goes through. Steps build on one another.
var life = []step{
	{
		what: "LB-01 starts alone", do: func(p *pair) error { return p.nodes[0].powerOn() },
		better: lb01, equal: lb01, dark: true, quiet: aWhile,
	},
	{
		what: "LB-02 joins", do: func(p *pair) error { return p.nodes[1].powerOn() },
		better: lb01, equal: lb01, quiet: aLongWhile,
	},
	{
		what: "LB-01 dies", do: func(p *pair) error { return p.nodes[0].powerOff() },
		better: lb02, equal: lb02, dark: true, quiet: aWhile,
	},
	{
		what: "LB-01 returns", do: func(p *pair) error { return p.nodes[0].powerOn() },
		better: lb01, equal: lb02, quiet: aWhile,
	},
	{
		what: "LB-01 is stopped", do: stopFirst,
		better: lb02, equal: lb02, dark: true, quiet: aWhile,
	},
	{
		what: "LB-01 is started", do: func(p *pair) error { return p.nodes[0].powerOn() },
		better: lb01, equal: lb02, quiet: aWhile,
	},
	{
		what: "the LAN splits", do: func(p *pair) error { return p.nodes[0].host.Isolate() },
		better: both, equal: both,
	},
	{
		// Of equal priorities the greater source address wins (RFC 9568 §6.4.3).
		what: "the LAN heals", do: func(p *pair) error { return p.nodes[0].host.Rejoin() },
		better: lb01, equal: lb02, quiet: aLongWhile,
	},
	{
		what: "LB-02 dies", do: func(p *pair) error { return p.nodes[1].powerOff() },
		better: lb01, equal: lb01, dark: true, quiet: aWhile,
	},
	{
		what: "LB-02 returns", do: func(p *pair) error { return p.nodes[1].powerOn() },
		better: lb01, equal: lb01, quiet: aLongWhile,
	},
}

// kinds are the kinds of routers that both programs know.
func kinds(hmac bool) []virtualRouter {
	var list []virtualRouter
	vrid := uint8(50)
	for _, kind := range []struct {
		name    string
		version uint8
		auth    string
		ipv6    bool
	}{
		{"v2 PASS", 2, "pass", false},
		{"v2 AH", 2, "ah", false},
		{"v3 IPv4", 3, "", false},
		{"v3 IPv6", 3, "", true},
		{"v3 IPv4 HMAC", 3, "hmac", false},
	} {
		if kind.auth == "hmac" && !hmac {
			continue
		}
		if kind.ipv6 {
			vrid -= 4 // beside the IPv4 ones with the same VRIDs
		}
		for _, cast := range casts {
			for _, equal := range []bool{false, true} {
				vrid++
				name, priority := kind.name+" "+cast.name, [2]uint8{120, 110}
				if equal {
					name, priority = name+", equal priorities", [2]uint8{100, 100}
				}
				list = append(list, newRouter(name, vrid, kind.version, kind.auth, kind.ipv6, cast.unicast, priority))
			}
		}
	}
	return list
}

// TestInterop: havip and keepalived share addresses in every way that both
// know, whichever of them is the better node, through everything that happens
// to nodes. All the routers of a pair live through it side by side on one
// interface. Under AH it shows too that a node that was started again is
// heard, whose sequence numbers start again in keepalived.
func TestInterop(t *testing.T) {
	t.Parallel()
	lab.Need(t, "keepalived")
	h := havipPeer(t)
	for _, tc := range []struct {
		peers   [2]peer
		routers []virtualRouter
	}{
		{[2]peer{h, keepalivedPeer}, kinds(false)},
		{[2]peer{keepalivedPeer, h}, kinds(false)},
		{[2]peer{h, h}, kinds(true)},
	} {
		t.Run(fmt.Sprintf("LB-01 %s/LB-02 %s", tc.peers[0].name, tc.peers[1].name), func(t *testing.T) {
			t.Parallel()
			newPair(t, tc.peers, tc.routers).live(life)
		})
	}
}

// live goes through the steps and prints what each of them cost.
func (p *pair) live(steps []step) {
	for _, s := range steps {
		before, from := p.now(), time.Now()
		if err := s.do(p); err != nil {
			p.t.Fatalf("%s: %v", s.what, err)
		}
		p.await(s.what, func(r *virtualRouter) holders {
			if r.equal() {
				return s.equal
			}
			return s.better
		})
		var none, two []time.Duration
		for j, by := range p.now() {
			n, b, changes := p.since(j, from)
			r := &p.routers[j]
			stalled := p.stalled(from)
			if by == before[j] {
				if changes > 0 && stalled < takeable {
					p.t.Errorf("%s: %s: the addresses should stay with %v, but moved %d times (late by %v)", s.what, r.name, by, changes, stalled)
				}
				continue
			}
			none, two = append(none, n), append(two, b)
			if n > outage+stalled || b > outage+stalled || n > handover+stalled && !s.dark {
				p.t.Errorf("%s: %s: nobody had the addresses for %v, both for %v", s.what, r.name, n, b)
			}
		}
		if len(none) == 0 {
			p.t.Logf("%-18s  no address moved", s.what)
		} else {
			p.t.Logf("%-18s  %2d addresses moved, held by nobody for %s, by both for %s; this machine was late by %v",
				s.what, len(none), span(none), span(two), p.stalled(from).Round(time.Millisecond))
		}
		p.quiet(s.what, s.quiet)
		if p.t.Failed() {
			p.t.FailNow() // the next step starts from where this one should have ended
		}
	}
}

func span(d []time.Duration) string {
	return fmt.Sprintf("%v to %v", slices.Min(d).Round(time.Millisecond), slices.Max(d).Round(time.Millisecond))
}

// stopFirst stops LB-01 as its administrator does.
func stopFirst(p *pair) error { return p.handOver(p.nodes[0].stop) }

// handOver makes LB-01 leave, which is said with priority 0, and LB-02 takes
// over when its skew has passed.
func (p *pair) handOver(leave func() error) error {
	from, by := time.Now(), p.now()
	if err := leave(); err != nil {
		return err
	}
	p.await("LB-02 takes over", func(*virtualRouter) holders { return lb02 })
	var gaps []time.Duration
	for j, r := range p.routers {
		if by[j] != lb01 {
			continue
		}
		var left, next advertisement
		lab.Until(p.t, 10*time.Second, r.name+": LB-02 advertises", func() bool {
			list := p.advertisements(from)
			i := slices.IndexFunc(list, func(a advertisement) bool { return a.router == j && a.node == 0 && a.priority == 0 })
			k := slices.IndexFunc(list, func(a advertisement) bool { return a.router == j && a.node == 1 })
			if i >= 0 {
				left = list[i]
			}
			if k >= 0 {
				next = list[k]
			}
			return k >= 0
		})
		gap := next.at.Sub(left.at)
		switch {
		case left.at.IsZero():
			p.t.Errorf("%s: LB-01 left without priority 0", r.name)
		case gap <= 0 || gap > farewell+p.stalled(from):
			p.t.Errorf("%s: LB-02 advertises %v after priority 0, want about %v", r.name, gap, skew(r.priority[1]))
		}
		gaps = append(gaps, gap)
	}
	if len(gaps) > 0 {
		p.t.Logf("%-18s  from priority 0 to the successor's advertisement: %s, skew is %v", "", span(gaps), skew(110).Round(time.Millisecond))
	}
	return nil
}

// TestAHRestart: a program that died and is started again at once is heard
// under AH, and hears: sequence numbers that began anew do not look like replayed
// ones for longer than it takes to hear the other node.
func TestAHRestart(t *testing.T) {
	t.Parallel()
	lab.Need(t, "keepalived")
	h := havipPeer(t)
	for _, peers := range [][2]peer{{h, keepalivedPeer}, {keepalivedPeer, h}} {
		t.Run("LB-01 "+peers[0].name+"/LB-02 "+peers[1].name, func(t *testing.T) {
			t.Parallel()
			var routers []virtualRouter
			for i, cast := range casts {
				routers = append(routers, newRouter(cast.name, uint8(51+i), 2, "ah", false, cast.unicast, [2]uint8{120, 110}))
			}
			p := newPair(t, peers, routers)
			p.live(life[:2])
			p.restart(1)
			p.quiet("LB-02 was restarted", aLongWhile)
			from := time.Now()
			p.restart(0)
			lab.Until(t, 30*time.Second, "LB-02 takes over and LB-01 preempts it", func() bool {
				heard := make([]int, len(routers)) // 1: LB-02, 2: LB-01 after it
				for _, a := range p.advertisements(from) {
					if a.node == 1 && heard[a.router] == 0 || a.node == 0 && heard[a.router] == 1 {
						heard[a.router]++
					}
				}
				return !slices.ContainsFunc(heard, func(n int) bool { return n < 2 })
			})
			p.await("LB-01 preempts", func(*virtualRouter) holders { return lb01 })
			for j, r := range routers {
				none, two, _ := p.since(j, from)
				t.Logf("LB-01 was restarted: %s: held by nobody for %v, by both for %v", r.name, none.Round(time.Millisecond), two.Round(time.Millisecond))
			}
			p.quiet("LB-01 was restarted", aLongWhile)
		})
	}
}

// restart kills a node's program, which leaves its addresses where they are,
// and starts it again.
func (p *pair) restart(side int) {
	p.t.Helper()
	if err := p.nodes[side].host.Kill(); err != nil {
		p.t.Fatal(err)
	}
	if err := p.nodes[side].powerOn(); err != nil {
		p.t.Fatal(err)
	}
}
