package vrrp_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/havip/havip/vrrp"
)

// node is a machine of the example, and what its advertisements look like.
type node struct {
	name    string
	machine *vrrp.Machine
	adv     vrrp.Advertisement
}

func newNode(name, source string, priority uint8) *node {
	cfg := vrrp.Config{
		VRID:      51,
		Priority:  priority,
		Source:    netip.MustParseAddr(source),
		Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.250")},
	}
	machine, err := vrrp.NewMachine(cfg)
	if err != nil {
		panic(err)
	}
	return &node{name, machine, vrrp.Advertisement{
		Source: cfg.Source, Version: 3, VRID: 51, Interval: time.Second, Addresses: cfg.Addresses,
	}}
}

// A failover in virtual time: the caller of a Machine brings the clock and
// carries out the actions.
func ExampleMachine() {
	boot := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	lb1, lb2 := newNode("lb-01", "192.0.2.10", 200), newNode("lb-02", "192.0.2.11", 100)
	nodes := []*node{lb1, lb2}

	var perform func(now time.Time, n *node, actions []vrrp.Action)
	perform = func(now time.Time, n *node, actions []vrrp.Action) {
		for _, a := range actions {
			switch a.Kind {
			case vrrp.Send: // arrives at once
				n.adv.Priority = a.Priority
				for _, other := range nodes {
					if other != n {
						perform(now, other, other.machine.Receive(now, &n.adv))
					}
				}
			case vrrp.Changed:
				fmt.Printf("%6.3f s  %s %v: %v\n", now.Sub(boot).Seconds(), n.name, a.Transition.To, a.Transition.Cause)
			}
		}
	}
	run := func(from, to time.Duration) {
		for now := boot.Add(from); now.Before(boot.Add(to)); now = now.Add(time.Millisecond) {
			for _, n := range nodes {
				if at, ok := n.machine.Deadline(); ok && !now.Before(at) {
					perform(now, n, n.machine.Tick(now))
				}
			}
		}
	}

	for _, n := range nodes {
		perform(boot, n, n.machine.Start(boot))
	}
	run(0, 10*time.Second)

	fmt.Println("10.000 s  lb-01 loses its power")
	nodes = []*node{lb2}
	run(10*time.Second, 20*time.Second)

	fmt.Println("20.000 s  lb-02 is stopped")
	now := boot.Add(20 * time.Second)
	perform(now, lb2, lb2.machine.Shutdown(now))
	run(20*time.Second, 22*time.Second) // it waits for a successor

	// Output:
	//  0.000 s  lb-01 Backup: start
	//  0.000 s  lb-02 Backup: start
	//  3.219 s  lb-01 Active: no advertisement in time
	// 10.000 s  lb-01 loses its power
	// 12.829 s  lb-02 Active: no advertisement in time
	// 20.000 s  lb-02 is stopped
	// 21.200 s  lb-02 Initialize: shutdown
}
