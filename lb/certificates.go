package lb

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync/atomic"
	"time"

	"github.com/havip/havip/internal/regular"
)

// CertificateFile names the PEM files of a certificate, its chain included, and of
// its key. They may be one file.
type CertificateFile struct {
	Cert, Key string
	// Staple names a file with the certificate's OCSP response: see ParseStaple. It is only
	// sent while it is valid. A bad one is no error: CertificateInfo tells. Default none.
	Staple string
}

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
	byName map[string][]*stapled
	others []*stapled // for any other name, and none
	list   []CertificateInfo
}

// CertificateInfo says what was read from the files of a certificate.
type CertificateInfo struct {
	CertificateFile
	Names               []string  // that it is for, in lower case; none: for addresses only
	NotBefore, NotAfter time.Time // its beginning and its end

	stapled Staple
	unread  error // why there is no staple
}

// StapleError says why clients get no OCSP response with the certificate now, though a
// file is given; nil: they get it, or none is given.
func (c CertificateInfo) StapleError(now time.Time) error {
	if c.Staple == "" || c.unread != nil {
		return c.unread
	}
	if err := c.stapled.Check(now); err != nil {
		return fmt.Errorf("OCSP response %s: %w", c.Staple, err)
	}
	return nil
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
	set := &certificateSet{byName: make(map[string][]*stapled)}
	var first []string // the first certificate's names
	for i, f := range c.files {
		cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return fmt.Errorf("lb: certificate %s, key %s: %w", f.Cert, f.Key, err)
		}
		names := serverNames(cert.Leaf)
		entry, unread := staple(&cert, f.Staple)
		set.list = append(set.list, CertificateInfo{f, names, cert.Leaf.NotBefore, cert.Leaf.NotAfter, entry.Staple, unread})
		if i == 0 {
			first = names
		}
		for _, name := range names {
			set.byName[name] = append(set.byName[name], &entry)
		}
		isFirsts := func(name string) bool { return slices.Contains(first, name) }
		if i == 0 || len(names) == 0 || slices.ContainsFunc(names, isFirsts) {
			set.others = append(set.others, &entry)
		}
	}
	c.set.Store(set)
	return nil
}

// readSmallFile returns the first limit bytes of a regular file. The error does not name
// the file.
func readSmallFile(file string, limit int64) ([]byte, error) {
	data, err := regular.Read(file, limit)
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		err = path.Err
	}
	return data, err
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
	chosen := certs[0] // if none fits the handshake will say what is wrong
	for _, cert := range certs {
		if anonymous.SupportsCertificate(cert.bare) == nil {
			chosen = cert
			break
		}
	}
	return chosen.at(time.Now()), nil
}
