package vrrp

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// skewOf is Skew_Time of a priority in parts of unit, as in the RFCs' text.
func skewOf(priority int, unit time.Duration) time.Duration {
	return time.Duration(256-priority) * unit / 256
}

// versions runs a test for both versions.
func versions(t *testing.T, test func(t *testing.T, version uint8)) {
	for _, v := range []uint8{2, 3} {
		t.Run(fmt.Sprintf("version %d", v), func(t *testing.T) { test(t, v) })
	}
}

// RFC 9568 §6.4.1 (100)-(150), RFC 3768 §6.4.1: the owner of the addresses
// does not wait. The advertisement comes first.
func TestConformance29OwnerStartsActive(t *testing.T) {
	versions(t, func(t *testing.T, v uint8) {
		r := newRig(t, Config{Version: v, Priority: 255})
		r.want(r.m.Start(r.now), "Send 255, Acquire, Announce, Initialize>Active (address owner)")
		r.wantDeadline(time.Second)
		r.tick(time.Second, "Send 255")
		r.wantDeadline(2 * time.Second)
	})
}

// RFC 9568 §6.1, §6.4.1 (155)-(175), §6.4.2; RFC 3768 §6.1: others listen for
// Active_Down_Interval first. Skew is in parts of a second in version 2, of
// the interval in version 3, and exact even where it is 39 us.
func TestConformance30OthersWaitDownInterval(t *testing.T) {
	for _, test := range []struct {
		name string
		cfg  Config
		want time.Duration
	}{
		{"version 3, priority 100", Config{Priority: 100}, 3609375 * time.Microsecond},
		{"version 3, priority 1", Config{Priority: 1}, 3996093750 * time.Nanosecond},
		{"version 3, 10 s", Config{Priority: 128, Interval: 10 * time.Second}, 35 * time.Second},
		{"version 3, 10 ms, priority 254", Config{Priority: 254, Interval: 10 * time.Millisecond}, 30*time.Millisecond + 78125*time.Nanosecond},
		{"version 3, 40.95 s", Config{Priority: 192, Interval: 40950 * time.Millisecond}, 3*40950*time.Millisecond + 10237500*time.Microsecond},
		{"version 2, priority 100", Config{Version: 2, Priority: 100}, 3609375 * time.Microsecond},
		{"version 2, 10 s: the skew stays", Config{Version: 2, Priority: 128, Interval: 10 * time.Second}, 30500 * time.Millisecond},
		{"version 2, 255 s, priority 254", Config{Version: 2, Priority: 254, Interval: 255 * time.Second}, 765*time.Second + 7812500*time.Nanosecond},
		{"down multiplier 1", Config{Priority: 128, DownMultiplier: 1}, 1500 * time.Millisecond},
		{"down multiplier 255", Config{Priority: 128, DownMultiplier: 255}, 255500 * time.Millisecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := backup(t, test.cfg)
			r.wantDeadline(test.want)
			r.at(test.want - 1)
			r.want(r.m.Tick(r.now), "")
			r.tick(test.want, fmt.Sprintf(timedOut, test.cfg.Priority))
			r.wantDeadline(test.want + r.m.cfg.Interval)
		})
	}

	// The skew of the owner, which only listens after a stall: 39 us.
	m := newRig(t, Config{Priority: 255, Interval: 10 * time.Millisecond}).m
	if got, want := m.skewTime(), 39062*time.Nanosecond; got != want {
		t.Errorf("skew of the owner at 10 ms: %v, want %v", got, want)
	}
}

// RFC 9568 §6.4.2 (320): a router that leaves is replaced after Skew_Time.
func TestConformance31PriorityZeroTakesOverAtSkew(t *testing.T) {
	versions(t, func(t *testing.T, v uint8) {
		r := backup(t, Config{Version: v, Priority: 100})
		r.hear(time.Second, 20, 200, "")
		r.hear(2*time.Second, 20, 0, "")
		r.tick(2*time.Second+skewOf(100, time.Second),
			"Send 100, Acquire, Announce, Backup>Active (active router left)")
	})
	t.Run("version 3, skew of the learned interval", func(t *testing.T) {
		r := backup(t, Config{Priority: 100})
		r.hearInterval(time.Second, 20, 200, 100*time.Millisecond, "")
		r.hearInterval(1050*time.Millisecond, 20, 0, 100*time.Millisecond, "")
		r.wantDeadline(1050*time.Millisecond + skewOf(100, 100*time.Millisecond))
	})
}

