package config

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/havip/havip/internal/regular"
	"github.com/havip/havip/lb"
)

// maxFile bounds the size of a file of certificates or keys, in bytes.
const maxFile = 4 << 20

// ReadFile reads a file that a configuration names, of ordinary size and kind.
func ReadFile(path string) ([]byte, error) {
	data, err := regular.Read(path, maxFile+1)
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("larger than %d MiB", maxFile>>20)
	}
	return data, err
}

// material reads files of certificates and keys, and complains of those that are wrong.
type material struct {
	read   func(path string) ([]byte, error)
	fail   func(path, format string, args ...any)
	cannot string // what is said of a file that cannot be read
	sum    []byte
}

// get returns what is in the file that the key at path names; nil if that cannot be read.
func (m *material) get(file, path string) []byte {
	if file == "" { // which was reported
		return nil
	}
	data, err := m.take(file)
	if err != nil {
		m.fail(path, "%s: %s%v", show(file), m.cannot, err)
		return nil
	}
	return data
}

// take returns what is in a file, which counts for the digest.
func (m *material) take(file string) ([]byte, error) {
	data, err := m.read(file)
	if err != nil {
		return nil, shortly(err)
	}
	sum := sha256.Sum256(data)
	m.sum = append(m.sum, sum[:]...)
	return data, nil
}

// digest identifies what was read, in its order.
func (m *material) digest() string {
	sum := sha256.Sum256(m.sum)
	return hex.EncodeToString(sum[:])
}

// authorities checks a file of certificates that others are judged by.
func (m *material) authorities(file, path string) {
	if data := m.get(file, path); data != nil && !x509.NewCertPool().AppendCertsFromPEM(data) {
		m.fail(path, "%s: no certificates in PEM form", show(file))
	}
}

// pair checks a certificate and its key, which may be in the same file. at is the place
// of both.
func (m *material) pair(certificate, key, path, keyPath, at string) (pair tls.Certificate, ok bool) {
	chain, secret := m.get(certificate, path), m.get(key, keyPath)
	if chain == nil || secret == nil {
		return pair, false
	}
	pair, err := tls.X509KeyPair(chain, secret)
	if err != nil {
		reason := strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\n", " "), "tls: ")
		m.fail(at, "certificate %s, key %s: %s", show(certificate), show(key), reason)
	}
	return pair, err == nil
}

func (d *decoder) material() *material { return &material{read: d.read, fail: d.failFile} }

// key gives a key that is not given the file of its certificate, and returns its path.
func (d *decoder) key(certificate string, key *string, path string) string {
	if *key != "" || d.given(path+".key") {
		return path + ".key"
	}
	*key = certificate
	return path + ".certificate"
}

// certificate checks the files of a certificate and its key.
func (d *decoder) certificate(m *material, certificate string, key *string, path string) (pair tls.Certificate, ok bool) {
	keyPath := d.key(certificate, key, path)
	pair, ok = m.pair(certificate, *key, path+".certificate", keyPath, path)
	if !ok {
		return pair, false
	}
	d.private(*key, keyPath)
	const date = "2006-01-02 15:04 MST"
	switch now := time.Now(); {
	case now.After(pair.Leaf.NotAfter):
		d.warn(path, "%s: expired on %s: it is not trusted any more", show(certificate), pair.Leaf.NotAfter.UTC().Format(date))
	case now.Before(pair.Leaf.NotBefore):
		d.warn(path, "%s: valid from %s on: it is not trusted yet", show(certificate), pair.Leaf.NotBefore.UTC().Format(date))
	}
	return pair, true
}

// maxPath is the length of a path that Linux takes (PATH_MAX): a command to copy is
// told whole.
const maxPath = 4096

// private warns of a private key that others could read or change. A secret's file
// is refused then; a key's may be shared with another server on purpose.
func (d *decoder) private(file, path string) {
	info, err := os.Stat(file)
	if err != nil {
		return // no file, which is said elsewhere
	}
	mode, who := info.Mode().Perm(), ""
	switch {
	case mode&0o007 != 0:
		who = "others"
	case mode&0o070 != 0:
		who = strangers(info)
	}
	if who != "" {
		d.warn(path, "mode %04o lets %s at the private key: chmod 600 %s", mode, who, showUpTo(maxPath, file))
	}
}

