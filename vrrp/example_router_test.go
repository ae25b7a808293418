package vrrp_test

import (
	"context"
	"log"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"

	"github.com/havip/havip/vrrp"
)

// addresses is a Handler that only says what it would do; package vip has one that
// does it.
type addresses struct{}

func (addresses) Acquire(context.Context) error  { log.Print("put the address on"); return nil }
func (addresses) Announce(context.Context) error { log.Print("tell the neighbours"); return nil }
func (addresses) Release(context.Context) error  { log.Print("take the address off"); return nil }

// A virtual router that shares 192.0.2.250 with the other routers on the link which have
// VRID 51, until the program is interrupted.
func ExampleRouter() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	conn, err := vrrp.Listen(vrrp.ListenConfig{Interface: "eth0"})
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	shared := []netip.Addr{netip.MustParseAddr("192.0.2.250")}
	router, err := vrrp.NewRouter(vrrp.Config{VRID: 51, Addresses: shared, Logger: slog.Default()}, conn, addresses{})
	if err != nil {
		log.Fatal(err)
	}
	if err := router.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
