package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/havip/havip/internal/admin/client"
	"github.com/havip/havip/internal/report"
)

func checkCommand() *cli.Command {
	return askCommand(&cli.Command{
		Name: "check", ArgsUsage: "pause|resume|now CHECK",
		Usage: "pause a check, have it go on, or have it probe now",
		Description: "CHECK is a name that 'havip status' shows, or SERVICE/BACKEND for the check of a backend. While it is paused, it does not\n" +
			"probe, and all that follows it stays as it is." + untilReload + exitText +
			"   havip check pause balancer\n" +
			"   havip check now web/192.168.31.242:8080",
		Action: steerCheck,
	}, checkNames)
}

func checkNames(s *report.Status) []string {
	list := []string{"pause", "resume", "now"}
	for _, c := range s.Checks {
		list = append(list, c.Name)
	}
	for _, v := range s.Services {
		for _, p := range v.Pools {
			for _, b := range p.Backends {
				if b.Checked {
					list = append(list, v.Name+"/"+b.Name)
				}
			}
		}
	}
	return list
}

func steerCheck(c *cli.Context) error {
	if err := wordCount(c, 2, 2); err != nil {
		return err
	}
	do, name := c.Args().Get(0), c.Args().Get(1)
	if verbs := []string{"pause", "resume", "now"}; !slices.Contains(verbs, do) {
		return usageError(fmt.Errorf("havip check: %q: want %s", do, strings.Join(verbs, ", ")))
	}
	return steer(c, func(ctx context.Context, cl *client.Client) (string, error) {
		before, err := cl.Status(ctx)
		if err != nil {
			return "", err
		}
		if err := cl.SteerCheck(ctx, name, do); err != nil {
			return "", err
		}
		switch do {
		case "pause":
			return fmt.Sprintf("%s is paused, and stays as it is until 'havip check resume %s', a restart, or a reload that changes it", name, name), nil
		case "resume":
			return name + " probes again", nil
		}
		return awaitProbes(ctx, cl, name, before.Node.Time), nil
	})
}

// awaitProbes waits for the results of probes that began after since, by the daemon's
// clock, and says what they have found. A check may take longer than anybody waits here.
func awaitProbes(ctx context.Context, cl *client.Client, name string, since time.Time) string {
	for ctx.Err() == nil {
		s, err := cl.Status(ctx)
		if err != nil {
			break
		}
		all := probesOf(s, name)
		if len(all) == 0 {
			break // a reload has taken it away
		}
		if !slices.ContainsFunc(all, func(c report.Check) bool { return c.Checked.Add(-time.Duration(c.Latency)).Before(since) }) {
			var said []string
			for _, c := range all {
				said = append(said, c.Sentence())
			}
			return strings.Join(said, "\n")
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	return name + " probes now: 'havip status' has the result"
}

// probesOf are what a name of 'havip check' stands for: a check, a backend's, or those of
// all backends that a named check probes.
func probesOf(s *report.Status, name string) (all []report.Check) {
	if i := slices.IndexFunc(s.Checks, func(c report.Check) bool { return c.Name == name }); i >= 0 {
		return s.Checks[i : i+1]
	}
	for _, v := range s.Services {
		for _, p := range v.Pools {
			pool := v.Name + "/"
			if p.Route != "" {
				pool += p.Route + "/"
			}
			for _, b := range p.Backends {
				if b.Checked && (p.Check == name || slices.Contains([]string{pool + b.Name, v.Name + "/" + b.Name, v.Name + "/" + b.Address}, name)) {
					all = append(all, report.Check{Name: pool + b.Name, State: b.State, Checked: b.Probed, Latency: b.CheckLatency, Error: b.Error})
				}
			}
		}
	}
	return all
}
