package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"reflect"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/lb"
)

// encryption is what the files of tls and backend_tls hold. It is made when a
// configuration is prepared, and taken over by the next configuration that says the
// same.
type encryption struct {
	front, back  *tls.Config            // nil: none
	certificates *lb.Certificates       // of front
	routes       map[string]*tls.Config // in the place of back, of those that have it so, by name
}

// newEncryption reads the files anew only where old, which may be nil, has another
// configuration. A file with other contents makes another configuration: see Digest.
func newEncryption(c config.Service, old *service) (e encryption, err error) {
	known := old.isEquipped()
	if known && reflect.DeepEqual(old.cfg.TLS, c.TLS) {
		e.front, e.certificates = old.tls.front, old.tls.certificates
	} else {
		var before *tls.Config
		if known {
			before = old.tls.front
		}
		if e.front, e.certificates, err = serverTLS(c.TLS, before); err != nil {
			return e, fmt.Errorf("tls: %w", err)
		}
	}
	if known && reflect.DeepEqual(old.cfg.BackendTLS, c.BackendTLS) {
		e.back = old.tls.back
	} else if e.back, err = clientTLS(c.BackendTLS); err != nil {
		return e, fmt.Errorf("backend_tls: %w", err)
	}
	e.routes = make(map[string]*tls.Config)
	for _, r := range c.Routes {
		if r.BackendTLS == nil {
			continue
		}
		if e.routes[r.Name] = old.backOf(r); e.routes[r.Name] != nil {
			continue
		}
		if e.routes[r.Name], err = clientTLS(r.BackendTLS); err != nil {
			return e, fmt.Errorf("route %s: backend_tls: %w", r.Name, err)
		}
	}
	return e, nil
}

// backOf returns what the service, which may be nil, has for a route that says the same; nil:
// nothing. Connections to backends are kept with it.
func (s *service) backOf(r config.ServiceRoute) *tls.Config {
	if !s.isEquipped() {
		return nil
	}
	for _, old := range s.cfg.Routes {
		if old.Name == r.Name && reflect.DeepEqual(old.BackendTLS, r.BackendTLS) {
			return s.tls.routes[r.Name]
		}
	}
	return nil
}

// serverTLS reads the files that c names; nil stays nil. before is what the service had, or
// nil.
func serverTLS(c *config.ServerTLS, before *tls.Config) (t *tls.Config, certificates *lb.Certificates, err error) {
	if c == nil {
		return nil, nil, nil
	}
	certificates, err = lb.NewCertificates(c.Certificates...)
	if err != nil {
		return nil, nil, err
	}
	// A clone has the random keys of tickets: with others, each renewed certificate or OCSP
	// response would make clients forget their sessions.
	if t = before.Clone(); t == nil {
		t = new(tls.Config)
	}
	t.GetCertificate, t.NextProtos, t.MinVersion = certificates.GetCertificate, c.ALPN, tls.VersionTLS12
	if c.MinVersion == "1.3" {
		t.MinVersion = tls.VersionTLS13
	}
	if err := setTickets(t, c); err != nil {
		return nil, nil, err
	}
	t.ClientAuth, t.ClientCAs = tls.NoClientCert, nil
	if c.ClientCA == "" {
		return t, certificates, nil
	}
	t.ClientAuth = tls.RequireAndVerifyClientCert
	if c.ClientAuth == "optional" {
		t.ClientAuth = tls.VerifyClientCertIfGiven
	}
	t.ClientCAs, err = authorities(c.ClientCA)
	return t, certificates, err
}

// setTickets sets what encrypts the tickets of sessions.
func setTickets(t *tls.Config, c *config.ServerTLS) (err error) {
	var keys *lb.TicketKeys
	switch secret := c.TicketSecret.Reveal(); {
	case len(c.TicketKeys) > 0:
		keys, err = lb.NewTicketKeys(c.TicketKeys...)
	case secret != "":
		keys, err = lb.DeriveTicketKeys([]byte(secret))
	default:
		t.WrapSession, t.UnwrapSession = nil, nil
		return nil
	}
	if err != nil {
		return err
	}
	t.WrapSession, t.UnwrapSession = keys.WrapSession, keys.UnwrapSession
	return nil
}

// clientTLS reads the files that c names; nil stays nil.
func clientTLS(c *config.TLS) (*tls.Config, error) {
	if c == nil {
		return nil, nil
	}
	t := &tls.Config{ServerName: c.ServerName, NextProtos: c.ALPN, InsecureSkipVerify: c.Insecure, MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		var err error
		if t.RootCAs, err = authorities(c.CA); err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
	}
	if c.Certificate != "" {
		cert, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
		if err != nil {
			return nil, fmt.Errorf("certificate %s, key %s: %w", c.Certificate, c.Key, err)
		}
		t.Certificates = []tls.Certificate{cert}
	}
	return t, nil
}

// authorities reads the certificates by which those of peers are judged.
func authorities(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificates in PEM form", file)
	}
	return pool, nil
}
