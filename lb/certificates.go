package lb

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// CertificateFile names the PEM files of a certificate, its chain included, and of
// its key. They may be one file.
type CertificateFile struct{ Cert, Key string }

// Certificates chooses a certificate by server name, and can be reloaded while
// it is in use. Set its GetCertificate in a tls.Config:
//
//	certs, err := lb.NewCertificates(lb.CertificateFile{Cert: "web.pem", Key: "web.key"})
//	...
//	cfg.TLS = &tls.Config{GetCertificate: certs.GetCertificate}
type Certificates struct {
	files []CertificateFile
	set   atomic.Pointer[certificateSet]
}

// certificateSet is what was read from the files at one time. All lists are in
// the order of the files.
type certificateSet struct {
	byName map[string][]*tls.Certificate
	others []*tls.Certificate // for any other name, and none
	list   []CertificateInfo
}

// CertificateInfo says what was read from the files of a certificate.
type CertificateInfo struct {
	CertificateFile
	Names               []string  // that it is for, in lower case; none: for addresses only
	NotBefore, NotAfter time.Time // its beginning and its end
}

// NewCertificates reads the files. Of several certificates for a name, as with an
// ECDSA key and an RSA key, a client gets the first whose key it supports. The
// first certificate, and others for one of its names or for none at all, are
// also for clients that ask for a name that none has, or for no name.
func NewCertificates(files ...CertificateFile) (*Certificates, error) {
	c := &Certificates{files: files}
	if len(files) == 0 {
		return nil, errors.New("lb: certificates: none given")
	}
	return c, c.Reload()
}

// Reload reads the files again, for connections from now on. On error the
// certificates in use stay.
func (c *Certificates) Reload() error {
	set := &certificateSet{byName: make(map[string][]*tls.Certificate)}
	var first []string // the first certificate's names
	for i, f := range c.files {
		cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return fmt.Errorf("lb: certificate %s, key %s: %w", f.Cert, f.Key, err)
		}
		names := serverNames(cert.Leaf)
		set.list = append(set.list, CertificateInfo{f, names, cert.Leaf.NotBefore, cert.Leaf.NotAfter})
		if i == 0 {
			first = names
		}
		for _, name := range names {
			set.byName[name] = append(set.byName[name], &cert)
		}
		isFirsts := func(name string) bool { return slices.Contains(first, name) }
		if i == 0 || len(names) == 0 || slices.ContainsFunc(names, isFirsts) {
			set.others = append(set.others, &cert)
		}
	}
	c.set.Store(set)
	return nil
}

// serverNames are the names that c is for, as foldName returns them. There may be none: it
// may be for addresses.
func serverNames(c *x509.Certificate) (names []string) {
	for _, name := range c.DNSNames {
		names = append(names, foldName(name))
	}
	if len(names) == 0 && c.Subject.CommonName != "" {
		names = []string{foldName(c.Subject.CommonName)}
	}
	return names
}

// List returns what is in use, in the order of the files.
func (c *Certificates) List() []CertificateInfo { return c.set.Load().list }

// GetCertificate is for tls.Config.
func (c *Certificates) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	set := c.set.Load()
	certs, ok := lookUpName(set.byName, hello.ServerName)
	if !ok {
		certs = set.others
	}
	// The name has been dealt with, also where Go would not accept it.
	anonymous := *hello
	anonymous.ServerName = ""
	for _, cert := range certs {
		if anonymous.SupportsCertificate(cert) == nil {
			return cert, nil
		}
	}
	return certs[0], nil // the handshake will say what is wrong
}
