package vrrp_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/havip/havip/vrrp"
	"github.com/havip/havip/vrrp/vrrptest"
)

// Routers without Addresses and without a Handler elect a leader, which runs the jobs,
// moves an address in a cloud's API, or writes to a shared disk. The leader acts only while
// Entitled reports true: a process that was held up may have a successor that it has not
// heard yet.
func ExampleRouter_Entitled() {
	member := vrrptest.NewLAN().Host("192.0.2.1") // in memory; else ListenConfig{Interface: "eth0"}
	conn, err := vrrp.Listen(member.ListenConfig())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	elected := make(chan struct{}, 1)
	router, err := vrrp.NewRouter(vrrp.Config{
		VRID:     51,
		Interval: 100 * time.Millisecond,
		Source:   member.Addr(), // a Conn on a real interface finds it
		OnTransition: func(t vrrp.Transition) {
			if t.To == vrrp.Active {
				select {
				case elected <- struct{}{}:
				default:
				}
			}
		},
	}, conn, nil)
	if err != nil {
		log.Fatal(err)
	}
	ctx, resign := context.WithCancel(context.Background())
	go func() {
		<-elected
		for !router.Entitled() {
			time.Sleep(10 * time.Millisecond)
		}
		fmt.Println("leads: there is no other member")
		resign()
	}()
	if err := router.Run(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println("entitled:", router.Entitled())
	// Output:
	// leads: there is no other member
	// entitled: false
}
