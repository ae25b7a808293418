package lb

import (
	"golang.org/x/sys/unix"
)

// peerState reports whether the peer of a connection has sent its end, whether the
// connection is broken, and how many bytes have come that nobody has read.
func peerState(c any) (ended, broken bool, unread int) {
	raw, err := rawConn(innermost(c))
	if err != nil {
		return false, false, 0
	}
	if raw.Control(func(fd uintptr) { ended, broken, unread = peerStateFD(int(fd)) }) != nil {
		return true, true, 0 // it is closed on this side
	}
	return ended, broken, unread
}

// peerStateFD is peerState for a descriptor.
func peerStateFD(fd int) (ended, broken bool, unread int) {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	if n, _ := unix.Poll(p, 0); n <= 0 {
		return false, false, 0
	}
	unread, _ = unix.IoctlGetInt(fd, unix.TIOCINQ)
	return p[0].Revents&unix.POLLRDHUP != 0, p[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0, unread
}

// isReadable reports whether a read of a connection would not wait.
func isReadable(c any) (readable bool) {
	raw, err := rawConn(innermost(c))
	if err != nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) {
		n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		readable = n > 0
	})
	return readable
}

// sendAtOnce sends a byte if that needs no waiting, and reports whether it was sent.
func sendAtOnce(c any, b byte) (sent bool) {
	raw, err := rawConn(innermost(c))
	if err != nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) {
		n, err := unix.SendmsgN(int(fd), []byte{b}, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		sent = n == 1 && err == nil
	})
	return sent
}

// lookAtClient gives up a link in the queue whose client has left.
func (k *link) lookAtClient() {
	if k.wait == nil || !k.half[0].ending {
		return
	}
	ended, broken, unread := peerStateFD(int(k.fd[0]))
	switch judge(ended, broken, unread > 0 || len(k.early) > 0) {
	case left:
		k.cfg.plane.counters.failed.Add(1)
		k.end(errLeft.Error())
	case unsure:
		k.wait.unsure.Store(true)
	}
}
