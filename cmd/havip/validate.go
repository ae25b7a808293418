package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/daemon"
)

const hostFlag = "host"

func validateCommand() *cli.Command {
	return &cli.Command{
		Name:  "validate",
		Usage: "check a configuration file, or print the defaults",
		Description: "Names every mistake with line and column, in files of a service's certificates and keys as well: exit code 2.\n" +
			"What else this machine lacks for the file are warnings: the file may be for another one.\n\n" +
			"With --host all of it are errors, exit code 1: interfaces, listen addresses, peers, files of certificates and\n" +
			"keys, FIFOs, and the programs of notify and of exec checks, as they are at this moment. Programs are judged\n" +
			"as havip will judge them: as root, or as this user if it runs with capabilities, as the daemon then does.\n" +
			"It changes nothing, and may run beside the daemon. Files that only root can read need root.",
		Flags: []cli.Flag{
			configFlag(),
			&cli.BoolFlag{Name: hostFlag, Usage: "what this machine lacks for the file is an error", DisableDefaultText: true},
			&cli.BoolFlag{Name: "show-defaults", Usage: "print every key with its default and exit"},
		},
		Action: func(c *cli.Context) error {
			if c.Bool("show-defaults") {
				return config.WriteDefaults(c.App.Writer)
			}
			cfg, err := load(c.Context, c.String("config"))
			if cfg == nil {
				return usageError(err)
			}
			if err := validateHost(c, cfg, err); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.App.Writer, "%s: ok: %d virtual routers, %d checks, %d services\n",
				c.String("config"), len(cfg.VRRP), len(cfg.Checks), len(cfg.Services))
			return err
		},
	}
}

// validateHost prints the warnings, and what this machine lacks: as warnings too, or
// as an error if it was asked for. Files of certificates that a reload would refuse
// are an error anyway.
func validateHost(c *cli.Context, cfg *config.Config, files error) error {
	strict, warnings := c.Bool(hostFlag), cfg.Warnings
	host, err := daemon.ThisHost()
	if err != nil && strict {
		return fmt.Errorf("havip validate: --host: %w", err)
	}
	var missing []config.Problem
	if err == nil {
		missing = cfg.OnHost(host)
	}
	if !strict {
		warnings = config.Merge(warnings, missing)
	}
	for _, w := range warnings {
		fmt.Fprintf(c.App.ErrWriter, "warning: %v\n", w)
	}
	var broken config.Errors
	switch errors.As(files, &broken); {
	case strict && len(missing)+len(broken) > 0:
		return config.Errors(config.Merge(missing, broken))
	case files != nil:
		return usageError(files)
	case len(missing) == 0:
		return nil
	}
	_, err = fmt.Fprintln(c.App.ErrWriter, "Warnings about this machine do not matter if the file is for another one. Where it runs, 'havip validate --host' takes them for errors.")
	return err
}
