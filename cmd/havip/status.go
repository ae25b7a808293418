package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/havip/havip/internal/admin/client"
	"github.com/havip/havip/internal/report"
	"github.com/havip/havip/internal/terminal"
)

// leastInterval is the shortest one of --watch: each redraw asks for all of the status.
const leastInterval = 200 * time.Millisecond

func statusCommand() *cli.Command {
	return askCommand(&cli.Command{
		Name:      "status",
		Usage:     "what the running havip does, and what is wrong: routers, checks, services, backends",
		ArgsUsage: "[NAME ...]",
		Description: "Without a NAME of a router, group, check or service it shows all of them. Lines with ! need a person, lines with * are\n" +
			"worth knowing. The last line says in a few words whether all is well, for monitoring; with --quiet it is the only one.\n\n" +
			"Exit codes: 0 all is well. 1 something needs a person, and the last line says what: the last reload failed; a router\n" +
			"does not run, is in fault, shares its addresses with another Active router, or has not the addresses that it should;\n" +
			"a check that a router tracks is down; a service does not serve, or has no working backend. 1 as well if no havip\n" +
			"answers. 2 wrong usage. Maintenance is planned, and no problem; neither is a backend less.\n\n" +
			"   havip status                     # all of it\n" +
			"   havip status web VI_1            # these only\n" +
			"   havip status --watch             # live: q quits, arrows scroll\n" +
			"   havip status -o json | jq '.routers[].state'",
		Flags: []cli.Flag{
			outputFlag("text or json"),
			&cli.GenericFlag{Name: "watch", Aliases: []string{"w"}, Value: &optionalDuration{value: 2 * time.Second}, Usage: "stay, and show what changes at once and all at least every `INTERVAL`"},
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "every backend and every peer, however many there are", DisableDefaultText: true},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "only the last line", DisableDefaultText: true},
			noColorFlag,
		},
		Action: showStatus,
	}, (*report.Status).Names)
}

func showStatus(c *cli.Context) error {
	asJSON, err := wantsJSON(c)
	if err != nil {
		return err
	}
	watch, _ := c.Generic("watch").(*optionalDuration)
	if watch.set && (asJSON || c.Bool("quiet")) {
		return usageError(errors.New("havip status: --watch is for people: use it without --output json and --quiet"))
	}
	if watch.set {
		return watchStatus(c, watch.value)
	}
	_, s, err := askStatus(c)
	if err != nil && c.Bool("quiet") && exitCode(err) == exitFailed {
		fmt.Fprintf(c.App.Writer, "problem: %v\n", errors.Unwrap(err)) // monitoring reads this line, too
		return errSaid
	}
	if err != nil {
		return err
	}
	if s, err = s.Select(c.Args().Slice()...); err != nil {
		return failed(c, err)
	}
	switch {
	case asJSON:
		err = printJSON(c.App.Writer, s, "  ")
	case c.Bool("quiet"):
		_, err = fmt.Fprintln(c.App.Writer, s.Verdict())
	default:
		_, err = fmt.Fprint(c.App.Writer, report.RenderStatus(s, c.Bool("all"), layout(c)))
	}
	if err == nil && len(s.FindProblems()) > 0 {
		err = errSaid
	}
	return err
}

// watchStatus shows the status until the person quits. A daemon that does not answer is
// asked again: it may be starting.
func watchStatus(c *cli.Context, interval time.Duration) error {
	if interval < leastInterval {
		return usageError(fmt.Errorf("havip status: --watch %v: want at least %v", interval, leastInterval))
	}
	cl, first, err := askStatus(c)
	if err != nil {
		return err
	}
	if _, err := first.Select(c.Args().Slice()...); err != nil {
		return failed(c, err)
	}
	ctx, stop := context.WithCancel(c.Context)
	defer stop()
	_, last, err := cl.Events(ctx)
	if err != nil {
		return failed(c, err)
	}
	w := terminal.Watch{
		Title: fmt.Sprintf("havip status of %s every %v", first.Node.Host, interval), Interval: interval,
		Changed: changes(ctx, cl, last), Fetch: fetchStatus(c, cl),
	}
	out, ok := c.App.Writer.(*os.File)
	if !ok || !terminal.CanWatch(os.Stdin, out) {
		return w.Repeat(ctx, c.App.Writer)
	}
	return failed(c, w.Run(ctx, os.Stdin, out))
}

// fetchStatus asks for the status. If there is none, it shows the latest one, and says so.
func fetchStatus(c *cli.Context, cl *client.Client) func(context.Context) terminal.Show {
	look := layout(c)
	var last *report.Status
	return func(ctx context.Context) terminal.Show {
		ctx, stop := context.WithTimeout(ctx, patience)
		defer stop()
		s, err := cl.Status(ctx)
		if err == nil {
			s, err = s.Select(c.Args().Slice()...)
		}
		if err == nil {
			last = s
		}
		shown := last
		return func(width int) string {
			l, text := look, ""
			l.Width = width
			if err != nil {
				text = report.RenderTrouble(err.Error(), l)
			}
			if err != nil && shown != nil {
				text += report.RenderTrouble("this is how it was at "+shown.Node.Time.Local().Format(time.TimeOnly), l) + "\n"
			}
			if shown != nil {
				text += report.RenderStatus(shown, c.Bool("all"), l)
			}
			if err != nil && shown != nil { // who sees only the end must not take it for the present
				text += report.RenderTrouble("no answer now: this was at "+shown.Node.Time.Local().Format(time.TimeOnly), l)
			}
			return text
		}
	}
}

// changes has something whenever something has happened.
func changes(ctx context.Context, cl *client.Client, last uint64) <-chan struct{} {
	out := make(chan struct{}, 1)
	go func() {
		stream := cl.Stream(last)
		for ctx.Err() == nil {
			_ = stream.Follow(ctx, func(report.Event) error { // without events there is the interval
				select {
				case out <- struct{}{}:
				default:
				}
				return nil
			})
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
		}
	}()
	return out
}
