package healthcheck

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/internal/inet"
	"github.com/havip/havip/internal/proxyproto"
)

// Proxied is a [Checker] of a server whose connections begin with a PROXY header, as those
// of a load balancer do: one that accepts no others takes a check without it for an error.
// The header comes ahead of TLS, and says that the connection is the checker's own. UDP, ICMP
// and what does not connect are as without Proxied.
type Proxied struct {
	// Checker is one of this package. Required.
	Checker Checker
	// Version of the header, 1 or 2. Default 2.
	Version int
}

type proxyKey struct{} // of the Version, in the context of a probe

// WithDefaults returns c with its Version.
func (c Proxied) WithDefaults() Proxied {
	c.Version = cmp.Or(c.Version, 2)
	return c
}

// Validate reports a version that does not exist, and what is wrong with the Checker.
func (c Proxied) Validate() error {
	return errors.Join(validateInner(c.Checker), field.Between("Version", c.WithDefaults().Version, 1, 2))
}

// Check has the Checker make its probe.
func (c Proxied) Check(ctx context.Context) error {
	return c.Checker.Check(context.WithValue(ctx, proxyKey{}, c.WithDefaults().Version))
}

// String names the check in log lines.
func (c Proxied) String() string { return fmt.Sprintf("%v with a PROXY header", c.Checker) }

// sendProxyHeader begins a connection with the header that ctx asks for, if it does. Version 2
// has a command for connections of the sender's own, LOCAL. Not everybody takes UNKNOWN for
// that, so version 1 has the addresses of the connection.
func sendProxyHeader(ctx context.Context, conn net.Conn) error {
	version, ok := ctx.Value(proxyKey{}).(int)
	if !ok {
		return nil
	}
	var from, to netip.AddrPort
	if version == 1 {
		from, to = inet.AddrPort(conn.LocalAddr()), inet.AddrPort(conn.RemoteAddr())
	}
	_, err := conn.Write(proxyproto.Append(nil, version, from, to))
	return err
}
