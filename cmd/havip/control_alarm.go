package main

import (
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/havip/havip/internal/admin/client"
	"github.com/havip/havip/internal/report"
)

// alarmPatience is more than a receiver of alarms may take.
const alarmPatience = 70 * time.Second

func alarmCommand() *cli.Command {
	return askCommand(&cli.Command{
		Name: "alarm", ArgsUsage: "test NAME",
		Usage: "have a receiver of alarms tell of a trial",
		Description: "NAME is that of a receiver under alarms in the file. The trial is sent once, at once, and the answer is the receiver's:\n" +
			"whether a webhook or a mail server has taken it, or why not.\n" + exitText +
			"   havip alarm test ops",
		Action: testAlarm,
	}, func(*report.Status) []string { return []string{"test"} })
}

func testAlarm(c *cli.Context) error {
	if err := wordCount(c, 2, 2); err != nil {
		return err
	}
	do, name := c.Args().Get(0), c.Args().Get(1)
	if do != "test" {
		return usageError(fmt.Errorf("havip alarm: %q: want test", do))
	}
	return steerWithin(c, alarmPatience, func(ctx context.Context, cl *client.Client) (string, error) {
		if err := cl.TestAlarm(ctx, name); err != nil {
			return "", err
		}
		return name + " has taken the trial", nil
	})
}
