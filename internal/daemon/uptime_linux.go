package daemon

import (
	"time"

	"golang.org/x/sys/unix"
)

// uptime is the time since the host was booted, suspended or not; in a container, too,
// it is the host's. 0: not known.
func uptime() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
