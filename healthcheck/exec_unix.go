//go:build unix

package healthcheck

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Check runs the program and waits for it.
func (c Exec) Check(ctx context.Context) error {
	if err := c.check(ctx); err != nil {
		return fail("exec", c.Path, err)
	}
	return nil
}

func (c Exec) check(ctx context.Context) error {
	credential, err := c.ready()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, c.Path, c.Args...)
	cmd.Dir = c.dir()
	cmd.Env = append([]string{defaultPath}, c.Env...)
	output, pipe, err := capture(credential)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCannotRun, err)
	}
	cmd.Stdout, cmd.Stderr = pipe, pipe
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: credential}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	err = cmd.Start()
	pipe.Close()
	if ctx.Err() != nil && cmd.Process == nil {
		return cause(ctx.Err()) // its time was up before it began
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCannotRun, err)
	}
	err = cmd.Wait()
	if state := cmd.ProcessState; state != nil {
		// How it ended counts, not whether its time is up by now.
		status, _ := state.Sys().(syscall.WaitStatus)
		switch {
		case state.Success():
			return nil
		case ctx.Err() != nil && status.Signal() == syscall.SIGKILL:
			err = fmt.Errorf("killed: %w", cause(ctx.Err()))
		}
	}
	if text := output.text(); len(text) > 0 {
		return fmt.Errorf("%w: %s", err, excerpt(text))
	}
	return err
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
		if u, err = user.LookupId(name); err != nil {
			// A number needs no entry in the user database, but then a group.
			if _, numErr := strconv.ParseUint(name, 10, 32); numErr != nil || !hasGroup {
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
		return c, nil // just this group
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

// rootOnly returns an error if anyone but root could change what path leads
// to. It looks at every step of the way: whoever may write a directory or
// owns a link there decides where the path leads.
func rootOnly(path string) error {
	const maxLinks = 40 // as the kernel
	links := 0
	done := "/"
	rest := strings.Split(filepath.Clean(path), "/")
	if err := rootOwned("/"); err != nil {
		return err
	}
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		if name == "" || name == "." {
			continue
		}
		if name == ".." {
			done = filepath.Dir(done)
			continue
		}
		here := filepath.Join(done, name)
		if err := rootOwned(here); err != nil {
			return err
		}
		target, err := os.Readlink(here)
		if err != nil { // not a link
			done = here
			continue
		}
		if links++; links > maxLinks {
			return &fs.PathError{Op: "open", Path: path, Err: syscall.ELOOP}
		}
		if filepath.IsAbs(target) {
			done = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return nil
}

// rootOwned checks one step: root owns it and nobody else may write it.
func rootOwned(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: owner unknown", path)
	}
	if stat.Uid != 0 && (stat.Uid != overflowID || !soleUser()) {
		return fmt.Errorf("refused: %s does not belong to root: %s", path, remedy(info, "chown root: ", path))
	}
	mode := info.Mode()
	if mode&fs.ModeSymlink != 0 {
		return nil // its mode means nothing, its directory was looked at
	}
	others := mode.Perm() & 0o002
	if stat.Gid != 0 {
		others = mode.Perm() & 0o022
	}
	// In a sticky directory others cannot replace what root owns.
	if others != 0 && (!mode.IsDir() || mode&fs.ModeSticky == 0) {
		return fmt.Errorf("refused: %s is writable by others (mode %v): %s", path, mode, remedy(info, "chmod go-w ", path))
	}
	return nil
}

// remedy is what to do about a step that others could change. A directory may be
// theirs for a good reason.
func remedy(info fs.FileInfo, command, path string) string {
	if info.IsDir() {
		return "move the program elsewhere, or " + command + path
	}
	return command + path
}

// overflowID is the owner shown for a user without a number in this user
// namespace (/proc/sys/kernel/overflowuid).
const overflowID = 65534

// soleUser reports whether this process is in a user namespace that knows one
// user only. Root there is an ordinary user of the machine under another name,
// and what belongs to anybody else, the machine's root included, shows
// overflowID: it runs what others own as that user does anyway. Where there
// are more users, root's programs are root's.
var soleUser = sync.OnceValue(func() bool {
	uidMap, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && mapsOne(string(uidMap))
})

// mapsOne reports whether a uid_map (user_namespaces(7)) has one user only.
func mapsOne(uidMap string) bool {
	fields := strings.Fields(uidMap)
	return len(fields) == 3 && fields[2] == "1"
}
