// Command embed is a service with failover inside it: of the hosts that run
// it, one at a time holds the address and serves.
//
//	embed eth0 192.168.31.250/24
package main

import (
	"context"
	"log"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"syscall"

	"github.com/havip/havip/vip"
	"github.com/havip/havip/vrrp"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: embed INTERFACE ADDRESS/LENGTH")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// Whoever reads the log may die, and would end this process with it.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	if err := run(ctx, os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

// run takes part in the election until ctx ends, then hands the address over.
func run(ctx context.Context, iface, address string) error {
	addr, err := vip.ParseAddress(address)
	if err != nil {
		return err
	}
	addresses, err := vip.NewManager(vip.Config{Interface: iface, Addresses: []vip.Address{addr}})
	if err != nil {
		return err
	}
	defer addresses.Close()
	conn, err := vrrp.Listen(vrrp.ListenConfig{Interface: iface})
	if err != nil {
		return err
	}
	defer conn.Close()
	router, err := vrrp.NewRouter(vrrp.Config{
		VRID:         51,
		Addresses:    []netip.Addr{addr.Prefix.Addr()},
		OnTransition: func(t vrrp.Transition) { slog.Info("now "+t.To.String(), "because", t.Cause.String()) },
	}, conn, addresses)
	if err != nil {
		return err
	}
	release, err := router.Reserve(ctx) // another process would take the address off
	if err != nil {
		return err
	}
	defer release()
	watch, unwatch := context.WithCancel(context.WithoutCancel(ctx))
	defer unwatch() // after the router has let go of the addresses
	go addresses.Run(watch)
	return router.Run(ctx)
}
