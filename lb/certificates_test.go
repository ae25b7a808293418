package lb

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"slices"
	"testing"
	"time"
)

// issueRSA is issue with an RSA key, a common name, and both in one file.
func (a *authority) issueRSA(file, commonName string, names ...string) CertificateFile {
	a.t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		a.t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: names,
		Subject: pkix.Name{CommonName: commonName}, NotAfter: time.Now().Add(time.Hour)}, a.ca.Leaf, &key.PublicKey, a.ca.PrivateKey)
	if err != nil {
		a.t.Fatal(err)
	}
	path := writeFile(a.t, a.dir, file+".pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))+
		string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})))
	return CertificateFile{Cert: path, Key: path}
}

// shown is the certificate that a client gets which asks for that name.
func (c *Certificates) shown(t *testing.T, name string, rsaOnly bool) *x509.Certificate {
	t.Helper()
	client, server := net.Pipe()
	defer client.Close()
	go func() {
		tls.Server(server, &tls.Config{GetCertificate: c.GetCertificate}).Handshake()
		server.Close()
	}()
	cfg := &tls.Config{ServerName: name, InsecureSkipVerify: true}
	if rsaOnly {
		cfg.MaxVersion, cfg.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	}
	conn := tls.Client(client, cfg)
	if err := conn.Handshake(); err != nil {
		t.Fatalf("%q, RSA only %v: %v", name, rsaOnly, err)
	}
	return conn.ConnectionState().PeerCertificates[0]
}

func TestCertificateForEachClient(t *testing.T) {
	a := newAuthority(t)
	certs := a.certificates(
		a.issue("ecdsa", "a.test", "www.a.test"),
		a.issue("nameless", "192.0.2.1"),
		a.issueRSA("rsa", "", "a.test", "*.b.test"),
		a.issue("again", "a.test", "other.test"),
		a.issueRSA("common", "C.test"))
	files := make(map[string]string) // by serial number
	for i, file := range []string{"ecdsa", "nameless", "rsa", "again", "common"} {
		cert, err := tls.LoadX509KeyPair(certs.files[i].Cert, certs.files[i].Key)
		if err != nil {
			t.Fatal(err)
		}
		files[cert.Leaf.SerialNumber.String()] = file
	}
	for _, tt := range []struct {
		name    string
		rsaOnly bool
		want    string
	}{
		{"a.test", false, "ecdsa"}, // the first for the name
		{"a.test", true, "rsa"},
		{"www.a.test", false, "ecdsa"},
		{"x.b.test", false, "rsa"},
		{"x.b.test", true, "rsa"},
		{"other.test", false, "again"},
		{"c.test", true, "common"},
		{"", false, "ecdsa"}, // not the one without a name
		{"", true, "rsa"},
		{"unknown.test", false, "ecdsa"},
		{"unknown.test", true, "rsa"},
	} {
		if got := files[certs.shown(t, tt.name, tt.rsaOnly).SerialNumber.String()]; got != tt.want {
			t.Errorf("%q, RSA only %v: certificate %s, want %s", tt.name, tt.rsaOnly, got, tt.want)
		}
	}
}

// TestCertificatesListed: what is in use is what was read last, with names and dates.
func TestCertificatesListed(t *testing.T) {
	a := newAuthority(t)
	certs := a.certificates(a.issue("one", "a.test", "www.A.test"), a.issueRSA("two", "C.test"))
	got := certs.List()
	if len(got) != 2 || !slices.Equal(got[0].Names, []string{"a.test", "www.a.test"}) || !slices.Equal(got[1].Names, []string{"c.test"}) {
		t.Fatalf("got %+v", got)
	}
	for i, info := range got {
		cert, err := tls.LoadX509KeyPair(certs.files[i].Cert, certs.files[i].Key)
		if err != nil {
			t.Fatal(err)
		}
		if info.CertificateFile != certs.files[i] || !info.NotBefore.Equal(cert.Leaf.NotBefore) || !info.NotAfter.Equal(cert.Leaf.NotAfter) {
			t.Errorf("got %+v, want %v to %v of %v", info, cert.Leaf.NotBefore, cert.Leaf.NotAfter, certs.files[i])
		}
	}
	other := a.issue("three", "d.test")
	text, err := os.ReadFile(other.Cert)
	key, err2 := os.ReadFile(other.Key)
	if err := errors.Join(err, err2, os.WriteFile(certs.files[0].Cert, text, 0o600), os.WriteFile(certs.files[0].Key, key, 0o600), certs.Reload()); err != nil {
		t.Fatal(err)
	}
	if got := certs.List(); got[0].Names[0] != "d.test" {
		t.Errorf("after a reload: %+v", got)
	}
}
