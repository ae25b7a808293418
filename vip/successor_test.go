package vip

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// forget drops the frames that were sent.
func (k *fakeKernel) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.frames = nil
}

// TestSuccessorIsAnnounced: whoever lets go of addresses tells the link who has them now,
// unless that one does so itself. Nothing else is sent, and not for long.
func TestSuccessorIsAnnounced(t *testing.T) {
	const addr = "192.0.2.10"
	probe := probeFrame(netip.MustParseAddr(addr), testMAC)
	request := gratuitousARP(testMAC, netip.MustParseAddr(addr), rivalMAC, false)
	reply := gratuitousARP(testMAC, netip.MustParseAddr(addr), rivalMAC, true)
	release := func(t *testing.T, m *Manager) {
		if err := m.Release(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
	}
	for name, tt := range map[string]struct {
		quiet bool // the addresses were never announced
		moves bool // their hardware address moves along
		do    func(t *testing.T, k *fakeKernel, m *Manager)
		want  [][]byte
	}{
		"it says nothing": {
			do: func(t *testing.T, k *fakeKernel, m *Manager) {
				release(t, m)
				time.Sleep(verdictTime)
				k.answers(2, addr, rivalMAC)
			},
			want: [][]byte{probe, request, reply, request, reply},
		},
		"it had said so before, in vain": {
			do: func(t *testing.T, k *fakeKernel, m *Manager) {
				k.claims(2, addr, rivalMAC)
				time.Sleep(time.Minute)
				k.forget()
				release(t, m)
				k.answers(2, addr, rivalMAC)
			},
			want: [][]byte{probe, request, reply, request, reply},
		},
		"it tells itself, first": {
			do: func(t *testing.T, k *fakeKernel, m *Manager) {
				k.claims(2, addr, rivalMAC)
				release(t, m)
			},
		},
		"it tells itself, when it was hardly here": {
			do: func(t *testing.T, k *fakeKernel, m *Manager) {
				release(t, m)
				acquire(t, m)
				if err := m.Announce(t.Context()); err != nil {
					t.Error(err)
				}
				k.forget()
				k.claims(2, addr, rivalMAC)
				release(t, m)
			},
		},
		"it tells itself, a moment later": {
			do: func(t *testing.T, k *fakeKernel, m *Manager) {
				release(t, m)
				time.Sleep(verdictTime - 1)
				k.claims(2, addr, rivalMAC)
			},
		},
		"it tells itself, later": { // the skew of a Backup with priority 190 is 258 ms
			do: func(t *testing.T, k *fakeKernel, m *Manager) {
				release(t, m)
				time.Sleep(258 * time.Millisecond)
				k.claims(2, addr, rivalMAC)
				k.answers(2, addr, rivalMAC)
			},
			want: [][]byte{probe},
		},
		"it told before this host did": {
			do: func(t *testing.T, k *fakeKernel, m *Manager) {
				k.claims(2, addr, rivalMAC)
				time.Sleep(time.Millisecond)
				if err := m.Announce(t.Context()); err != nil {
					t.Error(err)
				}
				k.forget()
				release(t, m)
				time.Sleep(verdictTime)
				k.answers(2, addr, rivalMAC)
			},
			want: [][]byte{probe, request, reply, request, reply},
		},
		"it says so to this host only": {
			do: func(t *testing.T, k *fakeKernel, m *Manager) {
				k.answers(2, addr, rivalMAC)
				release(t, m)
				k.answers(2, addr, rivalMAC)
				time.Sleep(verdictTime)
				k.answers(2, addr, rivalMAC)
			},
			want: [][]byte{probe, request, reply, request, reply},
		},
		"it looks first, before this host lets go": {
			do: func(t *testing.T, k *fakeKernel, m *Manager) {
				k.probes(2, addr, rivalMAC)
				release(t, m)
			},
		},
		"it looks first, afterwards": {
			do: func(t *testing.T, k *fakeKernel, m *Manager) {
				release(t, m)
				time.Sleep(verdictTime - 1)
				k.probes(2, addr, rivalMAC)
			},
		},
		"another host looks for it, too": {
			do: func(t *testing.T, k *fakeKernel, m *Manager) {
				release(t, m)
				time.Sleep(verdictTime)
				k.probes(2, addr, net.HardwareAddr{2, 0, 0, 0, 0, 8})
				k.answers(2, addr, rivalMAC)
			},
			want: [][]byte{probe, request, reply, request, reply},
		},
		"there is none": {
			do:   func(t *testing.T, _ *fakeKernel, m *Manager) { release(t, m) },
			want: [][]byte{probe},
		},
		"it is somewhere else": {
			do: func(t *testing.T, k *fakeKernel, m *Manager) {
				release(t, m)
				time.Sleep(verdictTime)
				k.answers(3, addr, rivalMAC)
				k.answers(2, "192.0.2.11", rivalMAC)
				k.answers(2, addr, testMAC)
			},
			want: [][]byte{probe},
		},
		"it is this host": {
			do: func(t *testing.T, k *fakeKernel, m *Manager) {
				release(t, m)
				acquire(t, m)
				time.Sleep(verdictTime)
				k.claims(2, addr, rivalMAC)
			},
		},
		"nobody was told that it is here": {
			quiet: true,
			do:    func(t *testing.T, _ *fakeKernel, m *Manager) { release(t, m) },
		},
		"its hardware address is the same": {
			moves: true,
			do:    func(t *testing.T, _ *fakeKernel, m *Manager) { release(t, m) },
		},
		"there is no link any more": {
			do: func(t *testing.T, k *fakeKernel, m *Manager) {
				release(t, m)
				if err := k.setUp(2, false); err != nil {
					t.Error(err)
				}
				k.changes <- change{kind: linkChanged, index: 2, name: "eth0"}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newFakeKernel()
				cfg := Config{Addresses: addrs(t, addr+"/24"), Announce: Schedule{Burst: 2}}
				if tt.moves {
					cfg.VirtualMAC = VirtualMAC(51, false)
				}
				m := start(t, k, cfg)
				acquire(t, m)
				if !tt.quiet {
					if err := m.Announce(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(time.Minute)
				k.forget()
				tt.do(t, k, m)
				time.Sleep(time.Minute)
				synctest.Wait()
				got := k.frames
				if len(got) != len(tt.want) {
					t.Fatalf("%d frames, want %d", len(got), len(tt.want))
				}
				for i, want := range tt.want {
					if !bytes.Equal(got[i], want) {
						t.Errorf("frame %d: %x, want %x", i, got[i], want)
					}
				}
			})
		})
	}
}

// TestLastWord: a Manager that ends tells the link so only where it had contradicted,
// and does not wait long for an answer.
func TestLastWord(t *testing.T) {
	for name, tt := range map[string]struct {
		disputed, answered bool
		frames             int
		took               time.Duration
	}{
		"nobody else had the address":      {},
		"a rival had it, and still has":    {disputed: true, answered: true, frames: 3},
		"a rival had it, and does not now": {disputed: true, frames: 1, took: verdictTime},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newFakeKernel()
				ns := newNamespace(k, nil)
				defer ns.Close()
				m, stop := startIn(t, Config{Namespace: ns, Addresses: addrs(t, "192.0.2.10/24"), Announce: Schedule{Burst: 1}})
				acquire(t, m)
				if err := m.Announce(t.Context()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				if tt.disputed {
					k.claims(2, "192.0.2.10", rivalMAC)
					time.Sleep(time.Minute)
				}
				k.forget()
				from := time.Now()
				if tt.answered {
					go func() {
						for k.sent() == 0 {
							time.Sleep(time.Microsecond)
						}
						k.answers(2, "192.0.2.10", rivalMAC)
					}()
				}
				stop()
				if k.has("192.0.2.10") {
					t.Error("the address is still there")
				}
				if got := k.sent(); got != tt.frames {
					t.Errorf("%d frames, want %d", got, tt.frames)
				}
				if took := time.Since(from); took < tt.took || took > tt.took+10*time.Millisecond {
					t.Errorf("ending took %v, want %v", took, tt.took)
				}
			})
		})
	}
}

