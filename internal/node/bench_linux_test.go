package node

import (
	"fmt"
	"strings"
	"testing"

	"github.com/havip/havip/internal/lab"
)

// BenchmarkStatus is what one question costs: a scrape, a look at the page, havip status.
func BenchmarkStatus(b *testing.B) {
	b.Run("1000 backends", func(b *testing.B) {
		var list []string
		for i := range 1000 {
			list = append(list, fmt.Sprintf("192.0.2.%d:%d", i%250+1, 8000+i/250))
		}
		file := fmt.Sprintf("services: [{name: web, listen: %q, mode: http, check: {type: tcp, interval: 1h, initial: up, start_spread: 1h}, backends: [%s]}]\n",
			lab.FreeAddress(b), `"`+strings.Join(list, `", "`)+`"`)
		benchmarkStatus(b, startNode(b, file, here), func(n *testNode) bool {
			s := n.Status().Services
			return len(s) == 1 && len(s[0].Pools[0].Backends) == 1000
		})
	})
	b.Run("255 routers", func(b *testing.B) {
		h := lab.New(b).MustHost("lb01", "192.168.31.240/16")
		var list []string
		for id := 1; id <= 255; id++ {
			list = append(list, fmt.Sprintf("{name: VI_%d, interface: eth0, vrid: %d, addresses: [192.168.40.%d/16]}", id, id, id))
		}
		benchmarkStatus(b, startNode(b, "vrrp: ["+strings.Join(list, ", ")+"]\n", h.Do), func(n *testNode) bool {
			active := 0
			for _, r := range n.Status().Routers {
				if r.State == "Active" {
					active++
				}
			}
			return active == 255
		})
	})
}

func benchmarkStatus(b *testing.B, n *testNode, ready func(*testNode) bool) {
	lab.Until(b, bound, "everything runs", func() bool { return ready(n) })
	b.ReportAllocs()
	for b.Loop() {
		n.Status()
	}
}
