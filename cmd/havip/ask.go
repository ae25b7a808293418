package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/havip/havip/internal/admin/client"
	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/report"
	"github.com/havip/havip/internal/terminal"
)

// patience is how long a command waits for an answer. A reload may take longer: it waits
// for names and sockets.
const (
	patience       = 10 * time.Second
	reloadPatience = 5 * time.Minute
)

// errSaid: what went wrong was printed already, and only the exit code is left to say.
var errSaid = errors.New("said")

// askCommand adds to a command what those have in common that ask a running havip: flags
// on how to reach it, help with the exit codes, names for the shell.
func askCommand(c *cli.Command, names func(*report.Status) []string) *cli.Command {
	c.Flags = append(c.Flags,
		&cli.StringFlag{Name: "socket", Usage: "the daemon's `SOCKET`", Value: client.DefaultSocket, EnvVars: []string{"HAVIP_SOCKET"}, TakesFile: true},
		&cli.StringFlag{Name: "url", Usage: "ask the daemon at `URL` instead, such as https://lb-01:9650", EnvVars: []string{"HAVIP_URL"}},
		&cli.StringFlag{Name: "token-file", Usage: "the `FILE` with the token for --url; without it one can only ask", TakesFile: true},
		&cli.StringFlag{Name: "ca", Usage: "the `FILE` with the authority of the certificate at --url", TakesFile: true},
		&cli.StringFlag{Name: "cert", Usage: "the `FILE` with a client certificate for --url, in the place of a token", TakesFile: true},
		&cli.StringFlag{Name: "key", Usage: "the `FILE` with its key, if that is another one", TakesFile: true},
	)
	c.HideHelpCommand = true
	c.OnUsageError = onUsageError
	c.BashComplete = func(c *cli.Context) { complete(c, names) }
	return c
}

// dial returns the running havip that the flags name. It connects with the first question.
func dial(c *cli.Context) (*client.Client, error) {
	for _, flag := range []string{"token-file", "ca", "cert", "key"} {
		if c.IsSet(flag) && !c.IsSet("url") {
			return nil, usageError(fmt.Errorf("havip %s: --%s belongs to --url: on the socket the kernel says who you are", c.Command.Name, flag))
		}
	}
	if c.IsSet("url") && slices.Contains(c.LocalFlagNames(), "socket") && os.Getenv("HAVIP_SOCKET") == "" {
		return nil, usageError(fmt.Errorf("havip %s: --socket and --url: use one or the other", c.Command.Name))
	}
	if c.String("socket") == config.Off && !c.IsSet("url") {
		return nil, usageError(fmt.Errorf("havip %s: the socket is %s, as the environment's HAVIP_SOCKET may say: name one by --socket", c.Command.Name, config.Off))
	}
	if c.IsSet("key") && !c.IsSet("cert") {
		return nil, usageError(fmt.Errorf("havip %s: --key belongs to --cert", c.Command.Name))
	}
	cl, err := client.New(client.Config{
		Socket: c.String("socket"), URL: c.String("url"), TokenFile: c.String("token-file"),
		CA: c.String("ca"), Cert: c.String("cert"), Key: c.String("key"),
	})
	if err != nil {
		return nil, usageError(fmt.Errorf("havip %s: %w", c.Command.Name, err))
	}
	return cl, nil
}

// askStatus is the first question of most commands.
func askStatus(c *cli.Context) (*client.Client, *report.Status, error) {
	cl, err := dial(c)
	if err != nil {
		return nil, nil, err
	}
	ctx, stop := context.WithTimeout(c.Context, patience)
	defer stop()
	s, err := cl.Status(ctx)
	return cl, s, failed(c, err)
}

// ready returns at once if a havip answers, and after patience if not: nobody is kept
// waiting for longer by a havip that is frozen, whatever the question itself may take.
func ready(ctx context.Context, cl *client.Client) error {
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	_, err := cl.Status(ctx)
	return err
}

// failed names the command before an error.
func failed(c *cli.Context, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) && c.Context.Err() != nil {
		err = errors.New("interrupted before the answer")
	}
	return fmt.Errorf("havip %s: %w", c.Command.Name, err)
}

// wordCount refuses words that are missing or too many.
func wordCount(c *cli.Context, least, most int) error {
	usage := strings.TrimSpace(fmt.Sprintf("usage: havip %s %s", c.Command.Name, c.Command.ArgsUsage))
	switch n := c.NArg(); {
	case n < least:
		return usageError(fmt.Errorf("havip %s: %s missing: %s", c.Command.Name, plural(least-n, "word"), usage))
	case n > most:
		return usageError(fmt.Errorf("havip %s: unexpected argument %q: %s", c.Command.Name, c.Args().Get(most), usage))
	}
	return nil
}

func plural(n int, noun string) string {
	if n == 1 {
		return "one " + noun + " is"
	}
	return fmt.Sprintf("%d %ss are", n, noun)
}

// outputFlag chooses between text and JSON.
func outputFlag(usage string) cli.Flag {
	return &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "text", Usage: usage}
}

// wantsJSON reports what the output flag says.
func wantsJSON(c *cli.Context) (bool, error) {
	switch o := c.String("output"); o {
	case "text":
		return false, nil
	case "json":
		return true, nil
	default:
		return false, usageError(fmt.Errorf("havip %s: --output %q: want text or json", c.Command.Name, o))
	}
}

// printJSON prints a value for programs.
func printJSON(w io.Writer, value any, indent string) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	return e.Encode(value)
}

var noColorFlag = &cli.BoolFlag{Name: "no-color", Usage: "no colors, as with NO_COLOR in the environment", DisableDefaultText: true}

// layout is that of the output.
func layout(c *cli.Context) report.Layout {
	return report.Layout{
		Width: terminal.Width(c.App.Writer),
		Color: !c.Bool("no-color") && terminal.Color(c.App.Writer, os.Getenv),
		Zone:  time.Local,
	}
}

// complete prints the flags, and the names that may be the next word, for a shell. It is
// quick, and has no names if there is no daemon.
func complete(c *cli.Context, names func(*report.Status) []string) {
	for _, f := range c.Command.VisibleFlags() {
		fmt.Fprintln(c.App.Writer, "--"+f.Names()[0])
	}
	cl, err := dial(c)
	if err != nil || names == nil {
		return
	}
	ctx, stop := context.WithTimeout(c.Context, time.Second)
	defer stop()
	s, err := cl.Status(ctx)
	if err != nil {
		return
	}
	for _, name := range names(s) {
		if !slices.Contains(c.Args().Slice(), name) && !strings.ContainsAny(name, " \n") {
			fmt.Fprintln(c.App.Writer, name)
		}
	}
}
