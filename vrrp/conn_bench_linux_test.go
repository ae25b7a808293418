package vrrp_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/vrrp"
)

// BenchmarkConn runs 255 IPv4 and 255 IPv6 routers on each of two hosts, Active on one
// and Backup on the other, through a real link. One operation is one interval of 10 ms.
// Both hosts are in this process, so the CPU time is that of sending a packet, of its
// way through the kernel, and of receiving it. -benchtime=3000x lasts 30 s.
func BenchmarkConn(b *testing.B) {
	l := lab.New(b)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	var routers []*vrrp.Router
	for i := range 2 {
		h := l.MustHost(fmt.Sprintf("lb-%d", i), fmt.Sprintf("192.0.2.%d/24", i+1))
		for _, v6 := range []bool{false, true} {
			conn := openConn(b, h, vrrp.ListenConfig{Interface: "eth0", IPv6: v6})
			for vrid := 1; vrid <= 255; vrid++ {
				cfg := vrrp.Config{
					VRID: uint8(vrid), Priority: uint8(120 - 10*i), Interval: 10 * time.Millisecond,
					Addresses: []netip.Addr{netip.AddrFrom4([4]byte{198, 51, 100, byte(vrid)})},
				}
				if v6 {
					cfg.Addresses = []netip.Addr{netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: byte(vrid)})}
				}
				r, err := vrrp.NewRouter(cfg, conn, nil)
				if err != nil {
					b.Fatal(err)
				}
				routers = append(routers, r)
				running.Go(func() { r.Run(ctx) })
			}
		}
	}
	defer running.Wait()
	defer cancel()
	until(b, vrrp.Active, routers[:510]...)
	until(b, vrrp.Backup, routers[510:]...)

	total := func(routers []*vrrp.Router) (sent, received, transitions uint64) {
		for _, r := range routers {
			c := r.Status().Counters
			sent, received, transitions = sent+c.Sent, received+c.Received, transitions+c.Transitions
		}
		return
	}
	sent0, _, t0 := total(routers[:510])
	_, received0, u0 := total(routers[510:])
	cpu0, wall := cpuTime(b), time.Now()
	b.ResetTimer()
	time.Sleep(time.Duration(b.N) * 10 * time.Millisecond)
	b.StopTimer()
	cpu, elapsed := cpuTime(b)-cpu0, time.Since(wall)
	sent, _, t1 := total(routers[:510])
	_, received, u1 := total(routers[510:])
	sent -= sent0
	b.ReportMetric(float64(cpu.Nanoseconds())/float64(sent), "cpu-ns/packet")
	b.ReportMetric(100*cpu.Seconds()/elapsed.Seconds(), "%cpu")
	b.ReportMetric(float64(sent)/elapsed.Seconds(), "packets/s")
	b.ReportMetric(float64(received-received0)/float64(sent), "received")
	b.ReportMetric(float64(t1-t0+u1-u0), "transitions")
}

// cpuTime is what this process has used so far, in the kernel too.
func cpuTime(t testing.TB) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
