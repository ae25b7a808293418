// Command havip gives Linux hosts a shared address, keeps it answering when
// any of them dies, and balances the traffic that arrives there.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/havip/havip/internal/daemon"
	"github.com/havip/havip/internal/xconnect"
)

// Exit codes, the same for every command.
const (
	exitFailed = 1 // the machine's fault, or the work did not come out right
	exitUsage  = 2 // wrong usage or configuration
)

// codeError carries the exit code of a failure.
type codeError struct {
	error
	code int
}

func (e codeError) Unwrap() error { return e.error }

func usageError(err error) error { return codeError{err, exitUsage} }

func main() {
	xconnect.Restore() // net/http has been initialized
	daemon.Main()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	app := newApp()
	err := app.RunContext(ctx, flagsFirst(app, os.Args))
	stop()
	if err == nil {
		return
	}
	if !errors.Is(err, errSaid) {
		daemon.SayError(os.Stderr, err)
	}
	os.Exit(exitCode(err))
}

// exitCode is the code that belongs to an error.
func exitCode(err error) int {
	if ce := (codeError{}); errors.As(err, &ce) {
		return ce.code
	}
	if help := (cli.ExitCoder)(nil); errors.As(err, &help) {
		return exitUsage // of the library, such as help about an unknown command
	}
	return exitFailed
}

func newApp() *cli.App {
	commands := []*cli.Command{runCommand(), validateCommand(), monitorCommand(), demoCommand(), versionCommand()}
	for _, command := range commands {
		command.OnUsageError, command.Before = onUsageError, noArguments
	}
	// Those that ask or steer a running havip have words of their own.
	asking := []*cli.Command{statusCommand(), eventsCommand(), explainCommand()}
	steering := controlCommands()
	for _, command := range asking {
		command.Category = "ask a running havip"
	}
	for _, command := range steering {
		command.Category = "steer a running havip"
	}
	commands = slices.Concat(commands, asking, steering)
	return &cli.App{
		Name:                 "havip",
		Usage:                "a shared address that keeps answering, and the balancer behind it",
		HideVersion:          true,
		EnableBashCompletion: true,
		Flags:                []cli.Flag{&cli.BoolFlag{Name: "version", Usage: "print the version", DisableDefaultText: true}},
		Commands:             commands,
		OnUsageError:         onUsageError,
		// Errors and exit codes are main's business.
		ExitErrHandler: func(*cli.Context, error) {},
		Action: func(c *cli.Context) error {
			if c.Bool("version") {
				return printVersion(c)
			}
			if c.Args().Present() {
				return usageError(fmt.Errorf("havip: no command %q: see 'havip help'", c.Args().First()))
			}
			return cli.ShowAppHelp(c)
		},
	}
}

// onUsageError keeps a wrong flag to one line, instead of a page of help.
func onUsageError(c *cli.Context, err error, _ bool) error {
	name := "havip"
	if c.Command != nil && c.Command.Name != "" && c.Command.Name != name {
		name += " " + c.Command.Name
	}
	return usageError(fmt.Errorf("%s: %w: see '%s --help'", name, err, name))
}

// noArguments refuses words that a command would silently ignore.
func noArguments(c *cli.Context) error {
	if c.Args().Present() {
		return usageError(fmt.Errorf("havip %s: unexpected argument %q: see 'havip %s --help'", c.Command.Name, c.Args().First(), c.Command.Name))
	}
	return nil
}
