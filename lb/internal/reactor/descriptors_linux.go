package reactor

import (
	"math"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Planes leave the last descriptors of a process to whatever else it does: a flood of
// clients must not make health checks fail, and VRRP with them. The kernel gives the
// lowest number that is free, so the number of a new descriptor says how many are in use
// at least, by whomever. Accepting stops before connecting does, since what was accepted
// needs a backend.

var (
	// limit is RLIMIT_NOFILE as of the last look; 0: there was none.
	limit atomic.Int32
	// crowded says that the last descriptor which was accepted was one of the last.
	crowded atomic.Bool
)

// MaxDescriptors looks how many descriptors this process may have. Go has raised the limit
// as far as it may when the program begins (package os); others may change it later.
func MaxDescriptors() int32 {
	n := int32(1024)
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err == nil {
		n = int32(min(l.Cur, 1<<30))
	}
	limit.Store(n)
	return n
}

// Reserve is how many of a number of descriptors are left by connecting; accepting leaves
// twice as many.
func Reserve(n int32) int32 { return min(n/8, 8192) }

// isLast reports whether fd is one of the last, of as many reserves. It looks at the limit
// anew before it says so.
func isLast(fd, reserves int32) bool {
	last := func(n int32) bool { return fd >= n-reserves*Reserve(n) }
	known := limit.Load()
	return (known == 0 || last(known)) && last(MaxDescriptors())
}

// noDescriptor stands for one that the kernel has refused.
const noDescriptor = math.MaxInt32

// Reserved reports whether fd is one of the last, to be closed again.
func Reserved(fd int32) bool { return isLast(fd, 1) }

// NoteAccepted tells Crowded of a descriptor that was accepted, by whichever plane, or that
// there was none: EMFILE.
func NoteAccepted(fd int32, errno unix.Errno) {
	if errno == unix.EMFILE {
		fd = noDescriptor
	} else if errno != 0 {
		return
	}
	if isLast(fd, 2) {
		crowded.Store(true)
	}
}

// Crowded reports whether the next connection would be one too many. That takes system
// calls only after one of the last descriptors was accepted.
func Crowded() bool {
	if !crowded.Load() {
		return false
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err == nil {
		unix.Close(fd)
	} else {
		fd = noDescriptor
	}
	if isLast(int32(fd), 2) {
		return true
	}
	crowded.Store(false)
	return false
}
