package failover_test

import (
	"context"
	"log"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"syscall"

	"github.com/havip/havip/vip"
	"github.com/havip/havip/vip/failover"
	"github.com/havip/havip/vrrp"
)

// Of the hosts that run this program, one at a time has 192.0.2.250.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := failover.Run(ctx, failover.Config{
		VRRP: vrrp.Config{
			VRID:         51,
			OnTransition: func(t vrrp.Transition) { slog.Info("now "+t.To.String(), "because", t.Cause.String()) },
		},
		VIP: vip.Config{Interface: "eth0", Addresses: []vip.Address{{Prefix: netip.MustParsePrefix("192.0.2.250/24")}}},
	})
	if err != nil {
		log.Fatal(err)
	}
}

// Of the hosts that run this program, one at a time leads. No address moves.
func Example_leader() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	leads := make(chan bool, 1) // the latest word
	tell := func(t vrrp.Transition) {
		select {
		case <-leads:
		default:
		}
		leads <- t.To == vrrp.Active
	}
	go work(ctx, leads)
	err := failover.Run(ctx, failover.Config{
		VRRP: vrrp.Config{VRID: 52, OnTransition: tell},
		VIP:  vip.Config{Interface: "eth0"},
	})
	if err != nil {
		log.Fatal(err)
	}
}

// work stands for what only the leader does.
func work(context.Context, <-chan bool) {}

// A service that knows when it cannot serve gives the address to another host
// meanwhile.
func ExampleNode_Router() {
	node, err := failover.New(failover.Config{
		VRRP:   vrrp.Config{VRID: 51},
		VIP:    vip.Config{Interface: "eth0", Addresses: []vip.Address{{Prefix: netip.MustParsePrefix("192.0.2.250/24")}}},
		Logger: slog.Default(),
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() {
		release := func() {}
		for healthy := range health(ctx) {
			if healthy {
				release()
			} else {
				release = node.Router().Hold("the service is not healthy")
			}
		}
	}()
	if err := node.Run(ctx); err != nil {
		log.Fatal(err)
	}
}

// health stands for the service's own opinion of itself: each change of that.
func health(context.Context) <-chan bool { return nil }
