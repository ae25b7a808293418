//go:build unix

package healthcheck

import (
	"cmp"
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
	if os.Geteuid() == 0 || hasCapabilities() {
		return c.Ready()
	}
	credential, err := &syscall.Credential{}, error(nil) // root
	if c.User != "" {
		credential, err = c.lookupCredential()
	}
	if err == nil {
		err = c.checkReady(credential)
	}
	return fail(c, err)
}

// credentials returns the user that the program is to run as, nil for the user of this
// process.
func (c Exec) credentials() (*syscall.Credential, error) {
	credential, err := c.lookupCredential()
	if err == nil && credential != nil && !mayBecomeOthers() {
		err = fmt.Errorf("%w: user %s: to run a program as somebody else needs root, or CAP_SETUID, CAP_SETGID and CAP_KILL", ErrCannotRun, c.User)
	}
	if err != nil {
		return nil, err
	}
	return credential, c.checkReady(credential)
}

// checkReady returns why the program cannot run with credential, nil for that of this
// process.
func (c Exec) checkReady(credential *syscall.Credential) error {
	err := cmp.Or(checkTrust(c.Path, credential), executable(c.Path, credential), checkDirectory(c.WithDefaults().Dir))
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrCannotRun, err)
	}
	return err
}

// checkDirectory returns why a program cannot run in a directory.
func checkDirectory(dir string) error {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is no directory", dir)
	}
	if err != nil {
		return fmt.Errorf("working directory: %w", err)
	}
	return nil
}

// checkTrust applies the rule about who may change the program. A program that runs as
// another ordinary user is not subject to the rule: the configuration names its owner.
func checkTrust(path string, credential *syscall.Credential) error {
	uid, privileges := runsAs(credential), "as root"
	if uid != 0 {
		if int(uid) != os.Geteuid() || !hasCapabilities() {
			return nil
		}
		privileges = "with capabilities"
	}
	if err := trust(path, uid); err != nil {
		return fmt.Errorf("%s: %w", privileges, err)
	}
	return nil
}

// runsAs returns the user of a program with credential, nil for that of this process.
func runsAs(credential *syscall.Credential) uint32 {
	if credential == nil {
		return uint32(os.Geteuid())
	}
	return credential.Uid
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
		if err != nil || a.allows(as, mayExecute) {
			return err
		}
		use := "execute"
		if info.IsDir() {
			use = "search"
		}
		return fmt.Errorf("user %d may not %s %s (mode %v)", as.Uid, use, step, info.Mode())
	})
}
