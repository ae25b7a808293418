package healthcheck

import (
	"context"
	"errors"
	"net"
)

// Interface is a [Checker] that looks at a network interface: healthy while it
// exists, is up and has a carrier. On Linux it is also a [Watcher].
type Interface struct {
	// Name is the interface's name. Required.
	Name string
}

// String names the check in errors and log lines.
func (c Interface) String() string { return "interface " + c.Name }

// Validate reports a missing name.
func (c Interface) Validate() error {
	if c.Name == "" {
		return fail(c, errors.New("no name"))
	}
	return nil
}

// Check looks at the interface.
func (c Interface) Check(context.Context) error {
	if err := c.check(); err != nil {
		return fail(c, err)
	}
	return nil
}

func (c Interface) check() error {
	ifi, err := net.InterfaceByName(c.Name)
	switch {
	case err != nil:
		return err
	case ifi.Flags&net.FlagUp == 0:
		return errors.New("is down")
	case ifi.Flags&net.FlagRunning == 0:
		return errors.New("has no carrier")
	}
	return nil
}
