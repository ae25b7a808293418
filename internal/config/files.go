package config

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/havip/havip/internal/regular"
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

// material is what the files of one tls or backend_tls hold.
type material struct {
	d   *decoder
	sum []byte
}

// read returns what is in the file that the key at path names, and complains if
// it cannot.
func (m *material) read(file, path string) []byte {
	if file == "" { // which was reported
		return nil
	}
	data, known := m.d.files[file]
	if !known {
		var err error
		if data, err = m.d.read(file); err != nil {
			m.d.failFile(path, "%s: %v", show(file), shortly(err))
			return nil
		}
		m.d.files[file] = data
	}
	sum := sha256.Sum256(data)
	m.sum = append(m.sum, sum[:]...)
	return data
}

// digest identifies what was read, in its order.
func (m *material) digest() string {
	sum := sha256.Sum256(m.sum)
	return hex.EncodeToString(sum[:])
}

// pair checks a certificate and its key, which may be in the same file.
func (m *material) pair(certificate string, key *string, path string) {
	keyPath := path + ".key"
	if *key == "" && !m.d.given(keyPath) {
		*key, keyPath = certificate, path+".certificate"
	}
	chain, secret := m.read(certificate, path+".certificate"), m.read(*key, keyPath)
	pair, ok := complain(m.d.failFile).pair(chain, secret, certificate, *key, path)
	if !ok {
		return
	}
	m.d.private(*key, keyPath)
	const date = "2006-01-02 15:04 MST"
	switch now := time.Now(); {
	case now.After(pair.Leaf.NotAfter):
		m.d.warn(path, "%s: expired on %s: it is not trusted any more", show(certificate), pair.Leaf.NotAfter.UTC().Format(date))
	case now.Before(pair.Leaf.NotBefore):
		m.d.warn(path, "%s: valid from %s on: it is not trusted yet", show(certificate), pair.Leaf.NotBefore.UTC().Format(date))
	}
}

// maxPath is the length of a path that Linux takes (PATH_MAX): a command to copy is
// told whole.
const maxPath = 4096

// private warns of a private key that others could read or change. A secret's file
// is refused then; a key's may be shared with another server on purpose.
func (d *decoder) private(file, path string) {
	if file == "" {
		return
	}
	info, err := d.stat(file)
	if err != nil {
		return // which is said elsewhere
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

// authorities checks a file of certificates that others are judged by.
func (m *material) authorities(file, path string) {
	complain(m.d.failFile).authorities(m.read(file, path), file, path)
}

// complain says what is wrong at a path.
type complain func(path, format string, args ...any)

// authorities complains of a file, nil if it is not there, without certificates.
func (c complain) authorities(data []byte, file, path string) {
	if data != nil && !x509.NewCertPool().AppendCertsFromPEM(data) {
		c(path, "%s: no certificates in PEM form", show(file))
	}
}

// pair complains of a certificate and a key, nil where a file is not there, that do
// not fit. Without both ok is false, too.
func (c complain) pair(chain, secret []byte, certificate, key, path string) (pair tls.Certificate, ok bool) {
	if chain == nil || secret == nil {
		return pair, false
	}
	pair, err := tls.X509KeyPair(chain, secret)
	if err != nil {
		reason := strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\n", " "), "tls: ")
		c(path, "certificate %s, key %s: %s", show(certificate), show(key), reason)
	}
	return pair, err == nil
}

func (d *decoder) validateTLS(s *Service, path string) {
	if t := s.TLS; t != nil {
		path, m := path+".tls", material{d: d}
		for i := range t.Certificates {
			c := &t.Certificates[i]
			m.pair(c.Certificate, &c.Key, fmt.Sprintf("%s.certificates[%d]", path, i))
		}
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
	if s.BackendTLS != nil {
		d.validateBackendTLS(s, path+".backend_tls")
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

func (d *decoder) validateBackendTLS(s *Service, path string) {
	t, m := s.BackendTLS, material{d: d}
	d.validateClientTLS(t, path, ".ca")
	m.authorities(t.CA, path+".ca")
	if t.Certificate != "" {
		m.pair(t.Certificate, &t.Key, path)
	}
	t.Digest = m.digest()
}
