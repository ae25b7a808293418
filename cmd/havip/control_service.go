package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/havip/havip/internal/admin/client"
	"github.com/havip/havip/internal/report"
)

// backendNames are the services, and the backends of the one that is named already.
func backendNames(c *report.Status) (list []string) {
	for _, v := range c.Services {
		list = append(list, v.Name)
		for _, p := range v.Pools {
			for _, b := range p.Backends {
				list = append(list, b.Name)
			}
		}
	}
	return list
}

func drainCommand(name, usage string, drain bool) *cli.Command {
	return askCommand(&cli.Command{
		Name: name, ArgsUsage: "SERVICE BACKEND", Usage: usage,
		Description: "BACKEND is the name that 'havip status SERVICE --all' shows." + untilReload + exitText +
			"   havip " + name + " web 192.168.31.242:8080",
		Action: func(c *cli.Context) error {
			if err := wordCount(c, 2, 2); err != nil {
				return err
			}
			service, backend := c.Args().Get(0), c.Args().Get(1)
			return steer(c, func(ctx context.Context, cl *client.Client) (string, error) {
				if name == "disable" {
					return fmt.Sprintf("%s of %s gets no new connections, and those that it had are cut, until 'havip enable %s %s', a restart, or a reload that changes it",
						backend, service, service, backend), cl.Disable(ctx, service, backend)
				}
				if err := cl.Drain(ctx, service, backend, drain); err != nil {
					return "", err
				}
				if !drain {
					return fmt.Sprintf("%s of %s gets connections again", backend, service), nil
				}
				return fmt.Sprintf("%s of %s gets no new connections%s, until 'havip enable %s %s', a restart, or a reload that changes it",
					backend, service, stillActive(ctx, cl, service, backend), service, backend), nil
			})
		},
	}, backendNames)
}

// stillActive says how many connections a drained backend has left.
func stillActive(ctx context.Context, cl *client.Client, service, backend string) string {
	s, err := cl.Status(ctx)
	if err != nil {
		return "" // it is drained all the same
	}
	active := int64(0)
	for _, v := range s.Services {
		for _, p := range v.Pools {
			for _, b := range p.Backends {
				if (service == v.Name || service == v.Name+"/"+p.Route) && b.Name == backend {
					active += b.Active
				}
			}
		}
	}
	if active > 0 {
		return fmt.Sprintf(" (%d go on)", active)
	}
	return ""
}

// maintainService is 'havip maintenance' for one service.
func maintainService(c *cli.Context) error {
	service, word := c.String("service"), c.Args().First()
	var on *bool
	switch {
	case service == "":
		return usageError(errors.New("havip maintenance: --service is empty: want the name of a service"))
	case c.IsSet("reason"):
		return usageError(errors.New("havip maintenance: --reason belongs to the maintenance of the node, without --service"))
	case word == "on", word == "off":
		on = new(word == "on")
	case word != fileWord:
		return usageError(fmt.Errorf("havip maintenance: %q: want on or off, or the word file for the file's value", word))
	}
	return steer(c, func(ctx context.Context, cl *client.Client) (string, error) {
		if err := cl.SetServiceMaintenance(ctx, service, on); err != nil {
			return "", err
		}
		does := service + " has the maintenance of the file again"
		if on != nil {
			does = map[bool]string{true: service + " answers all requests with 503", false: service + " passes requests on"}[*on] +
				fmt.Sprintf(", until 'havip maintenance --service %s file', a restart, or a reload that changes its http.maintenance", service)
		}
		return does, nil
	})
}

// mostWeight is the largest weight of a backend, as in a file.
const mostWeight = 65535

