package lb

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/lb/internal/reactor"
)

// Goroutines leave the last descriptors to the rest of the process as the event loops do.

// noteAccepted tells what accepting has led to.
func noteAccepted(c net.Conn, err error) {
	if err != nil {
		if errors.Is(err, syscall.EMFILE) {
			reactor.NoteAccepted(-1, unix.EMFILE)
		}
		return
	}
	if raw, err := rawConn(c); err == nil {
		_ = raw.Control(func(fd uintptr) { reactor.NoteAccepted(int32(fd), 0) })
	}
}

// crowdedError is why the next connection would be one too many; nil: it would not.
func crowdedError() error {
	if !reactor.Crowded() {
		return nil
	}
	return explain(syscall.EMFILE)
}

// leaveReserve keeps a new socket from being one of the last descriptors.
func leaveReserve(c syscall.RawConn) (err error) {
	cerr := c.Control(func(fd uintptr) {
		if reactor.Reserved(int32(fd)) {
			err = explain(syscall.EMFILE)
		}
	})
	return errors.Join(cerr, err)
}

// explain says of a want of descriptors what the kernel does not: how many there are for
// planes.
func explain(err error) error {
	if !errors.Is(err, syscall.EMFILE) {
		return err
	}
	n := reactor.MaxDescriptors()
	r := reactor.Reserve(n)
	return fmt.Errorf("%w: of %d (RLIMIT_NOFILE) connecting leaves the last %d to the rest of the process, accepting %d", err, n, r, 2*r)
}
