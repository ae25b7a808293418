//go:build !linux

package monitor

import (
	"errors"
	"runtime"
)

// openCapture is for Linux only.
func openCapture([]string) (source, []string, error) {
	return nil, nil, errors.New("listening on an interface needs Linux, this is " + runtime.GOOS + ": record with tcpdump -w FILE 'proto 112 or proto 51 or arp or icmp6', and read with -r FILE")
}
