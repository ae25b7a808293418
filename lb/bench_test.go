package lb

import (
	"fmt"
	"net/netip"
	"testing"
)

func BenchmarkPick(b *testing.B) {
	for _, balance := range []Balance{RoundRobin, LeastConn, PowerOfTwo, Random, SourceHash, KeyHash, Maglev} {
		for _, n := range []int{3, 100, 10000} {
			var bs []Backend
			for i := range n {
				bs = append(bs, Backend{Address: fmt.Sprintf("10.0.%d.%d:80", i/250, i%250+1)})
			}
			p := newPool(b, PoolConfig{Balance: balance, Backends: bs})
			b.Run(fmt.Sprintf("%s/%d", balance, n), func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					f := Flow{Client: netip.MustParseAddrPort("192.0.2.1:1"), Key: "/index.html"}
					for pb.Next() {
						f.tries = 0
						k, err := p.Pick(&f)
						if err != nil {
							b.Fatal(err)
						}
						k.Done(Success)
					}
				})
			})
		}
	}
}
