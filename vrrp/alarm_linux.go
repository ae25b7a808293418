package vrrp

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// alarm tells when a socket becomes readable, but only while it is armed. It is
// an epoll instance that holds the socket, and is itself what Go's poller
// waits for: a socket that is there directly wakes the poller with each packet,
// even while its reader prefers to let some more come in. At 25,000 packets a
// second these wake-ups cost more than everything else.
type alarm struct {
	file  *os.File
	raw   syscall.RawConn
	armed bool

	// They turn it on and off, and are for RawConn.Control; made once.
	set, clear func(socket uintptr)
}

// newAlarm makes an alarm for a socket. It has not gone off, and will not
// before set is called.
func newAlarm(socket int) (*alarm, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, socket, &unix.EpollEvent{}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	// Only descriptors that do not block are put into Go's poller.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("O_NONBLOCK", err)
	}
	a := &alarm{file: os.NewFile(uintptr(fd), "epoll")}
	if a.raw, err = a.file.SyscallConn(); err != nil {
		a.file.Close()
		return nil, err
	}
	on, off := unix.EpollEvent{Events: unix.EPOLLIN}, unix.EpollEvent{}
	a.set = func(socket uintptr) {
		if !a.armed {
			// It goes off at once if the socket is readable already.
			a.armed = unix.EpollCtl(fd, unix.EPOLL_CTL_MOD, int(socket), &on) == nil
		}
	}
	a.clear = func(socket uintptr) {
		if a.armed {
			a.armed = unix.EpollCtl(fd, unix.EPOLL_CTL_MOD, int(socket), &off) != nil
		}
	}
	return a, nil
}
