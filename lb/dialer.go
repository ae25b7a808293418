package lb

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"
	"time"

	"github.com/havip/havip/internal/inet"
	"github.com/havip/havip/internal/retry"
)

// dialer connects to backends.
type dialer struct {
	timeout time.Duration // of a connection, and of its TLS handshake
	tls     *tls.Config   // of backends without a TLS of their own; nil: no TLS
	http2   bool          // TLS is for HTTP/2
	// dial is HandlerConfig.Dial. nil: a net.Dialer's.
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// connect connects to a picked backend. With TLS the connection begins with greeting, a PROXY
// header or nil: who accepts both reads the header before the handshake, as HAProxy and nginx
// do. Without TLS the caller has more to send in the same write.
func (d *dialer) connect(ctx context.Context, pick Pick, greeting []byte) (net.Conn, error) {
	dial := d.dial
	if dial == nil {
		dial = dialBackend
	}
	limited, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	network, address := network(pick.Address())
	c, err := dial(limited, network, address)
	if c == nil && err == nil {
		err = errors.New("dial: no connection and no error")
	}
	if err == nil && inet.IsSelfConnected(c) {
		reset(c) // at once: the backend needs its port
		err = inet.ErrSelfConnected
	}
	if err != nil {
		return nil, err
	}
	c = &frankConn{Conn: c}
	cfg := d.tlsFor(pick)
	if cfg == nil {
		return c, nil
	}
	cfg = withServerName(cfg, pick.member.Backend)
	if d.http2 {
		cfg = withHTTP2(cfg)
	}
	client := tls.Client(&prefaced{Conn: c, greeting: greeting}, cfg)
	err = handshake(ctx, client, d.timeout)
	if err == nil && d.http2 && client.ConnectionState().NegotiatedProtocol != alpnHTTP2 {
		err = errNoHTTP2
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return client, nil
}

// dialBackend connects where there is no HandlerConfig.Dial.
func dialBackend(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := inet.Dial(ctx, network, address, leaveReserve)
	if tcp, ok := c.(*net.TCPConn); ok && !inet.IsSelfConnected(tcp) {
		_ = tcp.SetLinger(-1)
	}
	return c, err
}

// tlsFor returns the configuration of TLS towards a picked backend; nil: no TLS.
func (d *dialer) tlsFor(pick Pick) *tls.Config { return cmp.Or(pick.member.TLS, d.tls) }

// renegotiates reports whether a peer may ask for another handshake by TLS 1.2: an event loop,
// which cannot wait, leaves such connections to goroutines.
func renegotiates(cfg *tls.Config) bool {
	return cfg != nil && cfg.Renegotiation != tls.RenegotiateNever
}

// withServerName returns cfg with a name to verify: by default the host of the address
// as it was configured, not what it was resolved to.
func withServerName(cfg *tls.Config, b Backend) *tls.Config {
	host := b.host()
	if cfg.ServerName != "" || host == "" {
		return cfg
	}
	cfg = cfg.Clone()
	cfg.ServerName = host
	return cfg
}

func handshake(ctx context.Context, c *tls.Conn, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	return nil
}

// validatePoolTLS checks that a plane's BackendTLS can verify the backends that its pools
// have now. Later updates of a pool may bring other backends. A pool may be nil.
func validatePoolTLS(cfg *tls.Config, pools ...*Pool) error {
	for _, p := range pools {
		if p == nil {
			continue
		}
		for _, m := range p.snap.Load().all {
			if err := validateBackendTLS("BackendTLS", cfg, m.Backend); err != nil && m.TLS == nil {
				return err
			}
		}
	}
	return nil
}

// isTransient reports whether accepting may work again later: the system is out of
// something, a firewall or the connection's own network is in the way (accept(2)). Only
// errors of the listener itself stay.
func isTransient(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno) && !isAny(err, syscall.EBADF, syscall.EINVAL, syscall.ENOTSOCK)
}

// starved reports whether something failed because this host is out of descriptors,
// memory or, ENOSPC, places in epoll instances. It goes away when other connections end.
func starved(err error) bool {
	return isAny(err, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ENOSPC)
}

func isAny(err error, errnos ...syscall.Errno) bool {
	return slices.ContainsFunc(errnos, func(e syscall.Errno) bool { return errors.Is(err, e) })
}

// Errors of an attempt to connect that was given up: because of the backend, or
// together with the connection.
var (
	errDown = errors.New("down or removed while connecting")
	errCut  = errors.New("cut")
)

// blame is how a failed attempt to connect counts: not against the backend if it
// failed for want of something on this side, or was given up.
func blame(err error) Result {
	if starved(err) || isAny(err, syscall.EADDRNOTAVAIL) || errors.Is(err, errDown) {
		return Neutral
	}
	return Failure
}

// starvedFor is how long a connection, or accepting, waits for descriptors or
// memory before it tries again.
const starvedFor = 50 * time.Millisecond

// starve waits for what this host is out of; false if ctx ended first.
func (c *counters) starve(ctx context.Context) bool {
	c.starved.Add(1)
	defer c.starved.Add(-1)
	return retry.Pause(ctx, starvedFor)
}