// RFC 9568 §6.1, §6.4.2 (330): Active_Adver_Interval, Skew_Time and
// Active_Down_Interval follow the accepted advertisement. RFC 3768 knows only
// the configured interval: what has another is discarded, unless it was the
// configured one until a moment ago.
func TestConformance32LearnedIntervalIsUsed(t *testing.T) {
	r := backup(t, Config{Priority: 100})
	r.hearInterval(time.Second, 20, 200, 5*time.Second, "")
	if got := r.m.Interval(); got != 5*time.Second {
		t.Errorf("Interval() = %v, want 5s", got)
	}
	r.wantDeadline(time.Second + 15*time.Second + skewOf(100, 5*time.Second))
	r.hearInterval(6*time.Second, 20, 200, 100*time.Millisecond, "")
	want := 6*time.Second + 300*time.Millisecond + skewOf(100, 100*time.Millisecond)
	r.tick(want, fmt.Sprintf(timedOut, 100))
	// Active, it uses its own.
	if got := r.m.Interval(); got != time.Second {
		t.Errorf("Interval() of the Active router = %v, want 1s", got)
	}
	r.wantDeadline(want + time.Second)

	t.Run("an Active router that steps down learns too", func(t *testing.T) {
		r := active(t, Config{Priority: 100})
		at := r.since(0)
		r.hearInterval(at, 20, 200, 2*time.Second, fmt.Sprintf(steppedBy, 100))
		r.wantDeadline(at + 6*time.Second + skewOf(100, 2*time.Second))
	})
	t.Run("version 2 while the others are still to be changed", func(t *testing.T) {
		r := backup(t, Config{Version: 2, Priority: 100, Interval: 5 * time.Second})
		r.hear(time.Second, 20, 200, "")
		r.reconfigure(func(c *Config) { c.Interval = time.Second })
		r.wantDeadline(16*time.Second + skewOf(100, time.Second))
		r.hearInterval(6*time.Second, 20, 200, 5*time.Second, "")
		r.wantDeadline(21*time.Second + skewOf(100, time.Second))
		r.hear(7*time.Second, 20, 200, "")
		r.wantDeadline(10*time.Second + skewOf(100, time.Second))
	})
}

// RFC 9568 §6.4.2 (345)-(350): with preemption a lower priority is discarded
// and touches neither the timer nor the learned interval.
func TestConformance33LowerPriorityDoesNotRearm(t *testing.T) {
	versions(t, func(t *testing.T, v uint8) {
		r := backup(t, Config{Version: v, Priority: 100})
		want := 3*time.Second + skewOf(100, time.Second)
		for d := 500 * time.Millisecond; d < want; d += 500 * time.Millisecond {
			r.hearInterval(d, 20, 99, 7*time.Second, "")
			r.wantDeadline(want)
		}
		if got := r.m.Interval(); got != time.Second {
			t.Errorf("Interval() = %v, learned from a discarded advertisement", got)
		}
		r.tick(want, "Send 100, Acquire, Announce, Backup>Active (preempting a lower priority)")
	})
	t.Run("an equal priority re-arms", func(t *testing.T) {
		r := backup(t, Config{Priority: 100})
		r.hear(time.Second, 5, 100, "")
		r.wantDeadline(4*time.Second + skewOf(100, time.Second))
	})
}

// RFC 9568 §6.1 (Preempt_Mode), §6.4.2 (325): without preemption a lower
// priority is followed, but the owner of the addresses always preempts.
func TestConformance34NoPreemptAcceptsLower(t *testing.T) {
	versions(t, func(t *testing.T, v uint8) {
		r := backup(t, Config{Version: v, Priority: 200, NoPreempt: true})
		for s := range 10 {
			d := time.Duration(s+1) * time.Second
			r.hear(d, 20, 1, "")
			r.wantDeadline(d + 3*time.Second + skewOf(200, time.Second))
		}
		r.tick(13*time.Second+skewOf(200, time.Second), fmt.Sprintf(timedOut, 200))
	})
	t.Run("owner", func(t *testing.T) {
		r := newRig(t, Config{Priority: 255, NoPreempt: true, StartDelay: 10 * time.Second})
		r.want(r.m.Start(r.now), started)
		r.hear(9*time.Second, 20, 200, "")
		r.tick(10*time.Second, "Send 255, Acquire, Announce, Backup>Active (preempting a lower priority)")
	})
}