func weightCommand() *cli.Command {
	return askCommand(&cli.Command{
		Name: "weight", ArgsUsage: "SERVICE BACKEND N|file",
		Usage: "give a backend another share of the connections, or the file's again",
		Description: "BACKEND is the name that 'havip status SERVICE --all' shows. 0 gives it none. A drain at run time stays: it ends with 'havip enable'." + untilReload + exitText +
			"   havip weight web 192.168.31.242:8080 3\n" +
			"   havip weight web 192.168.31.242:8080 file",
		Action: func(c *cli.Context) error {
			if err := wordCount(c, 3, 3); err != nil {
				return err
			}
			service, backend, word := c.Args().Get(0), c.Args().Get(1), c.Args().Get(2)
			n, err := numberOrFile(c, word, 0, mostWeight, client.FileWeight)
			if err != nil {
				return err
			}
			return steer(c, func(ctx context.Context, cl *client.Client) (string, error) {
				if word == fileWord {
					return fmt.Sprintf("%s of %s has the weight of the file again", backend, service), cl.SetWeight(ctx, service, backend, client.FileWeight)
				}
				if err := cl.SetWeight(ctx, service, backend, n); err != nil {
					return "", err
				}
				return fmt.Sprintf("%s of %s has weight %d, until 'havip weight %s %s file', a restart, or a reload that changes its weight",
					backend, service, n, service, backend), nil
			})
		},
	}, backendNames)
}

func reloadCommand() *cli.Command {
	return askCommand(&cli.Command{
		Name:  "reload",
		Usage: "have the daemon read its file again, and print what that changes",
		Description: "Prints each part that does not stay as it is, and its keys: + is new, - ends, ~ changes in place, ! moves the address, with\n" +
			"what that costs. With --dry-run nothing is changed. A file with a mistake changes nothing; the mistakes are printed.\n" +
			exitText +
			"   havip reload --dry-run",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "only print what would change", DisableDefaultText: true},
			outputFlag("text or json"), noColorFlag,
		},
		Action: func(c *cli.Context) error {
			asJSON, err := wantsJSON(c)
			if err == nil {
				err = wordCount(c, 0, 0)
			}
			if err != nil {
				return err
			}
			cl, err := dial(c)
			if err != nil {
				return err
			}
			if err := ready(c.Context, cl); err != nil {
				return failed(c, err)
			}
			ctx, stop := context.WithTimeout(c.Context, reloadPatience)
			defer stop()
			change, err := cl.Reload(ctx, c.Bool("dry-run"))
			switch {
			case err != nil:
				return failed(c, err)
			case asJSON:
				return printJSON(c.App.Writer, change, "  ")
			}
			_, err = fmt.Fprint(c.App.Writer, report.RenderChange(change, layout(c)))
			return err
		},
	}, nil)
}

func logCommand() *cli.Command {
	levels := []string{"debug", "info", "warn", "error"}
	return askCommand(&cli.Command{
		Name: "log", ArgsUsage: "level LEVEL|file, or reopen",
		Usage: "log more or less, or as the file says again, or open the files of access logs anew",
		Description: "LEVEL is debug, info, warn or error." + untilReload +
			" reopen is for access logs that were moved away, as logrotate does." + exitText + "   havip log level debug\n   havip log reopen",
		Action: func(c *cli.Context) error {
			if c.Args().First() == "reopen" {
				if err := wordCount(c, 1, 1); err != nil {
					return err
				}
				return steer(c, func(ctx context.Context, cl *client.Client) (string, error) {
					return "the files of access logs are opened anew", cl.ReopenLogs(ctx)
				})
			}
			if err := wordCount(c, 2, 2); err != nil {
				return err
			}
			if word := c.Args().First(); word != "level" {
				return usageError(fmt.Errorf("havip log: %q: want level or reopen", word))
			}
			level := c.Args().Get(1)
			if level != fileWord && !slices.Contains(levels, level) {
				return usageError(fmt.Errorf("havip log: level %q: want %s, or file", level, strings.Join(levels, ", ")))
			}
			return steer(c, func(ctx context.Context, cl *client.Client) (string, error) {
				if level == fileWord {
					return "the log has the level of the file again", cl.SetLogLevel(ctx, "")
				}
				return fmt.Sprintf("the log has level %s, until 'havip log level file', a restart, or a reload that changes it", level), cl.SetLogLevel(ctx, level)
			})
		},
	}, func(*report.Status) []string { return append([]string{"level", "reopen", fileWord}, levels...) })
}
