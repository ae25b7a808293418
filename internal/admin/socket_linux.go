package admin

import (
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

func flock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }
