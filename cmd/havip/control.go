package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/havip/havip/internal/admin/client"
	"github.com/havip/havip/internal/report"
)

// controlCommands steer the running havip. Each prints one sentence on what was done.
func controlCommands() []*cli.Command {
	return []*cli.Command{
		resignCommand(), maintenanceCommand(), priorityCommand(),
		drainCommand("drain", "give a backend no new connections; those that it has go on", true),
		drainCommand("enable", "give a drained backend connections again", false),
		drainCommand("disable", "drain a backend, and end the connections, requests and sessions that it has now", true),
		weightCommand(), checkCommand(), alarmCommand(), reloadCommand(), logCommand(),
	}
}

// untilReload is how most changes at run time end.
const untilReload = "\n\nA change at run time shows in 'havip status'. It ends with the process, or when a reload changes that very key of the file.\n"

// exitText ends the help of the commands that steer.
const exitText = "\nExit codes: 0 done. 1 not possible, not permitted, or no havip answers. 2 wrong usage.\n\n"

// steer is the frame of a command that steers: one request, one sentence.
func steer(c *cli.Context, request func(context.Context, *client.Client) (said string, err error)) error {
	return steerWithin(c, patience, request)
}

// steerWithin is steer for what may take longer.
func steerWithin(c *cli.Context, length time.Duration, request func(context.Context, *client.Client) (said string, err error)) error {
	cl, err := dial(c)
	if err != nil {
		return err
	}
	if length > patience {
		if err := ready(c.Context, cl); err != nil {
			return failed(c, err)
		}
	}
	ctx, stop := context.WithTimeout(c.Context, length)
	defer stop()
	said, err := request(ctx, cl)
	if err != nil {
		return failed(c, err)
	}
	_, err = fmt.Fprintln(c.App.Writer, said)
	return err
}

func resignCommand() *cli.Command {
	return askCommand(&cli.Command{
		Name: "resign", ArgsUsage: "ROUTER",
		Usage: "have an Active router hand its addresses over to another node",
		Description: "Another router must be there, or the addresses come back: the router takes part in the election still. To keep a node\n" +
			"away there is 'havip maintenance on'.\n\n" +
			"With --wait it returns when the addresses are gone and another router has them, and fails if none took over.\n" +
			exitText +
			"   havip resign VI_1 --wait",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "wait", Usage: "until another router is Active", DisableDefaultText: true}},
		Action: resign,
	}, routerNames)
}

func routerNames(s *report.Status) (list []string) {
	for _, r := range s.Routers {
		list = append(list, r.Name)
	}
	return list
}

func resign(c *cli.Context) error {
	if err := wordCount(c, 1, 1); err != nil {
		return err
	}
	cl, s, err := askStatus(c)
	if err != nil {
		return err
	}
	name := c.Args().First()
	before, err := s.Router(name)
	if err != nil {
		return failed(c, err)
	}
	ctx, stop := context.WithTimeout(c.Context, patience)
	defer stop()
	if err := cl.Resign(ctx, name); err != nil {
		return failed(c, err)
	}
	if _, err := fmt.Fprintf(c.App.Writer, "%s hands %s over\n", name, handed(before)); err != nil || !c.Bool("wait") {
		return err
	}
	said, err := awaitSuccessor(c.Context, cl, before)
	if err != nil {
		return failed(c, err)
	}
	_, err = fmt.Fprintln(c.App.Writer, said)
	return err
}

// handed names what a router hands over.
func handed(r report.Router) string {
	list := r.AddressList()
	switch {
	case len(list) == 0:
		return "its role"
	case len(list) > 3:
		return fmt.Sprintf("%s and %d more addresses", strings.Join(list[:2], ", "), len(list)-2)
	}
	return strings.Join(list, ", ")
}

// awaitSuccessor returns when another router is heard as Active, or says that none is
// there. Ten intervals are plenty: a successor needs its skew time, a peer of version 2 up
// to four seconds.
func awaitSuccessor(ctx context.Context, cl *client.Client, before report.Router) (string, error) {
	ctx, stop := context.WithTimeout(ctx, max(10*time.Second, 10*time.Duration(before.Interval)))
	defer stop()
	for {
		s, err := cl.Status(ctx)
		if err != nil && ctx.Err() == nil {
			return "", err
		}
		if err == nil {
			now, err := s.Router(before.Name)
			if err != nil {
				return "", err // a reload has removed it
			}
			if said, done := succeeded(before, now, s.Node.Time); done {
				return said, nil
			}
			if now.State == "Active" && !now.HandingOver {
				return "", fmt.Errorf("no other router took over: %s is Active as before", now.Name)
			}
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return "", fmt.Errorf("no other router of %s was heard as Active yet: see 'havip status %s'", before.Name, before.Name)
		}
	}
}

