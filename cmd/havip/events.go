package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/havip/havip/internal/admin/client"
	"github.com/havip/havip/internal/report"
)

// kept is how many events a daemon keeps.
const kept = 1000

func eventsCommand() *cli.Command {
	return askCommand(&cli.Command{
		Name:  "events",
		Usage: "what has happened, and why: the latest events, which the daemon keeps in memory",
		Description: fmt.Sprintf("One line each, the oldest first: when, how bad, of which kind, about what, what happened and why. The daemon keeps\n"+
			"the latest %d; the log has all of them. With --follow it stays and prints those that come, also of a daemon that\n"+
			"has started again.\n\n"+
			"Exit codes: 0 done. 1 no havip answers. 2 wrong usage.\n\n"+
			"   havip events --since 10m\n"+
			"   havip events --since '2026-11-27 03:00' --kind transition,split\n"+
			"   havip events --follow -o json | jq -r .message", kept),
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "stay, and print what happens", DisableDefaultText: true},
			&cli.StringFlag{Name: "since", Usage: "only events since `TIME`: 10m, 2d, 03:00, '2026-11-27 03:00', or RFC 3339"},
			&cli.StringSliceFlag{Name: "kind", Usage: "only of this `KIND`; may be repeated: " + strings.Join(report.Kinds, ", ")},
			&cli.IntFlag{Name: "limit", Aliases: []string{"n"}, Usage: "at most the latest `N`", DefaultText: "all"},
			outputFlag("text, or json: one object a line"),
			noColorFlag,
		},
		Action: showEvents,
	}, nil)
}

// eventFilter is what the flags ask for.
type eventFilter struct {
	since time.Time
	kinds []string
	limit int // 0: none
	json  bool
}

func readEventFilter(c *cli.Context, now time.Time) (f eventFilter, err error) {
	if err := wordCount(c, 0, 0); err != nil {
		return f, err
	}
	if f.json, err = wantsJSON(c); err != nil {
		return f, err
	}
	if c.IsSet("since") {
		if f.since, err = parseSince(c.String("since"), now); err != nil {
			return f, usageError(fmt.Errorf("havip events: --since %w", err))
		}
	}
	for _, kind := range c.StringSlice("kind") {
		if !slices.Contains(report.Kinds, kind) {
			return f, usageError(fmt.Errorf("havip events: --kind %q: want %s", kind, strings.Join(report.Kinds, ", ")))
		}
		f.kinds = append(f.kinds, kind)
	}
	f.limit = c.Int("limit")
	if c.IsSet("limit") && f.limit < 1 {
		return f, usageError(fmt.Errorf("havip events: --limit %d: want 1 or more", f.limit))
	}
	return f, nil
}

// parseSince understands a span until now, a time of this or the last day, a date, and
// RFC 3339.
func parseSince(text string, now time.Time) (time.Time, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if d, err := time.ParseDuration(days + "h"); err == nil && d >= 0 { // so many hours as days
			return now.Add(-24 * d), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	for _, form := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(form, text, now.Location()); err == nil {
			return t, nil
		}
	}
	for _, form := range []string{"15:04:05", "15:04"} {
		t, err := time.ParseInLocation(form, text, now.Location())
		if err != nil {
			continue
		}
		t = time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), t.Second(), 0, now.Location())
		if t.After(now) {
			t = t.AddDate(0, 0, -1)
		}
		return t, nil
	}
	return time.Time{}, fmt.Errorf("%q: want a span such as 10m or 2d, a time such as 03:00 or '2026-11-27 03:00', or RFC 3339", text)
}

// wants reports whether an event is of those asked for.
func (f eventFilter) wants(e report.Event) bool {
	return !e.Time.Before(f.since) && (f.kinds == nil || slices.Contains(f.kinds, e.Kind))
}

func showEvents(c *cli.Context) error {
	f, err := readEventFilter(c, time.Now())
	if err != nil {
		return err
	}
	cl, err := dial(c)
	if err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(c.Context, patience)
	defer stop()
	list, last, err := cl.Events(ctx)
	if err != nil {
		return failed(c, err)
	}
	list = slices.DeleteFunc(list, func(e report.Event) bool { return !f.wants(e) })
	if f.limit > 0 {
		list = list[max(0, len(list)-f.limit):]
	}
	for _, e := range list {
		if err := f.print(c, e); err != nil {
			return err
		}
	}
	if !c.Bool("follow") {
		return nil
	}
	return followEvents(c, cl, f, last)
}

func (f eventFilter) print(c *cli.Context, e report.Event) (err error) {
	if f.json {
		return printJSON(c.App.Writer, e, "")
	}
	_, err = fmt.Fprintln(c.App.Writer, report.RenderEvent(e, layout(c)))
	return err
}

// followEvents prints what comes until a signal does. A daemon that ends is waited for.
func followEvents(c *cli.Context, cl *client.Client, f eventFilter, last uint64) error {
	say := func(text string) { fmt.Fprintf(c.App.ErrWriter, "havip events: %s\n", text) }
	stream := cl.Stream(last)
	stream.Lost = func() { say("some events between are not kept any more: the log has them") }
	for {
		err := stream.Follow(c.Context, func(e report.Event) error {
			if !f.wants(e) {
				return nil
			}
			return f.print(c, e)
		})
		switch {
		case c.Context.Err() != nil:
			return nil
		case !errors.Is(err, client.ErrAway):
			return failed(c, err)
		}
		say(err.Error() + ": waiting for it")
		if !awaitAnswer(c.Context, cl) {
			return nil
		}
		say("it answers again")
	}
}

// awaitAnswer waits until a havip answers; false: ctx has ended.
func awaitAnswer(ctx context.Context, cl *client.Client) bool {
	for ctx.Err() == nil {
		asking, stop := context.WithTimeout(ctx, patience)
		_, err := cl.Status(asking)
		stop()
		if err == nil {
			return true
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return false
}
