package lb

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ocsp"
)

// Staple is the response of an OCSP responder (RFC 6960), signed by a certificate's
// authority, by which clients see in the handshake that the certificate is not revoked.
type Staple struct {
	From, Until time.Time // when it is valid; a zero Until: nobody says
	der         []byte
}

// maxStaple is far more than a responder sends.
const maxStaple = 64 << 10

// ParseStaple reads a response in DER form, as nginx's ssl_stapling_file takes it and
// "openssl ocsp -respout" writes it. The response must be for the first certificate of cert,
// and call it good. Its signature is verified if the issuer's certificate, or the
// responder's, is there: a wrong one would make clients end the handshake.
func ParseStaple(der []byte, cert *tls.Certificate) (Staple, error) {
	if text := bytes.TrimSpace(der); bytes.HasPrefix(text, []byte("-----BEGIN")) {
		return Staple{}, errors.New("in PEM form: want DER, as openssl ocsp -respout writes it")
	}
	var issuer *x509.Certificate
	if len(cert.Certificate) > 1 {
		var err error
		if issuer, err = x509.ParseCertificate(cert.Certificate[1]); err != nil {
			return Staple{}, fmt.Errorf("the certificate's issuer: %w", err)
		}
	}
	r, err := ocsp.ParseResponseForCert(der, cert.Leaf, issuer)
	switch {
	case err != nil:
		return Staple{}, staplingError(err)
	case r.Status == ocsp.Revoked:
		return Staple{}, fmt.Errorf("the certificate is revoked since %s: replace it", r.RevokedAt.UTC().Format(time.RFC3339))
	case r.Status != ocsp.Good:
		return Staple{}, errors.New("the responder does not know the certificate")
	}
	return Staple{r.ThisUpdate, r.NextUpdate, der}, nil
}

// staplingError has one line, which says what was read.
func staplingError(err error) error {
	switch err := err.(type) {
	case ocsp.ResponseError:
		return fmt.Errorf("the responder refused: %s", strings.TrimPrefix(err.Error(), "ocsp: error from server: "))
	case ocsp.ParseError:
		return errors.New(string(err))
	}
	return fmt.Errorf("no OCSP response in DER form: %w", err)
}

// Check returns why the response is not valid now; nil: it is.
func (s Staple) Check(now time.Time) error {
	switch {
	case now.Before(s.From):
		return fmt.Errorf("valid from %s on", s.From.UTC().Format(time.RFC3339))
	case !s.Until.IsZero() && !now.Before(s.Until):
		return fmt.Errorf("expired on %s: fetch another one", s.Until.UTC().Format(time.RFC3339))
	}
	return nil
}

// stapled is a certificate with what may be stapled to it.
type stapled struct {
	bare *tls.Certificate
	with *tls.Certificate // nil: no staple
	Staple
}

// staple reads the response of a certificate from a file; an empty name: there is none.
func staple(cert *tls.Certificate, file string) (s stapled, err error) {
	s.bare = cert
	if file == "" {
		return s, nil
	}
	der, err := readSmallFile(file, maxStaple)
	if err == nil {
		s.Staple, err = ParseStaple(der, cert)
	}
	if err != nil {
		return s, fmt.Errorf("OCSP response %s: %w", file, err)
	}
	with := *cert
	with.OCSPStaple = der
	s.with = &with
	return s, nil
}

// at returns the certificate as clients get it at a time.
func (s *stapled) at(now time.Time) *tls.Certificate {
	if s.with != nil && s.Check(now) == nil {
		return s.with
	}
	return s.bare
}
