//go:build unix

package healthcheck

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// trust returns an error if anyone but root and the user uid, which may be root
// as well, could change what path leads to: whoever may write a directory or
// owns a link on the way decides that.
func trust(path string, uid uint32) error {
	trusted := func(owner uint32) bool {
		return owner == 0 || owner == uid || owner == overflowID && soleUser()
	}
	return walk(path, func(step string, info fs.FileInfo) error {
		a, err := aclOf(step, info)
		if err != nil {
			return err
		}
		mode := info.Mode()
		if !trusted(a.owner) {
			if uid != 0 {
				return fmt.Errorf("refused: %s belongs neither to root nor to user %d: %s", step, uid, remedy(mode, "chown root: ", step))
			}
			return fmt.Errorf("refused: %s does not belong to root: %s", step, remedy(mode, "chown root: ", step))
		}
		// A link's mode means nothing, and its directory was looked at. In a
		// sticky directory others cannot replace what is not theirs.
		if mode&fs.ModeSymlink != 0 || mode.IsDir() && mode&fs.ModeSticky != 0 {
			return nil
		}
		switch who := a.writers(trusted); who {
		case "":
			return nil
		case "others":
			return fmt.Errorf("refused: %s is writable by others (mode %v): %s", step, mode, remedy(mode, "chmod go-w ", step))
		default:
			return fmt.Errorf("refused: %s is writable by %s: %s", step, who, remedy(mode, "setfacl -b ", step))
		}
	})
}

// remedy is what to do about a step that others could change. A directory may be
// theirs for a good reason.
func remedy(mode fs.FileMode, command, path string) string {
	switch {
	case mode.IsDir():
		return "move the program elsewhere, or " + command + path
	case mode&fs.ModeSymlink != 0:
		return strings.Replace(command, "chown ", "chown -h ", 1) + path
	}
	return command + path
}

// walk calls look for every step on the way that path leads: directories,
// symbolic links, and the end.
func walk(path string, look func(step string, info fs.FileInfo) error) error {
	const maxLinks = 40 // as the kernel
	links := 0
	done := "/"
	rest := append([]string{"."}, strings.Split(filepath.Clean(path), "/")...) // the root first
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		if name == "" || name == "." && done != "/" {
			continue
		}
		if name == ".." {
			done = filepath.Dir(done)
			continue
		}
		here := filepath.Join(done, name)
		info, err := os.Lstat(here)
		if err != nil {
			return err
		}
		if err := look(here, info); err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			done = here
			continue
		}
		target, err := os.Readlink(here)
		if err != nil {
			return err
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

// aclOf returns who may do what with what is at path.
func aclOf(path string, info fs.FileInfo) (acl, error) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return acl{}, fmt.Errorf("%s: owner unknown", path)
	}
	a := acl{owner: stat.Uid, group: stat.Gid}
	if info.Mode()&fs.ModeSymlink == 0 { // a link has none
		var err error
		if a.entries, err = readACL(path); err != nil {
			return acl{}, fmt.Errorf("%s: %w", path, err)
		}
	}
	if a.entries == nil {
		a.entries = modeACL(info.Mode())
	}
	return a, nil
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
