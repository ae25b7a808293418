package lb

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
)

// CertificateFile names the PEM files of a certificate, its chain included, and of
// its key. They may be one file.
type CertificateFile struct{ Cert, Key string }

// Certificates chooses a certificate by server name, and can be reloaded while
// it is in use. Set its GetCertificate in a tls.Config:
//
//	certs, err := lb.NewCertificates(lb.CertificateFile{Cert: "web.pem", Key: "web.key"})
//	...
//	proxy.TLS = &tls.Config{GetCertificate: certs.GetCertificate}
type Certificates struct {
	files []CertificateFile
	set   atomic.Pointer[certificateSet]
}

// certificateSet is what was read from the files at one time.
type certificateSet struct {
	byName map[string]*tls.Certificate
	first  *tls.Certificate
}

// NewCertificates reads the files. The first certificate is also for clients that
// ask for a name that none has, or for no name.
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
	set := &certificateSet{byName: make(map[string]*tls.Certificate)}
	for _, f := range c.files {
		cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return fmt.Errorf("lb: certificate %s, key %s: %w", f.Cert, f.Key, err)
		}
		if set.first == nil {
			set.first = &cert
		}
		names := cert.Leaf.DNSNames
		if len(names) == 0 {
			names = []string{cert.Leaf.Subject.CommonName}
		}
		for _, name := range names {
			name = strings.ToLower(name)
			if set.byName[name] == nil {
				set.byName[name] = &cert
			}
		}
	}
	c.set.Store(set)
	return nil
}

// GetCertificate is for tls.Config.
func (c *Certificates) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	set := c.set.Load()
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	if cert := set.byName[name]; cert != nil {
		return cert, nil
	}
	if _, parent, ok := strings.Cut(name, "."); ok {
		if cert := set.byName["*."+parent]; cert != nil {
			return cert, nil
		}
	}
	return set.first, nil
}
