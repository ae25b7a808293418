//go:build unix

package daemon

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// deviceAndInode returns what JOURNAL_STREAM has of a file; empty if nobody knows.
func deviceAndInode(f *os.File) string {
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}

// duplicate returns another listener on the same socket: closing the one leaves
// the other, and what waits to be accepted is not lost. The File method of a listener
// would not do: it makes the socket a blocking one for a moment, and an event loop that
// accepts just then stands still.
func duplicate(socket io.Closer) (net.Listener, error) {
	tcp, ok := socket.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("daemon: %T cannot be handed over", socket)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, err
	}
	copied := -1
	gone := raw.Control(func(fd uintptr) { copied, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	if err := errors.Join(gone, err); err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(copied), "")
	defer f.Close()
	return net.FileListener(f)
}
