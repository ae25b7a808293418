//go:build !linux

package vip

import (
	"errors"
	"fmt"
)

// openKernel fails: addresses are managed through netlink.
func openKernel() (kernel, error) {
	return nil, fmt.Errorf("vip: needs Linux: %w", errors.ErrUnsupported)
}
