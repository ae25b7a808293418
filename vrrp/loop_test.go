package vrrp

import (
	"fmt"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// silentConn is a PacketConn that swallows what is sent.
type silentConn struct{ done chan struct{} }

func (c *silentConn) ReadBatch([]Packet) (int, error) {
	<-c.done
	return 0, os.ErrClosed
}
func (c *silentConn) WriteBatch(ps []Packet) (int, error) { return len(ps), nil }
func (c *silentConn) SetReadDeadline(time.Time) error     { return nil }
func (c *silentConn) Close() error                        { close(c.done); return nil }

// silentRouters runs n routers on a Conn that hears nothing.
func silentRouters(t testing.TB, n int, v6 bool, priority uint8) (*Conn, []*Router) {
	conn, err := Listen(ListenConfig{Interface: "none", IPv6: v6, Open: func(uint8) (PacketConn, error) {
		return &silentConn{done: make(chan struct{})}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	var routers []*Router
	for i := range n {
		cfg := Config{VRID: uint8(i + 1), Priority: priority, Interval: 10 * time.Millisecond}
		cfg.Source, cfg.Addresses = netip.MustParseAddr("192.0.2.1"), addrs("192.0.2.250")
		if v6 {
			cfg.Source, cfg.Addresses = netip.MustParseAddr("fe80::1"), addrs("fe80::250")
		}
		r, err := NewRouter(cfg, conn, nil)
		if err != nil {
			t.Fatal(err)
		}
		routers = append(routers, r)
		go func() { done <- r.Run(t.Context()) }()
	}
	t.Cleanup(func() {
		conn.Close()
		for range routers {
			<-done
		}
	})
	for _, r := range routers {
		for r.Status().Since.IsZero() {
			time.Sleep(time.Millisecond)
		}
	}
	return conn, routers
}

// advertisementOf is what another router would send to r, with its addresses
// unless there are others.
func advertisementOf(t testing.TB, r *Router, source netip.Addr, priority uint8, addresses ...netip.Addr) Packet {
	adv := Advertisement{
		Source: source, Destination: r.wire.group, Version: 3, VRID: r.cfg.VRID, Priority: priority,
		Interval: r.cfg.Interval, Addresses: addresses,
	}
	if len(addresses) == 0 {
		adv.Addresses = r.cfg.Addresses
	}
	data, err := adv.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	return Packet{Data: data, Source: adv.Source, Destination: adv.Destination, TTL: 255, Protocol: protocolVRRP}
}

// TestLoopAllocations: neither receiving nor sending an advertisement allocates.
func TestLoopAllocations(t *testing.T) {
	for name, v6 := range map[string]bool{"IPv4": false, "IPv6": true} {
		source := netip.MustParseAddr("192.0.2.2")
		if v6 {
			source = netip.MustParseAddr("fe80::2")
		}
		t.Run("receive, "+name, func(t *testing.T) {
			conn, routers := silentRouters(t, 255, v6, 100)
			conn.mu.Lock()
			defer conn.mu.Unlock()
			l := conn.loops[0]
			var in []Packet
			for _, r := range routers {
				in = append(in, advertisementOf(t, r, source, 200))
			}
			bad := in[0]
			bad.TTL = 1
			strange := advertisementOf(t, routers[1], source, 200, source)
			now := time.Now()
			n := leastAllocs(func() {
				now = now.Add(10 * time.Millisecond)
				for i := range in {
					l.receivePacket(&in[i], now)
				}
				l.receivePacket(&bad, now)
				l.receivePacket(&strange, now)
				l.runTimers(now)
				l.sendQueued()
			})
			if n != 0 {
				t.Errorf("%v allocations for 257 packets, want 0", n)
			}
			if got := routers[0].status.counters; got.Received < 100 || got.dropped[DropTTL] < 100 {
				t.Errorf("received %d, dropped %d: the test does not do what it says", got.Received, got.dropped[DropTTL])
			}
			if got := routers[1].status.counters.dropped[DropAddresses]; got < 100 {
				t.Errorf("%d strangers' dropped: the test does not do what it says", got)
			}
		})
		t.Run("send, "+name, func(t *testing.T) {
			conn, routers := silentRouters(t, 255, v6, 255)
			conn.mu.Lock()
			defer conn.mu.Unlock()
			l := conn.loops[0]
			now := time.Now()
			step := func() {
				now = now.Add(10 * time.Millisecond)
				l.runTimers(now)
				l.sendQueued()
			}
			for range 10 {
				step() // the buffers grow to what is needed
			}
			before := routers[0].status.counters.Sent
			n := leastAllocs(step)
			if n != 0 {
				t.Errorf("%v allocations for 255 packets, want 0", n)
			}
			if sent := routers[0].status.counters.Sent - before; sent < 100 {
				t.Errorf("%d sent: the test does not do what it says", sent)
			}
		})
	}
}

// TestLoopPace: packets that come one by one are read many at a time when they are
// many, and each at once when they are few.
func TestLoopPace(t *testing.T) {
	for _, test := range []struct {
		every time.Duration
		most  int           // reads in a second
		delay time.Duration // of a packet at most
	}{
		{50 * time.Microsecond, 1100, pace},
		{10 * time.Millisecond, 250, 0},
	} {
		t.Run(test.every.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lan := newFakeLAN()
				a := lan.node(t, 1, Config{Priority: 100})
				port := a.port()
				pkt := advertisementOf(t, a.Router, netip.MustParseAddr("192.0.2.2"), 200)
				lan.Mu.Lock()
				before := port.Reads
				lan.Mu.Unlock()
				sent := uint64(0)
				for range time.Second / test.every {
					lan.Mu.Lock()
					port.Receive(pkt)
					lan.Mu.Unlock()
					sent++
					time.Sleep(test.every)
					most := uint64(test.delay / test.every)
					if got := a.Status().Counters.Received; got+most < sent {
						t.Fatalf("%d of %d packets are received, want all but %d", got, sent, most)
					}
				}
				lan.Mu.Lock()
				defer lan.Mu.Unlock()
				if got := port.Reads - before; got > test.most {
					t.Errorf("%d reads, want %d at most", got, test.most)
				}
			})
		})
	}
}

// BenchmarkLoop shows what one advertisement costs without the system calls.
func BenchmarkLoop(b *testing.B) {
	for _, n := range []int{1, 255} {
		b.Run(fmt.Sprintf("receive/%d routers", n), func(b *testing.B) {
			conn, routers := silentRouters(b, n, false, 100)
			conn.mu.Lock()
			defer conn.mu.Unlock()
			l := conn.loops[0]
			var in []Packet
			for _, r := range routers {
				in = append(in, advertisementOf(b, r, netip.MustParseAddr("192.0.2.2"), 200))
			}
			now := time.Now()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				now = now.Add(10 * time.Millisecond / time.Duration(n))
				l.receivePacket(&in[i%n], now)
				l.runTimers(now)
			}
		})
		b.Run(fmt.Sprintf("send/%d routers", n), func(b *testing.B) {
			conn, routers := silentRouters(b, n, false, 255)
			conn.mu.Lock()
			defer conn.mu.Unlock()
			l := conn.loops[0]
			now := time.Now()
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(10 * time.Millisecond)
				l.runTimers(now)
				l.sendQueued()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(routers)), "ns/packet")
		})
	}
}

// leastAllocs is testing.AllocsPerRun where goroutines of the runtime and of
// earlier tests may allocate now and then: what f does itself, it does always.
func leastAllocs(f func()) float64 {
	least := testing.AllocsPerRun(100, f)
	for range 4 {
		least = min(least, testing.AllocsPerRun(100, f))
	}
	return least
}
