package admin

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// ownerOnly has bind(2) make the socket's file with mode 0600: Linux takes the mode of the
// socket itself, less the umask. So there is no moment in which others could open it.
func ownerOnly(_, _ string, c syscall.RawConn) error {
	var err error
	if failed := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }); failed != nil {
		return failed
	}
	return err
}

// setAccess sets the group, unless it is -1, and the mode of a socket's file. It never goes
// by a link: whoever can write to the folder could lead it to a file of root's. Whoever has
// opened the file finds that very one below /proc.
func setAccess(path string, group int, mode uint32) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer func() { _ = unix.Close(fd) }()
	var s unix.Stat_t
	switch err := unix.Fstat(fd, &s); {
	case err != nil:
		return &fs.PathError{Op: "stat", Path: path, Err: err}
	case s.Mode&unix.S_IFMT != unix.S_IFSOCK:
		return fmt.Errorf("%s: is no socket any more", path)
	}
	if group >= 0 {
		if err := unix.Fchownat(fd, "", -1, group, unix.AT_EMPTY_PATH); err != nil {
			return &fs.PathError{Op: "chown", Path: path, Err: err}
		}
	}
	if err := unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), mode); err != nil {
		return &fs.PathError{Op: "chmod", Path: path, Err: err}
	}
	return nil
}

// names is how many names a file has.
func names(info fs.FileInfo) uint64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(s.Nlink)
	}
	return 1
}

// peer is who is at the other end of a Unix socket.
type peer struct {
	known    bool
	uid, pid int
}

// peerOf asks the kernel. Who was there when the connection was made counts.
func peerOf(c net.Conn) (p peer) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return p
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return p
	}
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			p = peer{true, int(cred.Uid), int(cred.Pid)}
		}
	})
	return p
}

// isGone reports whether the other end of a connection has closed it, whatever is still
// to be read. The HTTP server notices that, too, but only while the handler is at work.
func isGone(c net.Conn) bool {
	s, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return false
	}
	gone := false
	_ = raw.Control(func(fd uintptr) {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(poll, 0)
		gone = err == nil && n > 0 && poll[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
	})
	return gone
}

func flock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }
