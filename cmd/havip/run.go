package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/daemon"
	"github.com/havip/havip/internal/node"
)

func configFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "config", Aliases: []string{"c"}, TakesFile: true,
		Usage: "configuration `FILE`", Value: "/etc/havip/havip.yaml",
	}
}

const (
	realtimeFlag = "realtime"
	strictFlag   = "strict-start"
)

func runCommand() *cli.Command {
	return &cli.Command{
		Name:  "run",
		Usage: "run the daemon until SIGTERM, then hand over and exit; SIGHUP reads the file again, SIGUSR1 opens the files of access logs anew",
		Flags: append([]cli.Flag{
			configFlag(),
			&cli.IntFlag{
				Name: realtimeFlag, DefaultText: "ordinary scheduling",
				Usage: "run at a real-time `PRIORITY`, 1 to 99: for intervals well below 1s on a busy host",
			},
			&cli.BoolFlag{
				Name: strictFlag, DisableDefaultText: true,
				Usage: "exit, naming all that is missing, if a router, a check or a service cannot begin at once; otherwise these begin later, and all else runs",
			},
		}, routerFlags()...),
		Action: func(c *cli.Context) error {
			// From here on the signal must not end the process.
			reload := make(chan os.Signal, 1)
			signal.Notify(reload, syscall.SIGHUP, syscall.SIGUSR1)
			defer signal.Stop(reload)
			cfg, err := loadConfig(c)
			if errors.Is(err, errInterrupted) {
				return nil // as asked
			}
			if cfg == nil { // otherwise only a file of a service is missing, which the daemon reports
				return usageError(err)
			}
			log, err := daemon.NewLog(os.Stderr, cfg.Log)
			if err != nil {
				return usageError(err)
			}
			defer log.Flush()
			slog.SetDefault(log.Logger) // for libraries that log to the default logger
			daemon.OutliveReader()
			if err := realtime(c); err != nil {
				return err
			}
			processors()
			n, err := node.New(node.Config{
				Configuration: cfg,
				Load:          func(context.Context) (*config.Config, error) { return loadConfig(c) },
				File:          configFile(c),
				Log:           log,
				Strict:        c.Bool(strictFlag),
				Version:       version(),
			})
			if err != nil {
				return errors.New("havip run: " + strings.ReplaceAll(err.Error(), "\n", "\nhavip run: "))
			}
			if err := n.Run(c.Context, reload); err != nil {
				return fmt.Errorf("havip run: %w", err)
			}
			return nil
		},
	}
}

// processors gives the runtime twice as many processors as there are, which saves lb.TCP
// a third of its work (see there). It leaves alone what the environment, or a
// container's share of the processors, has decided.
func processors() {
	if os.Getenv("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) == runtime.NumCPU() {
		runtime.GOMAXPROCS(2 * runtime.NumCPU())
	}
}

// realtime does what the flag of that name says.
func realtime(c *cli.Context) error {
	if !c.IsSet(realtimeFlag) {
		return nil
	}
	priority := c.Int(realtimeFlag)
	if priority < 1 || priority > 99 {
		return usageError(fmt.Errorf("havip run: --%s %d: want 1 to 99", realtimeFlag, priority))
	}
	if err := daemon.Realtime(c.Context, priority); err != nil {
		return fmt.Errorf("havip run: %w", err)
	}
	return nil
}
