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

// WithDefaults returns c: no field has a default.
func (c Interface) WithDefaults() Interface { return c }

// Validate reports what cannot be an interface's name.
func (c Interface) Validate() error { return validateInterface("Name", c.Name) }

// Check looks at the interface.
func (c Interface) Check(context.Context) error { return fail(c, c.probe()) }

func (c Interface) probe() error {
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
