package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/havip/havip/internal/config"
)

// socketDoor is the Unix socket. Beside it is a file whose lock says who has it: of two
// daemons that start at the same time one gets the socket, and a stale socket, which
// nobody answers on, is replaced by who has the lock.
type socketDoor struct{ s *Server }

func (socketDoor) name() string { return "socket" }

func (socketDoor) want(set *settings) place {
	path := set.SocketPath()
	if path == "" {
		return place{}
	}
	return place{path, set.Group}
}

// complain: a havip of an ordinary user lacks the default socket without harm.
func (socketDoor) complain(set *settings) slog.Level {
	if set.Socket == "" && os.Geteuid() != 0 {
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

func (d socketDoor) open(ctx context.Context, at place, old *gate) (*listener, error) {
	if !filepath.IsAbs(at.address) || len(at.address) > config.MaxSocketPath {
		return nil, fmt.Errorf("want an absolute path of at most %d bytes", config.MaxSocketPath)
	}
	if old != nil && old.at.address == at.address {
		old.l.close() // somebody has removed the socket: who has the lock makes it anew
	}
	if err := makeFolder(filepath.Dir(at.address)); err != nil {
		return nil, err
	}
	lock, err := lockFile(at.address + ".lock")
	if err != nil {
		return nil, err
	}
	l, err := listenSocket(ctx, at.address)
	if err != nil {
		lock.release()
		return nil, err
	}
	d.regroup(at)
	own, _ := os.Lstat(at.address)
	mine := func() bool {
		there, err := os.Lstat(at.address)
		return err == nil && own != nil && os.SameFile(own, there)
	}
	return &listener{l, sync.OnceFunc(func() {
		if mine() {
			os.Remove(at.address)
		}
		l.Close()
		lock.release()
	}), func() bool { return !mine() }}, nil
}

// regroup: a socket that the group cannot open is its owner's alone, and not still that of
// the group of before.
func (d socketDoor) regroup(at place) {
	if err := openToGroup(at.address, at.group); err != nil {
		_ = openToGroup(at.address, "")
		d.s.log.Warn("admin: the group cannot open the socket", "socket", at.address, "group", at.group, "err", err)
	}
}

// makeFolder makes the folder of the socket if it is not there.
func makeFolder(dir string) error {
	switch _, err := os.Stat(dir); {
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return advise(err)
	}
	return os.Chmod(dir, 0o755) // whatever the umask is: the socket's mode decides
}

// advise says what to do where this user may not have the socket.
func advise(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: make the folder as root and give it to this user, or set admin.socket, or HAVIP_SOCKET, to another path, or to off", err)
	}
	return err
}

// errInUse: another process answers.
type errInUse struct{ pid int }

func (e errInUse) Error() string {
	if e.pid == 0 {
		return "another havip has it: give each its own admin.socket"
	}
	return fmt.Sprintf("process %d has it: give each havip its own admin.socket", e.pid)
}

// listenSocket opens the socket. Whoever calls it has the lock.
func listenSocket(ctx context.Context, path string) (*net.UnixListener, error) {
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, errors.New("there is something else than a socket: remove it, or set admin.socket to another path")
	default:
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", path)
		if err == nil {
			defer c.Close()
			return nil, errInUse{peerOf(c).pid}
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, fmt.Errorf("the socket that is there: %w", err)
		}
		if err := os.Remove(path); err != nil { // stale
			return nil, advise(err)
		}
	}
	l, err := (&net.ListenConfig{Control: ownerOnly}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, advise(err)
	}
	u := l.(*net.UnixListener)
	u.SetUnlinkOnClose(false) // another's may be there by then
	return u, nil
}

// openToGroup lets the members of a group open the socket, beside its owner.
func openToGroup(path, group string) error {
	if group == "" {
		return setAccess(path, -1, 0o600)
	}
	id, err := strconv.Atoi(group)
	if err != nil {
		g, err := user.LookupGroup(group)
		if err != nil {
			return fmt.Errorf("no such group: groupadd --system %s", group)
		}
		if id, err = strconv.Atoi(g.Gid); err != nil {
			return err
		}
	}
	return setAccess(path, id, 0o660)
}

// heldLock is a file that this process has locked.
type heldLock struct{ *os.File }

// lockFile makes and locks a file. It is locked as long as the process lives. A file that
// no havip has made is left alone: a socket /srv/flake does not cost anybody a flake.lock.
func lockFile(path string) (heldLock, error) {
	for range 10 {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
		if err != nil {
			return heldLock{}, advise(err)
		}
		if err := flock(f); err != nil {
			text := make([]byte, maxLock)
			n, _ := f.Read(text)
			f.Close()
			if errors.Is(err, syscall.EWOULDBLOCK) {
				pid, _ := strconv.Atoi(strings.TrimSpace(string(text[:n])))
				return heldLock{}, errInUse{pid}
			}
			return heldLock{}, fmt.Errorf("%s: %w", path, err)
		}
		if l := (heldLock{f}); l.isThere() { // whoever had it may have removed it just before
			if !l.isOurs() {
				f.Close()
				return heldLock{}, fmt.Errorf("%s: is no lock of havip: move it away, or set admin.socket to another path", path)
			}
			_ = f.Truncate(0) // the number is for a message only
			fmt.Fprintln(f, os.Getpid())
			return l, nil
		}
		f.Close()
	}
	return heldLock{}, fmt.Errorf("%s: comes and goes", path)
}

// isOurs reports whether a havip may have made the file: it has nothing but the number of
// a process in it, and no other name.
func (l heldLock) isOurs() bool {
	info, err := l.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxLock || names(info) > 1 {
		return false
	}
	text := make([]byte, maxLock)
	n, _ := l.ReadAt(text, 0)
	return strings.Trim(string(text[:n]), "0123456789\n") == ""
}

// maxLock is the largest size of a lock's file: the number of a process.
const maxLock = 20

// isThere reports whether the file still has its name.
func (l heldLock) isThere() bool {
	own, err := l.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(l.Name())
	return err == nil && os.SameFile(own, there)
}

// release removes the file, which only who has the lock may do, and unlocks it.
func (l heldLock) release() {
	if l.isThere() {
		os.Remove(l.Name())
	}
	l.Close()
}
