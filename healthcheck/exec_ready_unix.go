//go:build unix

package healthcheck

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"syscall"
)

// Ready reports what Check would find in the way before it runs anything: a user
// that is unknown, a program that is missing, is a directory, may not be executed
// by who would run it or is refused, a missing working directory. The error
// matches [ErrCannotRun], and names the command that mends it where there is
// one. Check looks again each time: the program may come and go.
func (c Exec) Ready() error {
	if _, err := c.ready(); err != nil {
		return fail("exec", c.Path, err)
	}
	return nil
}

// ready returns who the program is to run as, nil for ourselves.
func (c Exec) ready() (*syscall.Credential, error) {
	credential, err := lookupCredential(c.User)
	if err != nil {
		return nil, fmt.Errorf("%w: user %s: %w", ErrCannotRun, c.User, err)
	}
	uid := os.Geteuid()
	if credential != nil {
		uid = int(credential.Uid)
	}
	if uid == 0 {
		if err := rootOnly(c.Path); err != nil {
			return nil, fmt.Errorf("%w: as root: %w", ErrCannotRun, err)
		}
	}
	if err := executable(c.Path, credential); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCannotRun, err)
	}
	if info, err := os.Stat(c.dir()); err != nil {
		return nil, fmt.Errorf("%w: working directory: %w", ErrCannotRun, err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("%w: working directory: %s is no directory", ErrCannotRun, c.Dir)
	}
	return credential, nil
}

// executable returns an error if the program is missing or may not be executed
// by who it is to run as, nil for ourselves.
func executable(path string, credential *syscall.Credential) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	switch mode := info.Mode(); {
	case mode.IsDir():
		return fmt.Errorf("%s is a directory", path)
	case mode.Perm()&0o111 == 0:
		return fmt.Errorf("%s is not executable (mode %v): chmod +x %s", path, mode, path)
	case credential == nil:
		_, err := exec.LookPath(path)
		return err
	case !mayExecute(info, credential):
		return fmt.Errorf("%s is not executable by user %d (mode %v)", path, credential.Uid, mode)
	}
	return nil
}

// mayExecute reports whether the mode of a file lets somebody else execute it.
func mayExecute(info fs.FileInfo, as *syscall.Credential) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	bit := fs.FileMode(0o001)
	switch {
	case !ok || as.Uid == 0:
		return true
	case stat.Uid == as.Uid:
		bit = 0o100
	case stat.Gid == as.Gid || slices.Contains(as.Groups, stat.Gid):
		bit = 0o010
	}
	return info.Mode()&bit != 0
}
