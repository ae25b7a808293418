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

// Ready reports what Check would find in the way before it runs anything: a user
// that is unknown, a program that is missing, is a directory, may not be executed
// by who would run it or is refused, a missing working directory. The error
// matches [ErrCannotRun], and names the command that mends it where there is
// one. Check looks again each time: the program may come and go.
func (c Exec) Ready() error {
	_, err := c.ready()
	return fail(c, err)
}

// ReadyPrivileged is Ready as a process with privileges finds it: this one if it has
// any, or else one that runs as root. It serves to look ahead, as an ordinary user,
// at what a daemon will find.
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
		err = c.readyAs(&syscall.Credential{}, 0)
	case credential == nil: // ourselves
		err = c.readyAs(&syscall.Credential{Uid: uint32(uid), Gid: uint32(os.Getegid())}, 0)
	default:
		err = c.readyAs(credential, 0)
	}
	return fail(c, err)
}

// ready returns who the program is to run as, nil for ourselves.
func (c Exec) ready() (*syscall.Credential, error) {
	credential, err := lookupCredential(c.User)
	if err == nil && credential != nil && !mayBecomeOthers() {
		err = errors.New("to run a program as somebody else needs root, or CAP_SETUID, CAP_SETGID and CAP_KILL")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: user %s: %w", ErrCannotRun, c.User, err)
	}
	return credential, c.readyAs(credential, os.Geteuid())
}

// readyAs reports what is in the way of the program for a process of user uid that
// runs it as somebody else, nil for itself.
func (c Exec) readyAs(credential *syscall.Credential, uid int) error {
	if err := c.trusted(credential, uid); err != nil {
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

// trusted applies the rule about who may change the program. Whoever runs it as
// another user than root, and not as the one that this process is, has said
// whose it is.
func (c Exec) trusted(credential *syscall.Credential, uid int) error {
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

// executable returns an error if the program is missing or may not be executed
// by who it is to run as, nil for ourselves.
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
			return nil // its mode means nothing
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
