//go:build !linux

package vrrp

import (
	"errors"
	"fmt"
	"runtime"
)

func openNetwork(string, family) (network, error) {
	return nil, fmt.Errorf("raw VRRP sockets on %s: %w: only Linux has them, set ListenConfig.Open", runtime.GOOS, errors.ErrUnsupported)
}
