package reactor

import (
	"sync"

	"golang.org/x/sys/unix"
)

// Planes leave the last descriptors of a process to whatever else it does: a flood of
// clients must not make health checks fail, and VRRP with them. The kernel gives the
// lowest number that is free, so the number of a new descriptor says how many are in use,
// by whomever. Accepting stops before connecting does, since what was accepted needs a
// backend.

// MaxDescriptors is how many descriptors this process may have (RLIMIT_NOFILE), as of the
// first call. Go has raised the limit as far as it may by then (package os).
var MaxDescriptors = sync.OnceValue(func() int32 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return int32(min(limit.Cur, 1<<30))
})

// reserve is how many are left, and how many more by accepting.
func reserve() int32 { return min(MaxDescriptors()/8, 8192) }

// Reserved reports whether fd is one of the last, to be closed again.
func Reserved(fd int32) bool { return fd >= MaxDescriptors()-reserve() }

// LastAccepted reports whether no connection should be accepted after that of fd, until
// there is room again.
func LastAccepted(fd int32) bool { return fd >= MaxDescriptors()-2*reserve() }

// Crowded reports whether the next connection would be one too many.
func Crowded() bool {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return true
	}
	unix.Close(fd)
	return LastAccepted(int32(fd))
}
