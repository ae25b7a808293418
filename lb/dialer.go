package lb

import (
	"context"
	"crypto/tls"
	"net"
	"time"
)

// DialFunc connects to an address, as net.Dialer's DialContext does. network is
// "tcp" or "unix".
type DialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// dialer connects to backends.
type dialer struct {
	timeout time.Duration // of a connection, and of its TLS handshake
	tls     *tls.Config   // nil: no TLS
	dial    DialFunc      // nil: a net.Dialer
}

// connect connects to a picked backend.
func (d *dialer) connect(ctx context.Context, pick Pick) (net.Conn, error) {
	dial := d.dial
	if dial == nil {
		dial = (&net.Dialer{KeepAlive: -1}).DialContext
	}
	limited, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	network, address := network(pick.Address())
	c, err := dial(limited, network, address)
	if err != nil || d.tls == nil {
		return c, err
	}
	client := tls.Client(c, d.tlsFor(pick))
	if err := handshake(ctx, client, d.timeout); err != nil {
		c.Close()
		return nil, err
	}
	return client, nil
}

// tlsFor is the configuration of TLS towards a picked backend. By default the host
// of the address is verified as it was configured, not what it was resolved to.
func (d *dialer) tlsFor(pick Pick) *tls.Config {
	if d.tls.ServerName != "" {
		return d.tls
	}
	cfg := d.tls.Clone()
	if host, _, err := net.SplitHostPort(pick.member.Address); err == nil {
		cfg.ServerName = host
	}
	return cfg
}
