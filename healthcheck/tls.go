package healthcheck

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/havip/havip/internal/field"
)

// TLS is a [Checker] that makes a TLS handshake and looks at how long the
// server's certificate stays valid. The server must choose one of the protocols
// in Config.NextProtos if there are any.
type TLS struct {
	// Address is "host:port" or "[v6]:port". Required.
	Address string
	// Config configures the handshake: ServerName (default: the host of
	// Address), RootCAs, Certificates, NextProtos; Time also dates the
	// validity. Default: Go's.
	Config *tls.Config
	// MinValidity is for how long the certificate, and those that it depends
	// on, must still be valid, up to ten years. Default 0: valid now.
	MinValidity time.Duration
}

// String names the check in errors and log lines.
func (c TLS) String() string { return "tls " + c.Address }

// WithDefaults returns c: the default of every field but Address is its zero.
func (c TLS) WithDefaults() TLS { return c }

// Validate reports an address that cannot be dialled and a negative validity.
func (c TLS) Validate() error {
	return errors.Join(validateAddress("Address", c.Address), field.Between("MinValidity", c.MinValidity, 0, maxAge))
}

// Check makes the handshake and looks at the certificate.
func (c TLS) Check(ctx context.Context) error { return fail(c, c.probe(ctx)) }

func (c TLS) probe(ctx context.Context) error {
	conn, release, err := dial(ctx, "tcp", c.Address)
	if err != nil {
		return err
	}
	defer release()
	secure, err := handshake(ctx, conn, c.Address, c.Config)
	if err != nil {
		return err
	}
	defer closeInOrder(ctx, secure)
	config := cmp.Or(c.Config, new(tls.Config))
	now := time.Now()
	if config.Time != nil {
		now = config.Time()
	}
	state := secure.ConnectionState()
	if len(config.NextProtos) > 0 && state.NegotiatedProtocol == "" {
		// A server that knows of ALPN (RFC 7301) refuses; this one ignores it.
		return fmt.Errorf("the server chooses none of the protocols %q", config.NextProtos)
	}
	return validFor(state, now, c.MinValidity)
}

// validFor checks that the certificates of a connection stay valid for d.
func validFor(state tls.ConnectionState, now time.Time, d time.Duration) error {
	chains := state.VerifiedChains
	if len(chains) == 0 { // nothing was verified: the chain that the server sent counts
		chains = [][]*x509.Certificate{state.PeerCertificates}
	}
	// A chain is valid until the first of its certificates expires. The chain that
	// is valid for longest counts.
	expiry := func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) }
	var ends []*x509.Certificate
	for _, chain := range chains {
		if len(chain) == 0 {
			return errors.New("no certificate")
		}
		for _, cert := range chain {
			if now.Before(cert.NotBefore) {
				return fmt.Errorf("certificate of %s is not valid before %v", subject(cert), cert.NotBefore.Format(time.RFC3339))
			}
		}
		ends = append(ends, slices.MinFunc(chain, expiry))
	}
	weakest := slices.MaxFunc(ends, expiry)
	if left := weakest.NotAfter.Sub(now); left < d || left < 0 {
		return fmt.Errorf("certificate of %s is valid until %v, that is %.1f days, want at least %.1f",
			subject(weakest), weakest.NotAfter.Format(time.RFC3339), days(left), days(d))
	}
	return nil
}

func subject(cert *x509.Certificate) string {
	if len(cert.DNSNames) > 0 {
		return cert.DNSNames[0]
	}
	return cert.Subject.String()
}

func days(d time.Duration) float64 { return d.Hours() / 24 }
