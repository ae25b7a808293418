package config

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/havip/havip/lb"
)

// TestWays: each service that leads to another in the end goes on to one that is nearer,
// and no other service has a way. Services that lead to one another are a ring.
func TestWays(t *testing.T) {
	const far = 1 << 20
	for range 500 {
		into := make([][]int, 1+rand.IntN(8))
		steps := make([][]int, len(into)) // from, to: the least number
		for i := range into {
			steps[i] = make([]int, len(into))
			for j := range into {
				if i != j {
					steps[i][j] = far
				}
			}
		}
		for range rand.IntN(2 * len(into)) {
			from, to := rand.IntN(len(into)), rand.IntN(len(into))
			into[to] = append(into[to], from)
			steps[from][to] = min(steps[from][to], 1)
		}
		for by := range into {
			for from := range into {
				for to := range into {
					steps[from][to] = min(steps[from][to], steps[from][by]+steps[by][to])
				}
			}
		}
		ring := rings(into)
		for to := range into {
			for from, next := range ways(into, to) {
				if together := from == to || max(steps[from][to], steps[to][from]) < far; together != (ring[from] == ring[to]) {
					t.Fatalf("%v: rings %d, want %d and %d in the same one: %v", into, ring, from, to, together)
				}
				switch way := steps[from][to]; {
				case from == to && next == to, way >= far && next < 0:
				case next < 0 || way >= far || steps[from][next] != 1 || steps[next][to] != way-1:
					t.Fatalf("%v: from %d to %d the next is %d, want the way of %d steps", into, from, to, next, way)
				}
			}
		}
	}
}

// TestLoopsOfManyServices: thousands of services on one port, with addresses of their own and
// backends on that port, are not compared with one another.
func TestLoopsOfManyServices(t *testing.T) {
	const n = 2000
	services := make([]Service, n+1)
	at := func(i int) string { return fmt.Sprintf("10.0.%d.%d:443", i>>8, i&255) }
	for i := range services {
		services[i].Name, services[i].Mode = fmt.Sprint("s", i), "tcp"
		services[i].Listen = netip.MustParseAddrPort(at(i))
		services[i].Pool.Backends = []lb.Backend{{Address: at(i + 1)}}
	}
	services[n].Listen = netip.MustParseAddrPort("0.0.0.0:443")
	services[n].Pool.Backends[0].Address = at(n - 1)
	looks := 0
	l := loops{services, func(s *Service, host netip.Addr) bool {
		looks++
		return s.Listen.Addr() == host || everywhere(s, host) && host == services[n-1].Listen.Addr()
	}}
	leads, _ := l.leads()
	for i, own := range leads {
		if i < n-1 && (len(own) != 1 || own[0].to != i+1) || i == n-1 && len(own) != 0 || i == n && own[0].to != n-1 {
			t.Fatalf("service %d leads to %+v", i, own)
		}
	}
	if looks > 2*len(services) {
		t.Errorf("%d looks at services, want %d at most", looks, 2*len(services))
	}
}