func (d *decoder) validateTLS(s *Service, path string) {
	if t := s.TLS; t != nil {
		path, m := path+".tls", d.material()
		for i := range t.Certificates {
			c := &t.Certificates[i]
			at := fmt.Sprintf("%s.certificates[%d]", path, i)
			if pair, ok := d.certificate(m, c.Cert, &c.Key, at); ok && c.Staple != "" {
				d.staple(m, c.Staple, &pair, at+".ocsp_staple")
			}
		}
		d.tickets(m, t, path)
		m.authorities(t.ClientCA, path+".client_ca")
		switch {
		case d.given(path + ".client_ca"):
			t.ClientAuth = cmp.Or(t.ClientAuth, "required")
		case t.ClientAuth != "":
			d.fail(path+".client_auth", "%s: wants client_ca", t.ClientAuth)
		}
		d.validateALPN(t, s.Mode, path+".alpn")
		t.Digest = m.digest()
	}
	d.clientCertificates(s, path)
	d.validateBackendTLS(s.BackendTLS, path+".backend_tls")
	for i, r := range s.Routes {
		d.validateBackendTLS(r.BackendTLS, fmt.Sprintf("%s.routes[%d].backend_tls", path, i))
	}
}

// validateBackendTLS checks how backends are reached; nil: without TLS, or as others.
func (d *decoder) validateBackendTLS(t *TLS, path string) {
	if t == nil {
		return
	}
	m := d.material()
	d.validateClientTLS(t, path, ".ca")
	m.authorities(t.CA, path+".ca")
	if t.Certificate != "" {
		d.certificate(m, t.Certificate, &t.Key, path)
	}
	t.Digest = m.digest()
}

// clientCertificates warns of headers with what no client is asked for.
func (d *decoder) clientCertificates(s *Service, path string) {
	if s.TLS != nil && d.given(path+".tls.client_ca") {
		return
	}
	for key, values := range map[string][]string{
		"request_headers":      slices.Collect(maps.Values(s.HTTP.RequestHeaders)),
		"response_headers":     slices.Collect(maps.Values(s.HTTP.ResponseHeaders)),
		"add_request_headers":  slices.Concat(slices.Collect(maps.Values(s.HTTP.AddRequestHeaders))...),
		"add_response_headers": slices.Concat(slices.Collect(maps.Values(s.HTTP.AddResponseHeaders))...),
	} {
		if slices.ContainsFunc(values, func(v string) bool { return strings.Contains(v, "${client_cert") }) {
			d.warn(path+".http."+key, "%v", own("${client_cert...} is always empty, or NONE: clients are asked for certificates only with client_ca under tls"))
		}
	}
}

// staple warns of an OCSP response that clients will not get. It is fetched now and then by
// a program, and is no reason not to serve.
func (d *decoder) staple(m *material, file string, pair *tls.Certificate, path string) {
	der, err := m.take(file)
	var s lb.Staple
	if err == nil {
		s, err = lb.ParseStaple(der, pair)
	}
	if err == nil {
		err = s.Check(time.Now())
	}
	if err != nil {
		d.warn(path, "%s: %v: clients get none", show(file), err)
	}
}

// tickets checks what session-ticket keys come from.
func (d *decoder) tickets(m *material, t *ServerTLS, path string) {
	const keys, secret = ".session_ticket_keys", ".session_ticket_secret"
	for i, file := range t.TicketKeys {
		at := fmt.Sprintf("%s%s[%d]", path, keys, i)
		if data := m.get(file, at); data != nil {
			d.private(file, at)
			if err := lb.CheckTicketKey(data); err != nil {
				m.fail(at, "%s: %v", show(file), err)
			}
		}
	}
	switch n := len(t.TicketSecret.Reveal()); {
	case !d.given(path+secret) || d.failed(path+secret):
	case d.given(path + keys):
		d.fail(path+secret, "%v", own("beside session_ticket_keys: want one of the two"))
	case n < lb.MinTicketSecret:
		d.fail(path+secret, "%v", own(fmt.Sprintf("want at least %d bytes, such as openssl rand -hex %d makes", lb.MinTicketSecret, lb.MinTicketSecret)))
	}
}

func (d *decoder) validateALPN(t *ServerTLS, mode, path string) {
	if mode != "http" {
		return
	}
	if !d.given(path) {
		t.ALPN = []string{"h2", "http/1.1"}
	}
	for i, p := range t.ALPN {
		if p != "" && p != "h2" && p != "http/1.1" {
			d.fail(fmt.Sprintf("%s[%d]", path, i), "%s: mode http has h2 and http/1.1", show(p))
		}
	}
}
