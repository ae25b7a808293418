package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/retry"
)

// rescan is for how long a thread that the Go runtime has just made may run with an
// ordinary priority.
const rescan = time.Second

// Realtime gives all threads of this process a real-time priority, 1 to 99
// (SCHED_RR, sched(7)), until ctx ends: other work on the host then delays no
// advertisement, which matters at intervals of some ten milliseconds. Programs
// that this process starts have an ordinary priority. The error says if the priority
// is not permitted.
func Realtime(ctx context.Context, priority int) error {
	if err := raiseThreads(priority); err != nil {
		return fmt.Errorf("real-time priority %d: %w: it needs root or CAP_SYS_NICE", priority, err)
	}
	go func() {
		for retry.Pause(ctx, rescan) {
			_ = raiseThreads(priority) // it was permitted before
		}
	}()
	return nil
}

func raiseThreads(priority int) error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	attr := unix.SchedAttr{
		Size:     unix.SizeofSchedAttr,
		Policy:   unix.SCHED_RR,
		Flags:    unix.SCHED_FLAG_RESET_ON_FORK, // for threads as well: hence the rescan
		Priority: uint32(priority),
	}
	for _, t := range threads {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if err := unix.SchedSetAttr(tid, &attr, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}
