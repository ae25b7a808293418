package node

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/havip/havip/internal/admin"
	"github.com/havip/havip/internal/lab"
)

// TestStorm: commands, questions and reloads that replace, change, add and remove routers, all
// at the same time. Nothing waits for ever, no command is lost, and no router takes an
// address during a maintenance, whenever it has begun.
func TestStorm(t *testing.T) {
	t.Parallel()
	h := lab.New(t).MustHost("lb01", "192.168.31.240/24")
	listen, dead := lab.FreeAddress(t), lab.FreeAddress(t)
	file := func(routers string) string {
		return fmt.Sprintf(`
checks: {one: {type: tcp, address: %q, interval: 20ms, timeout: 1s, long_timeout: true}}
vrrp:
  - {name: VI_1, interface: eth0, vrid: 51, interval: 100ms, priority: 100, addresses: [192.168.31.250/24], track: [{check: one, weight: -5}]}
%s
services: [{name: web, listen: %q, mode: tcp, backends: [{name: a, address: %q}]}]
`, dead, routers, listen, dead)
	}
	second := func(vrid, rest string) string {
		return "  - {name: VI_2, interface: eth0, interval: 100ms, vrid: " + vrid + ", addresses: [192.168.31.251/24]" + rest + "}\n"
	}
	third := "  - {name: VI_3, interface: eth0, vrid: 53, interval: 100ms, addresses: [192.168.31.252/24]}\n"
	files := []string{file(second("52", "")), file(second("62", "")), file(second("62", ", priority: 90") + third), file(third)}
	n := startNode(t, files[0], h.Do)
	reload := func(file string) {
		n.write(file)
		if err := h.Do(func() error { _, err := n.Reload(t.Context(), false); return err }); err != nil {
			t.Error(err)
		}
	}
	active := func(want int) func() bool {
		return func() bool {
			s, held := n.Status(), 0
			for _, r := range s.Routers {
				if r.State == "Active" {
					held++
				}
			}
			return held == want
		}
	}
	lab.Until(t, bound, "both are Active", active(2))

	end := time.Now().Add(5 * time.Second)
	var all sync.WaitGroup
	again := func(do func()) {
		all.Go(func() {
			for time.Now().Before(end) {
				do()
				time.Sleep(time.Duration(rand.IntN(int(5 * time.Millisecond))))
			}
		})
	}
	must := func(err error) {
		if err != nil {
			t.Error(err)
		}
	}
	again(func() { reload(files[rand.IntN(len(files))]) })
	again(func() { must(n.SetPriority("VI_1", 50+rand.IntN(100))) })
	again(func() { _ = n.SetPriority("VI_2", rand.IntN(255)); _ = n.Resign("VI_1") }) // it may be gone, or no Active
	again(func() { must(n.SetBackend("web", "a", admin.BackendChange{Drain: new(rand.IntN(2) == 0)})) })
	again(func() { must(n.SteerCheck("one", []string{"pause", "resume"}[rand.IntN(2)])) })
	again(func() {
		_, err := n.SetMaintenance(rand.IntN(2) == 0, "")
		must(err)
	})
	again(func() { n.Status(); _, _ = n.Explain(vip); n.Events().After(0) })
	again(func() { _, err := n.Reload(t.Context(), true); must(err) })
	over := make(chan struct{})
	go func() { all.Wait(); close(over) }()
	select {
	case <-over:
	case <-time.After(2 * bound):
		t.Fatal("something waits for ever")
	}

	must(n.SetPriority("VI_1", 77))
	if _, err := n.SetMaintenance(true, "why not"); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, bound, "everything is given away", active(0))
	_, last, _ := n.Events().After(0)
	for range 2 {
		for _, f := range files {
			reload(f)
		}
	}
	time.Sleep(time.Second) // more than it takes to find out that nobody is Active
	events, _, _ := n.Events().After(last)
	for _, e := range events {
		if e.Attribute("to") == "Active" || strings.HasPrefix(e.Message, "addresses acquired") {
			t.Errorf("during the maintenance: %+v", e)
		}
	}
	if s := n.Status(); !active(0)() || !strings.Contains(fmt.Sprint(s.Node.Changes), "priority VI_1 77 100") {
		t.Errorf("at the end of the maintenance: %+v, said %+v", s.Routers, s.Node.Changes)
	}
	_, err := n.SetMaintenance(false, "")
	must(err)
	lab.Until(t, bound, "both are Active again", active(2))
}
