//go:build !linux

package admin

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// ownerOnly: only Linux lets the socket say the mode of its file before it is there.
func ownerOnly(_, _ string, _ syscall.RawConn) error {
	return errors.New("only Linux has a socket that is closed to others from the beginning")
}

func setAccess(string, int, uint32) error { return errors.ErrUnsupported }

func names(fs.FileInfo) uint64 { return 1 }

// peer is who is at the other end of a Unix socket.
type peer struct {
	known    bool
	uid, pid int
}

func peerOf(net.Conn) peer { return peer{} }

// isGone: nothing here tells.
func isGone(net.Conn) bool { return false }

func flock(*os.File) error { return errors.ErrUnsupported }
