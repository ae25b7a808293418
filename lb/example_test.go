package lb_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"

	"github.com/havip/havip/lb"
)

// A TCP load balancer over three servers.
func Example() {
	ctx := context.Background()
	pool, err := lb.NewPool(lb.PoolConfig{Backends: []lb.Backend{
		{Address: "192.168.31.242:8080"},
		{Address: "192.168.31.242:8081", Weight: 2},
		{Address: "192.168.31.242:8082", Backup: true},
	}})
	if err != nil {
		log.Fatal(err)
	}
	relay, err := lb.NewTCP(lb.TCPConfig{Pool: pool})
	if err != nil {
		log.Fatal(err)
	}
	ln, err := lb.Listen(ctx, "tcp", ":8080")
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(relay.Serve(ctx, ln))
}

// An HTTP load balancer is a handler like any other.
func ExampleHandler() {
	pool, err := lb.NewPool(lb.PoolConfig{Backends: []lb.Backend{{Address: "192.168.31.242:8080"}}})
	if err != nil {
		log.Fatal(err)
	}
	handler, err := lb.NewHandler(lb.HandlerConfig{Pool: pool})
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe(":8080", handler))
}

func ExamplePool_Pick() {
	pool, err := lb.NewPool(lb.PoolConfig{Backends: []lb.Backend{
		{Name: "a", Address: "192.0.2.1:80", Weight: 5},
		{Name: "b", Address: "192.0.2.2:80"},
		{Name: "c", Address: "192.0.2.3:80"},
	}})
	if err != nil {
		log.Fatal(err)
	}
	pool.SetHealth("c", errors.New("does not answer"))
	for range 6 {
		pick, err := pool.Pick(new(lb.Flow))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(pick.Backend(), " ")
		pick.Done(lb.Success)
	}
	// Output: a a a b a a
}