// RFC 9568 §6.1 (Preempt_Mode), §6.4.2, in which a router that could preempt
// does so when its timer expires. The delay is Keepalived's: it follows the
// Active router for so long first.
func TestConformance35PreemptDelay(t *testing.T) {
	cfg := Config{Priority: 100, PreemptDelay: 30 * time.Second}
	t.Run("preempts after the delay", func(t *testing.T) {
		r := backup(t, cfg)
		for d := time.Second; d <= 30*time.Second; d += time.Second {
			r.hear(d, 20, 50, "")
		}
		r.tick(31*time.Second, "Send 100, Acquire, Announce, Backup>Active (preempting a lower priority)")
	})
	t.Run("the Active router dies meanwhile", func(t *testing.T) {
		r := backup(t, cfg)
		r.hear(time.Second, 20, 50, "")
		r.hear(2*time.Second, 20, 50, "")
		r.tick(5*time.Second+skewOf(100, time.Second), fmt.Sprintf(timedOut, 100))
	})
	t.Run("with the interval of the Active router", func(t *testing.T) {
		r := backup(t, cfg)
		r.hearInterval(time.Second, 20, 50, 4*time.Second, "")
		r.wantDeadline(13*time.Second + skewOf(100, 4*time.Second))
	})
	t.Run("does not hold without an Active router", func(t *testing.T) {
		r := backup(t, cfg)
		r.tick(3*time.Second+skewOf(100, time.Second), fmt.Sprintf(timedOut, 100))
	})
	t.Run("starts anew after a higher priority", func(t *testing.T) {
		r := backup(t, cfg)
		r.hear(time.Second, 20, 50, "")
		r.hear(2*time.Second, 30, 150, "")
		for d := 3 * time.Second; d < 33*time.Second; d += time.Second {
			r.hear(d, 20, 50, "")
		}
		r.tick(33*time.Second, "Send 100, Acquire, Announce, Backup>Active (preempting a lower priority)")
	})
	t.Run("heard again only after the delay, once the process runs on", func(t *testing.T) {
		r := backup(t, cfg)
		for d := time.Second; d <= 30*time.Second; d += time.Second {
			r.hear(d, 20, 50, "")
		}
		r.wantDeadline(31 * time.Second)
		r.now = epoch.Add(32 * time.Second)
		r.want(r.m.Receive(r.now, &Advertisement{
			Source: netip.MustParseAddr("192.0.2.20"), Priority: 50, Interval: time.Second,
		}), "")
		r.wantDeadline(31 * time.Second)
		r.want(r.m.Tick(r.now), "Send 100, Acquire, Announce, Backup>Active (preempting a lower priority)")
	})
	t.Run("shorter than the timer: the timer counts", func(t *testing.T) {
		r := backup(t, Config{Priority: 100, PreemptDelay: time.Millisecond})
		r.hear(time.Second, 20, 50, "")
		r.wantDeadline(3*time.Second + skewOf(100, time.Second))
	})
}

// PreemptDelay must not leave the addresses without a router: priority 0 ends
// it (RFC 9568 §6.4.2 (320)).
func TestConformance36PriorityZeroCancelsPreemptDelay(t *testing.T) {
	versions(t, func(t *testing.T, v uint8) {
		r := backup(t, Config{Version: v, Priority: 100, PreemptDelay: 30 * time.Second})
		r.hear(time.Second, 20, 50, "")
		r.hear(2*time.Second, 20, 0, "")
		r.tick(2*time.Second+skewOf(100, time.Second),
			"Send 100, Acquire, Announce, Backup>Active (active router left)")
	})
	t.Run("the next Active router gets a new one", func(t *testing.T) {
		r := backup(t, Config{Priority: 100, PreemptDelay: 30 * time.Second})
		r.hear(time.Second, 20, 50, "")
		r.hear(2*time.Second, 20, 0, "")
		for d := 2100 * time.Millisecond; d < 32*time.Second; d += time.Second {
			r.hear(d, 21, 60, "")
		}
		r.tick(32100*time.Millisecond, "Send 100, Acquire, Announce, Backup>Active (preempting a lower priority)")
	})
}