// TestManySuccessors: when many addresses move, each is announced while this host is
// at work, and none of the new holder's announcements is missed.
func TestManySuccessors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		var list []string
		for i := range 200 {
			list = append(list, fmt.Sprintf("192.0.2.%d/24", i+1))
		}
		m := start(t, k, Config{Addresses: addrs(t, list...)})
		acquire(t, m)
		if err := m.Announce(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		k.forget()
		if err := m.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.mu.Lock() // as while addresses are being removed
		for range 6 {
			for _, a := range m.cfg.Addresses {
				m.takeSighting(sighting{index: 2, addr: a.Prefix.Addr(), mac: rivalMAC, time: time.Now()})
			}
		}
		m.mu.Unlock()
		time.Sleep(time.Minute)
		if n := k.sent(); n != 0 {
			t.Errorf("%d frames about addresses whose new holder has announced them", n)
		}
	})
}

// TestSightingsAreBounded: a host that claims an address under ever new hardware
// addresses fills no memory.
func TestSightingsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := start(t, newFakeKernel(), Config{Addresses: addrs(t, "192.0.2.10/24")})
		acquire(t, m)
		time.Sleep(time.Minute)
		const n = 8192
		for i := range n {
			m.takeSighting(sighting{index: 2, addr: netip.MustParseAddr("192.0.2.10"), mac: net.HardwareAddr{2, 0, 0, 0, byte(i >> 8), byte(i)}, time: time.Now()})
		}
		m.hearing.Lock()
		defer m.hearing.Unlock()
		if list := m.rivals.takeDue(time.Now().Add(verdictTime)); len(list) != 1 || list[0].times != n {
			t.Errorf("claims %v, want one, made %d times", list, n)
		}
		if len(m.rivals.told)+len(m.rivals.elders) > 1 {
			t.Error("each hardware address is kept")
		}
	})
}

