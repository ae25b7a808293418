package healthcheck

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

var _ Watcher = Interface{}

// Watch calls changed whenever the state of any link changes, as rtnetlink(7) reports. A
// look at the interface is cheaper than parsing which link changed.
func (c Interface) Watch(ctx context.Context, changed func()) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return fail(c, fmt.Errorf("netlink: %w", err))
	}
	f := os.NewFile(uintptr(fd), "netlink")
	defer f.Close()
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK}); err != nil {
		return fail(c, fmt.Errorf("netlink: %w", err))
	}
	defer bindDeadline(ctx, f)()
	changed() // what happened before the subscription
	buf := make([]byte, 8<<10)
	for {
		_, err := f.Read(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil, errors.Is(err, unix.ENOBUFS): // ENOBUFS: the kernel has dropped events
			changed()
		default:
			return fail(c, fmt.Errorf("netlink: %w", err))
		}
	}
}