// RFC 9568 §6.4.3 (725): the higher priority wins, and between equal ones the
// greater address, compared as unsigned bytes in network order.
func TestConformance37GreaterAddressDemotes(t *testing.T) {
	for _, test := range []struct{ name, own, other string }{
		{"last byte", "192.0.2.10", "192.0.2.11"},
		{"first byte, unsigned", "10.255.255.255", "200.0.0.1"},
		{"unsigned beyond 127", "192.0.2.127", "192.0.2.128"},
		{"IPv6", "fe80::1", "fe80::8000:0:0:1"},
		{"IPv6, unsigned", "fe80::7fff:0:0:0", "fe80::8000:0:0:0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := Config{Priority: 100, Source: netip.MustParseAddr(test.own)}
			if cfg.Source.Is6() {
				cfg.Addresses = []netip.Addr{netip.MustParseAddr("fe80::ff")}
			}
			r := active(t, cfg)
			r.want(r.m.Receive(r.now, &Advertisement{
				Source: netip.MustParseAddr(test.other), Priority: 100, Interval: time.Second,
			}), fmt.Sprintf(steppedBy, 100))
			r.wantDeadline(r.since(3*time.Second + skewOf(100, time.Second)))
		})
	}
	versions(t, func(t *testing.T, v uint8) {
		r := active(t, Config{Version: v, Priority: 100})
		r.hear(r.since(0), 5, 101, fmt.Sprintf(steppedBy, 100))
	})
	t.Run("without preemption too", func(t *testing.T) {
		r := active(t, Config{Priority: 100, NoPreempt: true})
		r.hear(r.since(0), 5, 101, fmt.Sprintf(steppedBy, 100))
	})
}

// RFC 9568 §6.4.3: the lesser address does not demote, whatever its length in
// text, and in Backup no address counts.
func TestConformance38LesserAddressDoesNot(t *testing.T) {
	r := active(t, Config{Priority: 100})
	r.hear(r.since(0), 9, 100, "Send 100")
	r.hear(r.since(0), 2, 100, "Send 100")
	r.hear(r.since(0), 200, 99, "Send 100")
	if r.m.State() != Active {
		t.Fatalf("state %v", r.m.State())
	}
	r.m.SetSource(netip.MustParseAddr("192.0.2.3"))
	r.hear(r.since(0), 9, 100, fmt.Sprintf(steppedBy, 100))

	// Own advertisements are no other router's.
	r = active(t, Config{Priority: 100})
	before := snapshot(r.m)
	r.hear(r.since(0), 10, 255, "")
	r.hear(r.since(0), 10, 0, "")
	if after := snapshot(r.m); after != before {
		t.Errorf("an advertisement of its own changed the machine:\n%s\n%s", before, after)
	}
}

// RFC 9568 §6.4.3 (705)-(715): an Active router answers priority 0 and waits a
// whole interval from then.
func TestConformance39ActiveAnswersPriorityZero(t *testing.T) {
	versions(t, func(t *testing.T, v uint8) {
		r := active(t, Config{Version: v, Priority: 100})
		at := r.since(300 * time.Millisecond)
		r.hear(at, 20, 0, "Send 100")
		r.tick(at+time.Second, "Send 100")
	})
}

// RFC 9568 §6.4.3 (755)-(765): version 3 asserts itself at once, with the
// timer untouched; version 2 discards (RFC 3768 §6.4.3).
func TestConformance40ActiveReasserts(t *testing.T) {
	for v, want := range map[uint8]string{2: "", 3: "Send 100"} {
		r := active(t, Config{Version: v, Priority: 100})
		deadline, _ := r.m.Deadline()
		r.hear(r.since(300*time.Millisecond), 20, 99, want)
		r.hear(r.since(300*time.Millisecond), 20, 1, want)
		r.wantDeadline(deadline.Sub(epoch))
	}
}

