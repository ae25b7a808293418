//go:build unix

package healthcheck

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
)

// Ready returns the error that Check would return before it runs anything: the user is
// unknown; the program is missing, is a directory, is refused, or may not be executed
// by its user; the working directory is missing. The error matches [ErrCannotRun], and
// names the command that mends the fault where there is one. Check looks again each
// time: the program may come and go.
func (c Exec) Ready() error {
	_, err := c.credentials()
	return fail(c, err)
}

// ReadyPrivileged is Ready for a process with privileges: this process if it has any,
// otherwise a process that runs as root. So an ordinary user can predict what a daemon will
// find.
func (c Exec) ReadyPrivileged() error {
	uid := os.Geteuid()
	if uid == 0 || hasCapabilities() {
		return c.Ready()
	}
	credential, err := lookupCredential(c.User)
	switch {
	case err != nil:
		err = fmt.Errorf("%w: user %s: %w", ErrCannotRun, c.User, err)
	case credential == nil && c.User == "":
		err = c.checkReady(&syscall.Credential{}, 0)
	case credential == nil: // ourselves
		err = c.checkReady(&syscall.Credential{Uid: uint32(uid), Gid: uint32(os.Getegid())}, 0)
	default:
		err = c.checkReady(credential, 0)
	}
	return fail(c, err)
}

// credentials returns the user that the program is to run as, nil for the user of this
// process.
func (c Exec) credentials() (*syscall.Credential, error) {
	credential, err := lookupCredential(c.User)
	if err == nil && credential != nil && !mayBecomeOthers() {
		err = errors.New("to run a program as somebody else needs root, or CAP_SETUID, CAP_SETGID and CAP_KILL")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: user %s: %w", ErrCannotRun, c.User, err)
	}
	return credential, c.checkReady(credential, os.Geteuid())
}

// checkReady returns why a process of user uid cannot run the program with credential,
// nil for its own.
func (c Exec) checkReady(credential *syscall.Credential, uid int) error {
	if err := c.checkTrust(credential, uid); err != nil {
		return fmt.Errorf("%w: %w", ErrCannotRun, err)
	}
	if err := executable(c.Path, credential); err != nil {
		return fmt.Errorf("%w: %w", ErrCannotRun, err)
	}
	if info, err := os.Stat(c.WithDefaults().Dir); err != nil {
		return fmt.Errorf("%w: working directory: %w", ErrCannotRun, err)
	} else if !info.IsDir() {
		return fmt.Errorf("%w: working directory: %s is no directory", ErrCannotRun, c.Dir)
	}
	return nil
}

// checkTrust applies the rule about who may change the program. A program that runs as
// another ordinary user is not subject to the rule: the configuration names its owner.
func (c Exec) checkTrust(credential *syscall.Credential, uid int) error {
	switch {
	case credential == nil && uid == 0, credential != nil && credential.Uid == 0:
		if err := trust(c.Path, 0); err != nil {
			return fmt.Errorf("as root: %w", err)
		}
	case (credential == nil || int(credential.Uid) == uid) && hasCapabilities():
		if err := trust(c.Path, uint32(uid)); err != nil {
			return fmt.Errorf("with capabilities: %w", err)
		}
	}
	return nil
}

// executable returns an error if the program is missing or may not be executed by the
// user as, nil for the user of this process.
func executable(path string, as *syscall.Credential) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	switch mode := info.Mode(); {
	case mode.IsDir():
		return fmt.Errorf("%s is a directory", path)
	case mode.Perm()&0o111 == 0:
		return fmt.Errorf("%s is not executable (mode %v): chmod +x %s", path, mode, path)
	case as == nil:
		_, err := exec.LookPath(path) // asks the kernel
		return err
	}
	return walk(path, func(step string, info fs.FileInfo) error {
		if info.Mode()&fs.ModeSymlink != 0 {
			return nil // the mode of a symbolic link means nothing
		}
		a, err := aclOf(step, info)
		switch {
		case err != nil:
			return err
		case a.allows(as, mayExecute):
			return nil
		case info.IsDir():
			return fmt.Errorf("user %d may not search %s (mode %v)", as.Uid, step, info.Mode())
		}
		return fmt.Errorf("user %d may not execute %s (mode %v)", as.Uid, step, info.Mode())
	})
}
