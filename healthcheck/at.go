package healthcheck

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/havip/havip/internal/field"
)

// At is a [Checker] that probes a name at one of its addresses. Checker, one of this
// package, connects to Address, whatever its own host resolves to, but speaks of that
// host: in the Host header, and as the name that TLS asks for and verifies. So each
// address of a name can have a check of its own, while a check of the name alone is
// content with any of its addresses.
type At struct {
	// Checker has the name. Required.
	Checker Checker
	// Address is "host:port" or "[v6]:port", or unix: and a path for checks over TCP. ICMP
	// ignores the port. Required.
	Address string
}

type atKey struct{} // of the Address, in the context of a probe

// WithDefaults returns c: there are none.
func (c At) WithDefaults() At { return c }

// Validate reports an address that cannot be dialled, and what is wrong with the Checker.
func (c At) Validate() error {
	if path, ok := strings.CutPrefix(c.Address, "unix:"); ok {
		return errors.Join(field.If(path == "", "Address", "%q: want a path after unix:", c.Address), validateInner(c.Checker))
	}
	return errors.Join(validateAddress("Address", c.Address), validateInner(c.Checker))
}

// validateInner reports what is wrong with the Checker of a Checker.
func validateInner(c Checker) error {
	if c == nil {
		return field.Errorf("Checker", "want a Checker")
	}
	if v, ok := c.(interface{ Validate() error }); ok {
		return field.In("Checker", v.Validate())
	}
	return nil
}

// Check has the Checker probe the address.
func (c At) Check(ctx context.Context) error {
	if err := c.Checker.Check(context.WithValue(ctx, atKey{}, c.Address)); err != nil {
		return fmt.Errorf("%w, at %s", err, c.Address)
	}
	return nil
}

// String names the check in log lines.
func (c At) String() string { return fmt.Sprintf("%v at %s", c.Checker, c.Address) }
