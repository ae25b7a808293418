package vip_test

import (
	"context"
	"log"
	"os"
	"os/signal"
	"time"

	"github.com/havip/havip/vip"
)

// A program that elects its leader in its own way moves an address with it.
func Example() {
	address, err := vip.ParseAddress("192.0.2.10/24")
	if err != nil {
		log.Fatal(err)
	}
	manager, err := vip.NewManager(vip.Config{
		Interface: "eth0",
		Addresses: []vip.Address{address},
		Lease:     5 * time.Second,
		OnLost:    func(err error) { log.Print("stand for election again: ", err) },
	})
	if err != nil {
		log.Fatal(err)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	go func() {
		for leader := range elections(ctx) {
			if !leader {
				manager.Release(ctx)
				continue
			}
			if err := manager.Acquire(ctx); err != nil {
				log.Print(err)
				continue
			}
			manager.Announce(ctx)
		}
	}()
	if err := manager.Run(ctx); err != nil { // removes the address at the end
		log.Fatal(err)
	}
}

// elections stands for the program's own way to elect a leader.
func elections(context.Context) <-chan bool { return nil }
