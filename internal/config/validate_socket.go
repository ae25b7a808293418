package config

import (
	"fmt"
	"strings"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/lb"
)

// maxSocketPath is how long the path of a Unix socket may be (unix(7), less the NUL).
const maxSocketPath = 107

// isSocket reports whether a backend listens on a Unix socket.
func isSocket(b lb.Backend) bool { return strings.HasPrefix(b.Address, "unix:") }

// validateSockets checks what cannot be done with backends on Unix sockets.
func (d *decoder) validateSockets(s *Service, path string) {
	d.validateSocketsOf(s, s.Pool.Backends, s.BackendTLS, s.Check, path)
	for i, r := range s.Routes {
		d.validateSocketsOf(s, r.Backends, s.BackendTLSOf(r), r.Check, fmt.Sprintf("%s.routes[%d]", path, i))
	}
}

// validateSocketsOf checks the backends of a service or route, which are reached by t and checked
// by check.
func (d *decoder) validateSocketsOf(s *Service, backends []lb.Backend, t *TLS, check *Check, path string) {
	for i, b := range backends {
		if !isSocket(b) {
			continue
		}
		if s.Mode == "udp" {
			d.fail(fmt.Sprintf("%s.backends[%d]", path, i), "%s: mode udp does not use this: want host:port", b.Address)
			return
		}
		if t != nil && t.ServerName == "" && !t.Insecure {
			d.fail(fmt.Sprintf("%s.backends[%d]", path, i), "%s: has no name that its certificate could be for: add server_name under backend_tls", b.Address)
		}
		d.validateSocketCheck(check, b.Address, path+".check")
		return // what is wrong with one is wrong with all
	}
}

// validateSocketCheck reports a check that cannot probe a backend on a Unix socket.
func (d *decoder) validateSocketCheck(c *Check, address, path string) {
	if c == nil || c.Checker == nil {
		return
	}
	switch c.Checker.(type) {
	case *healthcheck.TCP, *healthcheck.HTTP, *healthcheck.GRPC, *healthcheck.SMTP, *healthcheck.TLS:
	default:
		d.fail(path, "type %s cannot probe %s: want tcp, http, grpc, smtp or tls", c.Type, address)
		return
	}
	_, secure := c.Checker.(*healthcheck.TLS)
	if t := c.TLS; secure && t == nil || t != nil && t.ServerName == "" && !t.Insecure {
		d.fail(path, "%s has no name that its certificate could be for: add server_name under tls", address)
	}
}
