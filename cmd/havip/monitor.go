package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/havip/havip/internal/monitor"
)

func monitorCommand() *cli.Command {
	return &cli.Command{
		Name:  "monitor",
		Usage: "decodes every VRRP advertisement on the wire or in a file, and says what is wrong between the routers",
		Description: "Works beside any vendor's routers and needs no daemon. It only listens. Lines begin with * for a change\n" +
			"of the Active router, with ! for a problem, - for a note and = for what is over. The exit code is 0 without\n" +
			"problems, 1 with some, and 2 if it cannot watch. Listening needs Linux and CAP_NET_RAW; a file needs neither.",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "interface", Aliases: []string{"i"}, Usage: "listen on an `INTERFACE`; may be repeated", DefaultText: "all with a carrier"},
			&cli.StringFlag{Name: "read", Aliases: []string{"r"}, TakesFile: true, Usage: "read a `FILE` of tcpdump or Wireshark; - is standard input"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, DisableDefaultText: true, Usage: "print changes, problems and summaries only, not each advertisement"},
			&cli.DurationFlag{Name: "every", Usage: "print a summary at this `INTERVAL`", DefaultText: "only at the end"},
			&cli.IntFlag{Name: "count", Usage: "end after `N` advertisements", DefaultText: "no end"},
			&cli.DurationFlag{Name: "duration", Usage: "end after this `TIME`", DefaultText: "no end"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "text", Usage: "`FORMAT`: text, or json for an object a line"},
			&cli.BoolFlag{Name: "show-secrets", DisableDefaultText: true, Usage: "print passwords in clear, which are numbered otherwise"},
		},
		Action: func(c *cli.Context) error {
			options, err := monitorOptions(c)
			if err != nil {
				return usageError(fmt.Errorf("havip monitor: %w", err))
			}
			problems, err := monitor.Run(c.Context, options)
			switch {
			case err != nil: // 1 means that problems were found
				return usageError(fmt.Errorf("havip monitor: %w", err))
			case problems > 0:
				return fmt.Errorf("havip monitor: problems found: %d", problems)
			}
			return nil
		},
	}
}

// monitorOptions checks the flags.
func monitorOptions(c *cli.Context) (monitor.Options, error) {
	o := monitor.Options{
		Interfaces: c.StringSlice("interface"), File: c.String("read"), Stdin: c.App.Reader, Out: c.App.Writer,
		Quiet: c.Bool("quiet"), Every: c.Duration("every"), Count: c.Int("count"), Duration: c.Duration("duration"),
		JSON: c.String("output") == "json", ShowSecrets: c.Bool("show-secrets"),
	}
	switch format := c.String("output"); {
	case format != "text" && format != "json":
		return o, fmt.Errorf("--output %q: want text or json", format)
	case c.IsSet("read") && o.File == "":
		return o, errors.New("--read is empty: want a file, or - for standard input")
	case len(o.Interfaces) > 0 && o.File != "":
		return o, errors.New("--interface and --read: use one or the other")
	case c.IsSet("every") && o.Every < 10*time.Millisecond:
		return o, fmt.Errorf("--every %v: want 10ms or more", o.Every)
	case c.IsSet("count") && o.Count < 1:
		return o, fmt.Errorf("--count %d: want 1 or more", o.Count)
	case c.IsSet("duration") && o.Duration <= 0:
		return o, fmt.Errorf("--duration %v: want more than 0", o.Duration)
	}
	return o, nil
}