// TestShorterAnnouncement: what is told of a successor ends, too, when the bursts become
// shorter meanwhile.
func TestShorterAnnouncement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		list := addrs(t, "192.0.2.10/24", "192.0.2.11/24", "192.0.2.12/24")
		m := start(t, k, Config{Addresses: list, Announce: Schedule{Burst: 100}})
		acquire(t, m)
		if err := m.Announce(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if err := m.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(verdictTime)
		k.forget()
		for _, a := range list { // 600 frames are due, and 256 may go at once
			k.answers(2, a.Prefix.Addr().String(), rivalMAC)
		}
		cfg := with(m, list, nil)
		cfg.Announce.Burst = 1
		if err := m.Reconfigure(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := k.sent(); n < announceBurst || n > 600 {
			t.Errorf("%d frames, want no more than were due", n)
		}
	})
}

// TestSuccessorOfWhatWasNotHere: an optional address that was not put here was not
// announced either.
func TestSuccessorOfWhatWasNotHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		list := addrs(t, "192.0.2.10/24", "192.0.2.11/24")
		list[1].Optional = true
		k.refuse = func(a assigned) bool { return a.prefix == list[1].Prefix }
		m := start(t, k, Config{Addresses: list})
		acquire(t, m)
		if err := m.Announce(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		k.forget()
		if err := m.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := k.sent(); n != 1 {
			t.Errorf("%d questions, want one", n)
		}
	})
}

// TestFlappingSuccessor: addresses that come and go many times a second do not flood
// the link with what is told of their successor, who says nothing; at the end it is
// told of all the same.
func TestFlappingSuccessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24"), Announce: Schedule{Burst: 1}})
		var told []time.Time
		// rest lets time pass while the successor answers questions.
		rest := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
				synctest.Wait()
				switch k.sent() {
				case 1:
					k.forget()
					k.answers(2, "192.0.2.10", rivalMAC)
				case 2:
					k.forget()
					told = append(told, time.Now())
				}
			}
		}
		for range 40 {
			acquire(t, m)
			if err := m.Announce(t.Context()); err != nil {
				t.Fatal(err)
			}
			k.forget()
			if err := m.Release(t.Context()); err != nil {
				t.Fatal(err)
			}
			rest(verdictTime + 30*time.Millisecond)
		}
		released := time.Now()
		rest(10 * time.Second)
		for i := range told[1:] {
			if d := told[i+1].Sub(told[i]); d < roundGap {
				t.Errorf("told %v after the last time", d)
			}
		}
		if len(told) < 5 || told[len(told)-1].Before(released.Add(-verdictTime)) {
			t.Errorf("told %d times, not in the end", len(told))
		}
	})
}

// TestSuccessorInTheMomentOfRelease: an announcement of the new holder counts at any moment,
// also between the plan to ask for him and the end of holding.
func TestSuccessorInTheMomentOfRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := start(t, newFakeKernel(), Config{Addresses: addrs(t, "192.0.2.10/24")})
		acquire(t, m)
		if err := m.Announce(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		m.mu.Lock()
		defer m.mu.Unlock()
		m.seekSuccessors(time.Now())
		if len(m.successors.list) == 0 {
			t.Error("nothing is planned")
		}
		m.takeSighting(sighting{index: 2, addr: netip.MustParseAddr("192.0.2.10"), mac: rivalMAC, time: time.Now()})
		m.setHeld(false)
		if list := m.successors.list; len(list) > 0 {
			t.Errorf("%v is asked for, although it has told the link", list)
		}
	})
}