// RFC 9568 §6.4.3 (655)-(665): a router that is stopped sends priority 0 before it releases
// the addresses. It may keep them until its successor has taken over.
func TestConformance41StopSendsZeroThenReleases(t *testing.T) {
	versions(t, func(t *testing.T, v uint8) {
		r := active(t, Config{Version: v, Priority: 100})
		r.want(r.m.Shutdown(r.now), "Send 0")
		r.hear(r.since(time.Second), 20, 90, "Release, Active>Initialize (shutdown)")
		if d, ok := r.m.Deadline(); ok {
			t.Errorf("deadline %v after Shutdown", d)
		}

		r = active(t, Config{Version: v, Priority: 100, NoOverlap: true})
		r.want(r.m.Shutdown(r.now), "Send 0, Release, Active>Initialize (shutdown)")
		if d, ok := r.m.Deadline(); ok {
			t.Errorf("deadline %v after Shutdown", d)
		}
		r.hear(r.since(time.Second), 20, 0, "")
		r.want(r.m.Shutdown(r.now), "")
		r.want(r.m.Start(r.now), started)
		r.want(r.m.Shutdown(r.now), "Backup>Initialize (shutdown)")
	})
}

// RFC 9568 §7.1: what must be discarded touches neither a timer nor the state,
// whatever priority it claims. A bad packet every 0.3 s makes a pair of
// Keepalived 2.2.7 flap.
func TestConformance42InvalidTouchesNoTimer(t *testing.T) {
	for name, spoil := range map[string]func(p *Packet){
		"checksum":  func(p *Packet) { p.Data[6] ^= 0x55 },
		"TTL":       func(p *Packet) { p.TTL = 254 },
		"type":      func(p *Packet) { p.Data[0] ^= 0x02 },
		"version":   func(p *Packet) { p.Data[0] ^= 0x10 },
		"short":     func(p *Packet) { p.Data = p.Data[:len(p.Data)-1] },
		"no bytes":  func(p *Packet) { p.Data = nil },
		"long":      func(p *Packet) { p.Data = append(p.Data, make([]byte, 8)...) },
		"unicast":   func(p *Packet) { p.Destination = netip.MustParseAddr("192.0.2.10") },
		"interval":  func(p *Packet) { p.Data[4], p.Data[5] = p.Data[4]&0xf0, 0; resum(p, len(p.Data)) },
		"no counts": func(p *Packet) { p.Data[3] = 0; resum(p, len(p.Data)) },
	} {
		t.Run(name, func(t *testing.T) {
			versions(t, func(t *testing.T, v uint8) {
				r := active(t, Config{Version: v, Priority: 100, NoPreempt: true})
				receiveInvalid(r, spoil)
				if r.m.State() != Active {
					t.Errorf("state %v", r.m.State())
				}
				r = backup(t, Config{Version: v, Priority: 100, NoPreempt: true})
				receiveInvalid(r, spoil)
				r.tick(3*time.Second+skewOf(100, time.Second), fmt.Sprintf(timedOut, 100))
			})
		})
	}
}

// receiveInvalid offers spoilt advertisements of priorities 0 and 255 to a
// router every 0.3 s for 3 s, as its Router would.
func receiveInvalid(r *rig, spoil func(*Packet)) {
	r.Helper()
	w := wireFor(r, &r.m.cfg)
	other := netip.MustParseAddr("192.0.2.20")
	var adv Advertisement
	for d := 300 * time.Millisecond; d <= 3*time.Second; d += 300 * time.Millisecond {
		r.at(r.since(300 * time.Millisecond))
		for _, priority := range []uint8{0, 255} {
			p := send(r, w, priority, other, groupIPv4, r.now)
			spoil(p)
			before := snapshot(r.m)
			if err := w.parse(&adv, p, r.now); err == nil {
				r.want(r.m.Receive(r.now, &adv), "")
				r.Fatalf("accepted %+v", adv)
			}
			if after := snapshot(r.m); after != before {
				r.Fatalf("from\n%s to\n%s", before, after)
			}
		}
	}
}

