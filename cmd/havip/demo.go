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
		OnUsageError: onUsageError,
		Before:       noArguments,
		Action: func(c *cli.Context) error {
			interval := c.Duration("interval")
			if interval < 10*time.Millisecond || interval > 10*time.Second || interval%(10*time.Millisecond) != 0 {
				return usageError(fmt.Errorf("havip demo: --interval %v: want 10ms to 10s in steps of 10ms", interval))
			}
			if err := lab.Enter(); errors.Is(err, lab.ErrForbidden) {
				return fmt.Errorf("havip demo: %w\nThis system does not let ordinary users make network namespaces. Run it as root:\n"+
					"    go build -o havip ./cmd/havip && sudo ./havip demo", err)
			} else if err != nil {
				return fmt.Errorf("havip demo: %w", err)
			}
			executable, err := os.Executable()
			if err != nil {
				return fmt.Errorf("havip demo: %w", err)
			}
			if err := scenario.Demo(c.Context, c.App.Writer, executable, interval); err != nil {
				return fmt.Errorf("havip demo: %w", err)
			}
			return nil
		},
	}
}
