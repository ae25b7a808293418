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

// Check runs the program and waits for it.
func (c Exec) Check(ctx context.Context) error { return fail(c, c.probe(ctx)) }

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
	if credential == nil && os.Geteuid() == 0 || credential != nil && credential.Uid == 0 {
		return cmd, process.Fork(cmd) // root's programs have root's capabilities
	}
	return cmd, startOrdinary(cmd)
}

// lookupCredential turns "user", "user:group" or numbers into credentials. It
// returns nil if the process is to keep its own.
func lookupCredential(spec string) (*syscall.Credential, error) {
	if spec == "" {
		return nil, nil
	}
	name, groupName, hasGroup := strings.Cut(spec, ":")
	u, err := user.Lookup(name)
	if err != nil {
		_, numErr := strconv.ParseUint(name, 10, 32)
		if numErr == nil {
			u, err = user.LookupId(name)
		}
		if err != nil {
			// A number needs no entry in the user database, but then a group.
			if numErr != nil || !hasGroup {
				return nil, err
			}
			u = &user.User{Uid: name, Gid: groupName}
		}
	}
	gid := u.Gid
	if hasGroup {
		gid = groupName
		if g, err := user.LookupGroup(groupName); err == nil {
			gid = g.Gid
		}
	}
	uidNumber, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gidNumber, err := strconv.ParseUint(gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("no group %s", gid)
	}
	if int(uidNumber) == os.Geteuid() && !hasGroup {
		return nil, nil
	}
	c := &syscall.Credential{Uid: uint32(uidNumber), Gid: uint32(gidNumber)}
	if hasGroup || u.Username == "" {
		return c, nil // only the group that was named
	}
	groups, err := u.GroupIds()
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		if n, err := strconv.ParseUint(g, 10, 32); err == nil {
			c.Groups = append(c.Groups, uint32(n))
		}
	}
	return c, nil
}