// succeeded reports whether another router has taken over, and says which.
func succeeded(before, now report.Router, at time.Time) (string, bool) {
	if now.State == "Active" || now.Held {
		return "", false
	}
	for _, p := range now.Peers {
		if p.Priority > 0 && !p.LastHeard.Before(now.Since) {
			return fmt.Sprintf("%s (priority %d) is Active; %s has been %s for %v", p.Address, p.Priority, now.Name, now.State,
				at.Sub(now.Since).Round(time.Millisecond)), true
		}
	}
	return "", false
}

func maintenanceCommand() *cli.Command {
	return askCommand(&cli.Command{
		Name: "maintenance", ArgsUsage: "on|off, or --service SERVICE on|off|file",
		Usage: "have the node give all its addresses away and stay away, until 'off'; or one service answer requests with 503",
		Description: "That of the node survives reloads and restarts. 'havip status' shows since when and why.\n\n" +
			"With --service the node stays as it is, and one service of mode http answers all requests with 503 and its maintenance_page." +
			untilReload + exitText +
			"   havip maintenance on --reason 'kernel update'\n" +
			"   havip maintenance off\n" +
			"   havip maintenance --service web on",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "reason", Usage: "`WORDS` for whoever asks"},
			&cli.StringFlag{Name: "service", Usage: "the maintenance of this `SERVICE`, not of the node"},
		},
		Action: maintain,
	}, func(*report.Status) []string { return []string{"on", "off"} })
}

func maintain(c *cli.Context) error {
	if err := wordCount(c, 1, 1); err != nil {
		return err
	}
	if c.IsSet("service") {
		return maintainService(c)
	}
	word := c.Args().First()
	switch {
	case word == fileWord:
		return usageError(errors.New("havip maintenance: file belongs to --service: want on or off"))
	case word != "on" && word != "off":
		return usageError(fmt.Errorf("havip maintenance: %q: want on or off", word))
	case word == "off" && c.IsSet("reason"):
		return usageError(errors.New("havip maintenance: --reason belongs to on"))
	}
	return steer(c, func(ctx context.Context, cl *client.Client) (string, error) {
		warning, err := cl.SetMaintenance(ctx, word == "on", c.String("reason"))
		if err != nil {
			return "", err
		}
		if warning != "" {
			fmt.Fprintf(c.App.ErrWriter, "warning: %s\n", warning)
		}
		if word == "off" {
			return "maintenance is off: every router takes part in the election again", nil
		}
		lasts := ""
		if s, err := cl.Status(ctx); err == nil && s.Node.Maintenance != nil && s.Node.Maintenance.Lasting {
			lasts = ", after restarts too,"
		}
		return "maintenance is on: every router gives its addresses away and stays away" + lasts + " until 'havip maintenance off'", nil
	})
}

func priorityCommand() *cli.Command {
	return askCommand(&cli.Command{
		Name: "priority", ArgsUsage: "ROUTER N|file",
		Usage: "give a router another priority, 1 to 254, or the file's again",
		Description: "A router with 'preempt: false' does not take addresses over from a lower priority: see 'havip resign' on the other node." +
			untilReload + exitText +
			"   havip priority VI_1 90\n" +
			"   havip priority VI_1 file",
		Action: setPriority,
	}, routerNames)
}

func setPriority(c *cli.Context) error {
	if err := wordCount(c, 2, 2); err != nil {
		return err
	}
	name, word := c.Args().Get(0), c.Args().Get(1)
	n, err := numberOrFile(c, word, 1, 254, 0)
	if err != nil {
		return err
	}
	return steer(c, func(ctx context.Context, cl *client.Client) (string, error) {
		if err := cl.SetPriority(ctx, name, n); err != nil {
			return "", err
		}
		if word == fileWord {
			return fmt.Sprintf("%s has the priority of the file again", name), nil
		}
		return fmt.Sprintf("%s has priority %d, until 'havip priority %s file', a restart, or a reload that changes its priority", name, n, name), nil
	})
}

// fileWord stands for the value of the file.
const fileWord = "file"

// numberOrFile reads a number, or the value that stands for the file's.
func numberOrFile(c *cli.Context, word string, least, most, file int) (int, error) {
	if word == fileWord {
		return file, nil
	}
	n, err := strconv.Atoi(word)
	if err != nil || n < least || n > most {
		return 0, usageError(fmt.Errorf("havip %s: %q: want %d to %d, or the word file for the file's value", c.Command.Name, word, least, most))
	}
	return n, nil
}