// RFC 9568 §6.4.3 (Shutdown): a failed check releases the addresses at once, whatever
// Preempt_Mode is (§6.1). Keepalived 2.2.7 lowers a priority that without preemption has no
// effect.
func TestConformance43FaultReleasesDespiteNoPreempt(t *testing.T) {
	versions(t, func(t *testing.T, v uint8) {
		r := active(t, Config{Version: v, Priority: 120, NoPreempt: true})
		r.want(r.m.SetFaults(r.now, []string{"check balancer", "link down"}),
			"Send 0, Release, Active>Initialize (fault): check balancer, link down")
		if got, want := strings.Join(r.m.Faults(), ", "), "check balancer, link down"; got != want {
			t.Errorf("Faults() = %q, want %q", got, want)
		}
		r.want(r.m.SetFaults(r.now, []string{"link down"}), "")
		r.hear(r.since(time.Second), 20, 110, "")
		r.want(r.m.SetFaults(r.now, nil), "Initialize>Backup (fault cleared)")
		// The one that took over keeps the addresses.
		for range 5 {
			r.hear(r.since(time.Second), 20, 110, "")
		}
	})
}

// RFC 9568 §6.4.3: a losing advertisement is answered so that learning bridges know who is
// Active; gratuitous ARP is sent on becoming Active only (§6.4.2). But when a split of the
// link heals, the neighbours may believe the router that lost. The winner therefore
// announces the addresses again when it hears the loser, and once more when the loser has
// gone. In the first second after the winner became Active only the second announcement is
// made: the loser may be its predecessor.
func TestConformance45AnnounceAfterSplitHeals(t *testing.T) {
	versions(t, func(t *testing.T, v uint8) {
		answer := ""
		if v == 3 {
			answer = "Send 100"
		}
		r := active(t, Config{Version: v, Priority: 100})
		first, _ := r.m.Deadline()
		next := first.Sub(epoch)
		r.hear(next-time.Millisecond, 20, 99, answer)
		r.tick(next, "Send 100") // the rival may not have heard anything yet
		r.tick(next+time.Second, "Send 100, Announce")
		r.tick(next+2*time.Second, "Send 100")
	})
	t.Run("every 5 s while the other one is still there", func(t *testing.T) {
		r := active(t, Config{Priority: 100})
		first, _ := r.m.Deadline()
		next := first.Sub(epoch)
		for i := range 20 {
			want := "Send 100"
			if i > 0 && (i-1)%5 == 0 {
				want += ", Announce"
			}
			r.hear(next-time.Millisecond, 20, 99, want)
			r.tick(next, "Send 100")
			next += time.Second
		}
		r.tick(next, "Send 100, Announce")
	})
	t.Run("at most once a second", func(t *testing.T) {
		r := active(t, Config{Priority: 100, Interval: 10 * time.Millisecond})
		// The rival comes back as soon as it counts as gone.
		announced := 0
		count := func(actions []Action) {
			for _, a := range actions {
				if a.Kind == Announce {
					announced++
				}
			}
		}
		for range 5 * 100 {
			deadline, _ := r.m.Deadline()
			r.now = deadline
			count(r.m.Tick(r.now))
			if r.m.rival <= 1 {
				count(r.m.Receive(r.now, &Advertisement{Source: addrs("192.0.2.20")[0], Priority: 99, Interval: r.m.interval}))
				r.now, _ = r.m.Deadline()
				count(r.m.Tick(r.now))
			}
		}
		if announced == 0 || announced > 10 {
			t.Errorf("%d announcements in 10 s, want 1 to 10", announced)
		}
	})
	t.Run("nor soon after the first", func(t *testing.T) {
		r := active(t, Config{Priority: 100, Interval: 100 * time.Millisecond})
		at := r.since(-time.Millisecond)
		r.hear(r.since(0), 20, 99, "Send 100")
		for range 9 {
			at += 100 * time.Millisecond
			r.tick(at, "Send 100")
		}
		r.tick(at+100*time.Millisecond, "Send 100, Announce")
	})
	t.Run("after a priority 0", func(t *testing.T) {
		r := active(t, Config{Priority: 100})
		at := r.since(0)
		r.hear(at, 20, 0, "Send 100")
		r.tick(at+time.Second, "Send 100")
		r.tick(at+2*time.Second, "Send 100, Announce")
	})
}
