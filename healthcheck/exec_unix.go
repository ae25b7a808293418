//go:build unix

package healthcheck

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"github.com/havip/havip/internal/process"
)

func (c Exec) probe(ctx context.Context) error {
	credential, err := c.credentials()
	if err != nil {
		return err
	}
	output, pipe, err := capture(c.Path, credential)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCannotRun, err)
	}
	cmd, err := process.Start(func() (*exec.Cmd, error) { return c.WithDefaults().startProgram(ctx, credential, pipe) })
	pipe.Close()
	if ctx.Err() != nil && cmd.Process == nil {
		return cause(ctx.Err()) // the time was up before the program started
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCannotRun, err)
	}
	err = cmd.Wait()
	output.programEnded(cmd.ProcessState != nil && cmd.ProcessState.Exited())
	if state := cmd.ProcessState; state != nil {
		// What counts is how the program ended, not that its time is up by now.
		status, _ := state.Sys().(syscall.WaitStatus)
		switch {
		case state.Success():
			return nil
		case ctx.Err() != nil && status.Signal() == syscall.SIGKILL:
			err = fmt.Errorf("killed: %w", cause(ctx.Err()))
		}
	}
	if text := output.writtenText(); len(text) > 0 {
		return fmt.Errorf("%w: %s", err, excerpt(text))
	}
	return err
}

// startProgram starts the program.
func (c Exec) startProgram(ctx context.Context, credential *syscall.Credential, output *os.File) (*exec.Cmd, error) {
	cmd := exec.CommandContext(ctx, c.Path, c.Args...)
	cmd.Dir = c.Dir
	cmd.Env = append([]string{defaultPath}, c.Env...)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: credential}
	cmd.Cancel = func() error { return killAll(cmd.Process) }
	if runsAs(credential) == 0 {
		return cmd, process.Fork(cmd) // root's programs have root's capabilities
	}
	return cmd, startOrdinary(cmd)
}

// lookupCredential returns the credentials of c.User, nil for those of this process.
func (c Exec) lookupCredential() (*syscall.Credential, error) {
	if c.User == "" {
		return nil, nil
	}
	credential, err := lookupUser(strings.Cut(c.User, ":"))
	if err != nil {
		err = fmt.Errorf("%w: user %s: %w", ErrCannotRun, c.User, err)
	}
	return credential, err
}

// lookupUser returns the credentials of a user with all groups of the user, or with only the
// named group, nil for those of this process. Both names may be numbers.
func lookupUser(name, group string, hasGroup bool) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	if _, numErr := parseID(name); err != nil && numErr == nil {
		if u, err = user.LookupId(name); err != nil && hasGroup {
			u, err = &user.User{Uid: name}, nil // a number needs no entry in the user database, but then a group
		}
	}
	if err != nil {
		return nil, err
	}
	if !hasGroup {
		group = u.Gid
	} else if g, err := user.LookupGroup(group); err == nil {
		group = g.Gid
	}
	c := new(syscall.Credential)
	if c.Uid, err = parseID(u.Uid); err != nil {
		return nil, err
	}
	if c.Gid, err = parseID(group); err != nil {
		return nil, fmt.Errorf("no group %s", group)
	}
	if hasGroup {
		return c, nil
	}
	if int(c.Uid) == os.Geteuid() {
		return nil, nil
	}
	groups, err := u.GroupIds()
	for _, g := range groups {
		if n, err := parseID(g); err == nil {
			c.Groups = append(c.Groups, n)
		}
	}
	return c, err
}

func parseID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}
