package lb

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/havip/havip/internal/retry"
)

// isTransient reports whether accepting may work again later.
func isTransient(err error) bool {
	return starved(err) || isAny(err, syscall.ECONNABORTED, syscall.EINTR, syscall.EPROTO)
}

// starved reports whether something failed because this host is out of descriptors,
// memory or, ENOSPC, places in epoll instances. It goes away when other connections end.
func starved(err error) bool {
	return isAny(err, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ENOSPC)
}

func isAny(err error, errnos ...syscall.Errno) bool {
	return slices.ContainsFunc(errnos, func(e syscall.Errno) bool { return errors.Is(err, e) })
}

// Errors of an attempt to connect that was given up: because of the backend, or
// together with the connection.
var (
	errDown = errors.New("down or removed while connecting")
	errCut  = errors.New("cut")
)

// blame is how a failed attempt to connect counts: not against the backend if it
// failed for want of something on this side, or was given up.
func blame(err error) Result {
	if starved(err) || isAny(err, syscall.EADDRNOTAVAIL) || errors.Is(err, errDown) {
		return Neutral
	}
	return Failure
}

// starvedFor is how long a connection, or accepting, waits for descriptors or
// memory before it tries again.
const starvedFor = 50 * time.Millisecond

// starve waits for what this host is out of; false if ctx ended first.
func (c *counters) starve(ctx context.Context) bool {
	c.starved.Add(1)
	defer c.starved.Add(-1)
	return retry.Pause(ctx, starvedFor)
}
