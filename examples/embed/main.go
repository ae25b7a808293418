// Command embed is a service with failover inside it: of the hosts that run
// it, one at a time holds the address and serves.
//
//	embed eth0 192.168.31.250/24
package main

import (
	"context"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/havip/havip/vip"
	"github.com/havip/havip/vip/failover"
	"github.com/havip/havip/vrrp"
)

func main() {
	iface, address := arguments()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := failover.Run(ctx, failover.Config{
		VRRP: vrrp.Config{VRID: 51, OnTransition: report},
		VIP:  vip.Config{Interface: iface, Addresses: []vip.Address{address}},
	})
	if err != nil {
		log.Fatal(err)
	}
}

// report hears of each change. A service would begin to serve here, or end that.
func report(t vrrp.Transition) { slog.Info("now "+t.To.String(), "because", t.Cause.String()) }

// arguments reads the command line.
func arguments() (iface string, address vip.Address) {
	// Otherwise the end of the log's reader would end this process too.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	if len(os.Args) != 3 {
		log.Fatal("usage: embed INTERFACE ADDRESS/LENGTH")
	}
	address, err := vip.ParseAddress(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	return os.Args[1], address
}
