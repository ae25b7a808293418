package vrrp

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	schedules = flag.Int("vrrp.schedules", 10000, "how many random schedules TestSimulator runs")
	firstSeed = flag.Uint64("vrrp.seed", 1, "the seed of the first of them")
)

// TestSimulator runs networks of routers through random trouble and checks the
// rules of sim_rules_test.go. To look at one schedule:
//
//	go test ./vrrp -run TestSimulator -v -vrrp.schedules=1 -vrrp.seed=N
func TestSimulator(t *testing.T) {
	began := time.Now()
	var next atomic.Uint64
	var broken sync.Map
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= uint64(*schedules) {
					return
				}
				if f := runSchedule(*firstSeed+i, nil); f != "" {
					broken.Store(*firstSeed+i, f)
					next.Store(uint64(*schedules))
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d schedules from seed %d in %v", *schedules, *firstSeed, time.Since(began).Round(time.Millisecond))
	broken.Range(func(seed, f any) bool {
		var trace transcript
		runSchedule(seed.(uint64), &trace)
		t.Errorf("seed %d: %s\n%s", seed, f, &trace)
		return true
	})
	if *schedules == 1 && testing.Verbose() && !t.Failed() {
		var trace transcript
		runSchedule(*firstSeed, &trace)
		t.Logf("seed %d\n%s", *firstSeed, &trace)
	}
}

// transcript is a readable account of a schedule.
type transcript struct {
	lines []string
	main  []bool
}

func (t *transcript) add(at time.Duration, text string, main bool) {
	t.lines = append(t.lines, fmt.Sprintf("%14.6fs  %s", at.Seconds(), text))
	t.main = append(t.main, main)
}

// String returns what mattered, and the last hundred lines in full.
func (t *transcript) String() string {
	var b strings.Builder
	for i, line := range t.lines {
		if t.main[i] || i >= len(t.lines)-100 {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

// runSchedule runs the schedule of a seed and returns the rule that it broke.
func runSchedule(seed uint64, trace *transcript) (broken failure) {
	defer func() {
		switch f := recover().(type) {
		case nil:
		case failure:
			broken = f
		default:
			broken = failure(fmt.Sprint("panic: ", f))
			if trace != nil {
				panic(f)
			}
		}
	}()
	w := newWorld(seed, trace)
	for _, h := range w.hosts {
		w.run(w.upTo(w.interval()))
		h.start()
	}
	for range 5 + w.rng.IntN(25) {
		w.trouble()
		w.run(w.pause())
	}
	w.rest()
	for range 1 + w.rng.IntN(3) {
		w.orderlyChange()
	}
	return ""
}

// newWorld draws hosts and a network.
func newWorld(seed uint64, trace *transcript) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 0)), trace: trace, lans: 1}
	n := 2 + min(w.rng.IntN(4), w.rng.IntN(4))
	cfg := Config{VRID: 51, Version: 3, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.250")}}
	cfg.Interval = []time.Duration{10 * time.Millisecond, 100 * time.Millisecond, time.Second}[w.rng.IntN(3)]
	if w.chance(0.4) {
		cfg.Version = 2
		cfg.Interval = []time.Duration{time.Second, 3 * time.Second}[w.rng.IntN(2)]
	}
	w.base = cfg.Interval
	if w.chance(0.2) {
		cfg.DownMultiplier = 2 + w.rng.IntN(4)
	}
	if w.chance(0.25) {
		w.lans = 2
		w.crossed = w.chance(0.2)
	}
	w.delay = 1 + w.upTo(cfg.Interval/10)
	w.jitter = 1 + w.upTo(cfg.Interval/10)
	noPreempt, delays := w.chance(0.4), w.chance(0.3)
	w.mixed = cfg.Version == 3 && w.chance(0.2)
	note := fmt.Sprintf("seed %d: %d hosts, %d LANs, version %d, delay %v, jitter %v", seed, n, w.lans, cfg.Version, w.delay, w.jitter)
	w.note("%s", note)
	owned := false // addresses have one owner
	for id := range n {
		c := cfg
		c.Priority = uint8(1 + w.rng.IntN(254))
		switch {
		case id > 0 && w.chance(0.2):
			c.Priority = min(254, w.hosts[0].ports[0].cfg.Priority)
		case w.chance(0.1) && !owned:
			c.Priority, owned = 255, true
		}
		if w.mixed {
			c.Interval *= time.Duration(1 + w.rng.IntN(4))
		}
		c.NoPreempt = noPreempt && w.chance(0.7)
		if delays && !c.NoPreempt && c.Priority != 255 && w.chance(0.5) {
			c.PreemptDelay = w.upTo(10 * c.Interval)
		}
		if delays && w.chance(0.3) {
			c.StartDelay = w.upTo(10 * c.Interval)
		}
		w.addHost(c, n)
	}
	return w
}

// addHost puts the id-th of n hosts on every LAN.
func (w *world) addHost(c Config, n int) {
	h := &host{id: len(w.hosts), rate: 1 + (w.rng.Float64()-0.5)/100, last: make([]time.Duration, n)}
	c.Source = h.address()
	for lan := range w.lans {
		c.Name = fmt.Sprintf("lan%d", lan)
		if w.crossed {
			c.Priority = uint8(1 + w.rng.IntN(254))
		}
		h.ports = append(h.ports, &port{w: w, host: h, lan: lan, cfg: c})
		w.side[lan] = append(w.side[lan], 0)
		w.deaf[lan] = append(w.deaf[lan], false)
	}
	w.hosts = append(w.hosts, h)
	w.note("host%d: priority %d (%d), interval %v, multiplier %d, no preempt %v, preempt delay %v, start delay %v, clock %+.2f%%",
		h.id, h.ports[0].cfg.Priority, c.Priority, c.Interval, c.DownMultiplier, c.NoPreempt, c.PreemptDelay, c.StartDelay, (h.rate-1)*100)
}

// interval is the longest interval of all. Others may have learned a former one.
func (w *world) interval() time.Duration {
	longest := w.former
	for _, h := range w.hosts {
		longest = max(longest, h.ports[0].cfg.Interval)
	}
	return longest
}

// pause is a time between two troubles: none at all, some intervals, or long
// enough to settle.
func (w *world) pause() time.Duration {
	switch w.rng.IntN(4) {
	case 0:
		return w.upTo(w.delay)
	case 1:
		return w.upTo(6 * w.interval())
	}
	return w.upTo(2 * w.interval())
}

// trouble makes one thing happen.
func (w *world) trouble() {
	h := w.hosts[w.rng.IntN(len(w.hosts))]
	p := h.ports[w.rng.IntN(w.lans)]
	switch w.rng.IntN(16) {
	case 0, 1:
		w.split(p.lan)
	case 2:
		w.join(p.lan)
	case 3:
		w.loss, w.duplicate = w.rng.Float64()*0.6, w.rng.Float64()*0.5
		w.ordered = w.chance(0.5)
		w.note("loss %.0f%%, duplicates %.0f%%, in order %v", w.loss*100, w.duplicate*100, w.ordered)
	case 4:
		w.loss, w.duplicate, w.ordered = 0, 0, true
		w.note("a clean network")
	case 5:
		w.deaf[p.lan][h.id] = !w.deaf[p.lan][h.id]
		w.note("%v deaf: %v", p, w.deaf[p.lan][h.id])
	default:
		w.hostTrouble(h, p)
	}
}

// split cuts a LAN into parts.
func (w *world) split(lan int) {
	for i := range w.side[lan] {
		w.side[lan][i] = w.rng.IntN(min(3, len(w.hosts)))
	}
	w.note("lan%d splits: %v", lan, w.side[lan])
}

func (w *world) join(lan int) {
	clear(w.side[lan])
	clear(w.deaf[lan])
	w.note("lan%d is whole", lan)
}

// hostTrouble makes something happen to a host.
func (w *world) hostTrouble(h *host, p *port) {
	switch {
	case !h.up:
		h.start()
	case h.frozen:
		if w.chance(0.5) {
			h.thaw()
		} else if w.chance(0.3) {
			h.crash()
		}
	default:
		switch w.rng.IntN(9) {
		case 8:
			h.reconfigure()
		case 0:
			h.crash()
		case 1:
			h.shutdown()
		case 2, 3:
			w.note("host%d freezes", h.id)
			h.frozen = true
		case 4:
			p.setFault(!p.faulty, w.chance(0.5))
		case 5:
			p.resign()
		default:
			h.setPriority(uint8(1 + w.rng.IntN(254)))
		}
	}
}

func (p *port) setFault(faulty, plan bool) {
	p.w.note("%v fault: %v, planned: %v", p, faulty, plan)
	reasons, kind := []string(nil), sudden
	if p.faulty, p.planned = faulty, faulty && plan; faulty {
		reasons = []string{"link down"}
	}
	if plan {
		kind = planned
	}
	p.step("fault", func(now time.Time) []Action { return p.m.setFaults(now, reasons, kind) })
}

func (p *port) resign() {
	p.w.note("%v resigns", p)
	p.step("resign", p.m.Resign)
}

// setPriority changes the priority of all of a host's routers, unless they own
// the addresses.
func (h *host) setPriority(priority uint8) {
	if h.ports[0].cfg.Priority == 255 {
		return
	}
	h.ports[0].w.note("host%d priority %d", h.id, priority)
	for _, p := range h.ports {
		p.priority = priority
		p.step("priority", func(now time.Time) []Action { return p.m.SetPriority(now, priority) })
	}
}

// reconfigure goes on with other rules for all of a host's routers.
func (h *host) reconfigure() {
	w := h.ports[0].w
	c := h.ports[0].cfg
	c.NoPreempt = w.chance(0.4)
	if c.PreemptDelay = 0; !c.NoPreempt && c.Priority != 255 && w.chance(0.5) {
		c.PreemptDelay = w.upTo(10 * c.Interval)
	}
	c.DownMultiplier = 2 + w.rng.IntN(4)
	delay := w.upTo(10 * c.Interval)
	if w.mixed { // the others learn it
		w.former = max(w.former, c.Interval)
		c.Interval = w.base * time.Duration(1+w.rng.IntN(4))
	}
	w.note("host%d: interval %v, multiplier %d, no preempt %v, preempt delay %v, start delay %v",
		h.id, c.Interval, c.DownMultiplier, c.NoPreempt, c.PreemptDelay, delay)
	for _, p := range h.ports {
		if now := h.clock(); now.Before(p.ready) {
			p.ready = p.ready.Add(delay - p.cfg.StartDelay)
		}
		p.cfg.NoPreempt, p.cfg.PreemptDelay, p.cfg.DownMultiplier, p.cfg.StartDelay, p.cfg.Interval =
			c.NoPreempt, c.PreemptDelay, c.DownMultiplier, delay, c.Interval
		p.step("reconfigure", func(now time.Time) []Action {
			actions, err := p.m.Reconfigure(now, p.cfg)
			if err != nil {
				w.fail("%v: %v", p, err)
			}
			return actions
		})
	}
}

// rest ends all trouble and checks the rules of a network at rest. LANs may
// stay split.
func (w *world) rest() {
	w.note("trouble ends")
	stays := w.chance(0.25)
	for lan := range w.lans {
		sides := slices.Clone(w.side[lan])
		w.join(lan)
		if stays {
			w.side[lan] = sides
			w.note("lan%d stays split: %v", lan, sides)
		}
	}
	w.loss, w.ordered = 0, true
	for _, h := range w.hosts {
		switch {
		case h.up && h.frozen:
			h.thaw()
		case !h.up && w.chance(0.5):
			h.start()
		}
		for _, p := range h.ports {
			if h.up && p.faulty && w.chance(0.5) {
				p.setFault(false, false)
			}
		}
	}
	w.settle()
}

// settle checks that the network comes to rest in time and stays there.
func (w *world) settle() {
	healed := w.now
	down, delays := w.bounds()
	slack := 2 * (w.delay + w.jitter)
	w.run(down + slack)
	for range w.hosts {
		if w.now-w.changed <= w.delay {
			w.run(w.delay) // one is preempting another right now
		}
	}
	w.note("by now one is Active")
	w.checkOneActive()
	if !w.comparable() {
		// A group that yields on one part of a LAN leaves another one to claim.
		delays += time.Duration(len(w.hosts)) * down
	}
	if w.crossed {
		// Hosts that claim within one delay of each other both yield, and try
		// again.
		delays += 50 * down
	}
	if w.mixed {
		// What a router that steps down says last may be the interval that a
		// third one learns last, and is too short for the winner.
		delays += down
	}
	w.run(delays)
	w.note("by now the best one is")
	w.checkOneActive()
	w.checkBestActive()
	quiet := w.now
	w.run(max(20*w.interval(), 2*time.Second))
	if w.changed > quiet {
		w.fail("an Active router changed at %v for no reason", w.changed)
	}
	w.checkOneActive()
	w.checkAnnounced(healed + slack)
}

// bounds are the longest time that an Active router can go unnoticed or
// unclaimed, and how much longer a better one may wait.
func (w *world) bounds() (down, delays time.Duration) {
	i := w.interval()
	for _, h := range w.hosts {
		p := h.ports[0]
		d := time.Duration(3)
		if p.cfg.DownMultiplier > 0 {
			d = time.Duration(p.cfg.DownMultiplier)
		}
		skew := skewOf(1, i)
		if p.cfg.Version == 2 {
			skew = skewOf(1, time.Second)
		}
		wait := d*i + skew
		if p.resigned {
			wait += i
		}
		for _, q := range h.ports {
			if h.up && q.leaving {
				wait += 2 * q.patience() // and then it may have to listen
				break
			}
		}
		if h.up && !h.clock().After(p.ready) {
			wait = max(wait, p.ready.Sub(h.clock()))
		}
		down = max(down, wait)
		if p.cfg.PreemptDelay > 0 {
			delays = max(delays, p.cfg.PreemptDelay+i)
		}
	}
	return down + down/50, delays + delays/50
}

// orderlyChange lets an Active router leave a network at rest, or another one
// come back, and checks what follows.
func (w *world) orderlyChange() {
	h := w.hosts[w.rng.IntN(len(w.hosts))]
	if !h.up {
		w.comeBack(h)
		return
	}
	a := w.activeIn(w.partOf(h.ports[w.rng.IntN(w.lans)]))
	if a == nil || !w.comparable() {
		return
	}
	switch w.rng.IntN(5) {
	case 0:
		w.handOver(a, true, a.host.shutdown)
	case 1:
		w.handOver(a, true, a.resign)
	case 2:
		w.handOver(a, false, func() { a.setFault(true, false) })
	case 3:
		if w.lans > 1 {
			w.handOver(a, false, a.host.ports[1-a.lan].unplug)
		}
	case 4:
		w.handOver(a, true, func() { a.setFault(true, true) })
	}
}

// unplug takes the link from a router: it gets a fault, and its priority 0
// reaches nobody.
func (p *port) unplug() {
	p.w.side[p.lan][p.host.id] = 1
	p.w.note("%v is unplugged", p)
	p.setFault(true, false)
}
