package daemon

import (
	"context"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/process"
	"github.com/havip/havip/internal/retry"
)

// reapOrphans collects orphans until ctx ends, if this is the system's first
// process, as in a container without an init. Otherwise orphans would fill the table
// of processes.
func reapOrphans(ctx context.Context, log *slog.Logger) error {
	if os.Getpid() != 1 {
		return nil
	}
	var r reaper
	for retry.Pause(ctx, reapInterval) {
		reaped := 0
		for _, pid := range r.look(endedChildren()) {
			if got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); err == nil && got == pid {
				reaped++
			}
		}
		if reaped > 0 {
			log.Debug("collected what programs have left behind and has ended", "processes", reaped)
		}
	}
	return nil
}

// endedChildren are the children of this process that have ended and have not been
// collected. Without /proc none is found.
func endedChildren() (ended []endedChild) {
	pids, _ := process.PIDs()
	for _, pid := range pids {
		if st, err := process.StatOf(pid); err == nil && st.Ended() && st.Parent == os.Getpid() {
			ended = append(ended, endedChild{pid, st.Start})
		}
	}
	return ended
}
