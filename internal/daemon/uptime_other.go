//go:build !linux

package daemon

import "time"

// uptime is not known on this system: 0, as if the host had just been booted.
func uptime() time.Duration { return 0 }
