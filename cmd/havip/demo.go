package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/scenario"
)

func demoCommand() *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "two load balancers, three web servers and a client on this machine: watch the address move",
		Description: "Builds the hosts as network namespaces of its own, touching nothing else on the machine. It needs\n" +
			"neither root nor another program where the kernel lets users make user namespaces.",
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "interval", Value: time.Second, Usage: "VRRP advertisement `INTERVAL`, 10ms to 10s"},
		},
		Action: func(c *cli.Context) error {
			interval := c.Duration("interval")
			if interval < 10*time.Millisecond || interval > 10*time.Second || interval%(10*time.Millisecond) != 0 {
				return usageError(fmt.Errorf("havip demo: --interval %v: want 10ms to 10s in steps of 10ms", interval))
			}
			executable, err := os.Executable()
			if err == nil {
				err = scenario.Demo(c.Context, c.App.Writer, executable, interval)
			}
			if errors.Is(err, lab.ErrForbidden) {
				return fmt.Errorf("havip demo: %w\n%s", err, wayOut(os.Geteuid()))
			}
			if err != nil {
				return fmt.Errorf("havip demo: %w", err)
			}
			return nil
		},
	}
}

// wayOut says what to do where the demo may not make its hosts.
func wayOut(uid int) string {
	if uid == 0 {
		return "This root may not make network namespaces, as in most containers. Run it on the host, or give the container\n" +
			"CAP_SYS_ADMIN, CAP_NET_ADMIN and a writable /proc/sys, as docker run --privileged does."
	}
	return "This system does not let ordinary users make network namespaces. Run it as root:\n" +
		"    go build -o havip ./cmd/havip && sudo ./havip demo"
}
