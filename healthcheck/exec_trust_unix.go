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

// trust returns an error if anyone but root and the user uid (which may be root) could
// change what path leads to. That depends on each directory and symbolic link on the
// way.
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
		// The mode of a symbolic link means nothing, and its directory was looked at
		// before. In a sticky directory nobody can replace another user's file.
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

// remedy says what to do about a step that others could change. A directory may be
// open to others for a good reason: then the program should be elsewhere.
func remedy(mode fs.FileMode, command, path string) string {
	switch {
	case mode.IsDir():
		return "move the program elsewhere, or " + command + path
	case mode&fs.ModeSymlink != 0:
		return strings.Replace(command, "chown ", "chown -h ", 1) + path
	}
	return command + path
}

// walk calls look for every step of path: directories, symbolic links, and the file at
// the end.
func walk(path string, look func(step string, info fs.FileInfo) error) error {
	const maxLinks = 40 // as the kernel
	links := 0
	done := "/"
	rest := strings.Split(filepath.Clean(path), "/") // the first is empty: it stands for the root
	for len(rest) > 0 {
		here := filepath.Join(done, rest[0]) // no link is left in done, so that Join may resolve ".."
		rest = rest[1:]
		info, err := os.Lstat(here)
		if err == nil {
			err = look(here, info)
		}
		if err != nil {
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

// aclOf returns the access control list of the file at path.
func aclOf(path string, info fs.FileInfo) (acl, error) {
	stat := info.Sys().(*syscall.Stat_t) // as every FileInfo of package os has it
	a := acl{owner: stat.Uid, group: stat.Gid}
	if info.Mode()&fs.ModeSymlink == 0 { // a symbolic link has no list
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

// soleUser reports whether this process is in a user namespace with one user only. Root
// of such a namespace is an ordinary user of the machine, and files of all other users,
// the machine's root included, show overflowID as their owner. An ordinary user may run
// programs that others own, and so may this root. In a namespace with more users the
// rule for root's programs applies.
var soleUser = sync.OnceValue(func() bool {
	uidMap, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && mapsOne(string(uidMap))
})

// mapsOne reports whether a uid_map (user_namespaces(7)) has one user only.
func mapsOne(uidMap string) bool {
	fields := strings.Fields(uidMap)
	return len(fields) == 3 && fields[2] == "1"
}
