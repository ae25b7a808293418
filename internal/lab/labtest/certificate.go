package labtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"time"

	"github.com/havip/havip/internal/lab"
)

// Certificate makes a certificate for names, which may be addresses, with a new key. The
// certificate is for servers and clients, and valid from an hour ago to an hour from now;
// edit, which may be nil, changes that. Without an issuer the certificate is that of an
// authority.
func Certificate(issuer *tls.Certificate, edit func(*x509.Certificate), names ...string) tls.Certificate {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	if len(names) > 0 {
		template.Subject = pkix.Name{CommonName: names[0]}
	}
	parent, signer := template, crypto.PrivateKey(key)
	if issuer == nil {
		template.IsCA, template.BasicConstraintsValid, template.ExtKeyUsage = true, true, nil
	} else {
		parent, signer = issuer.Leaf, issuer.PrivateKey
	}
	if edit != nil {
		edit(template)
	}
	der := must(x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: must(x509.ParseCertificate(der))}
}

// must panics if what a test asks for is impossible.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// PEM returns a certificate of [Certificate] and its key as they stand in files.
func PEM(c tls.Certificate) (certificate, key []byte) {
	der := must(x509.MarshalPKCS8PrivateKey(c.PrivateKey))
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// WriteCertificate writes a certificate of its own authority for name, and its key, into
// a file.
func WriteCertificate(t lab.TB, file, name string) *x509.Certificate {
	t.Helper()
	c := Certificate(nil, nil, name)
	certificate, key := PEM(c)
	if err := os.WriteFile(file, append(certificate, key...), 0o600); err != nil {
		t.Fatal(err)
	}
	return c.Leaf
}

// Pool returns a pool of authorities' certificates.
func Pool(authorities ...tls.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, a := range authorities {
		pool.AddCert(a.Leaf)
	}
	return pool
}
