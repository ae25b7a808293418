package admin

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/havip/havip/internal/config"
)

// certificates are the files of admin.tls. Handshakes and requests notice that they have
// changed, so that whoever renews them need not know of havip.
type certificates struct {
	files config.AdminTLS

	mu     sync.Mutex // one look at a time; guards what follows
	looked time.Time
	stamps [3]stamp // of what was read last, well or not
	err    error    // of that

	loaded atomic.Pointer[material] // the last that was fit; nil: none yet
}

// lookAgain is for how long the files are taken for what they were.
const lookAgain = time.Second

// stamp is by what a file is known to have changed.
type stamp struct {
	size int64
	time time.Time
}

// material is what the files have.
type material struct {
	config    *tls.Config
	authority *x509.CertPool // nil: none
	leaf      *x509.Certificate
}

func newCertificates(files config.AdminTLS) *certificates { return &certificates{files: files} }

// current returns what the files have, or had when they were fit last. The error says why
// they are not now, and there is nothing from before.
func (c *certificates) current(log *slog.Logger) (*material, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) < lookAgain {
		return c.loaded.Load(), c.missing()
	}
	c.looked = time.Now()
	now := [3]stamp{stampOf(c.files.Certificate), stampOf(c.files.Key), stampOf(c.files.ClientCA)}
	if now == c.stamps && c.err == nil && c.loaded.Load() != nil {
		return c.loaded.Load(), nil
	}
	m, err := c.load()
	again, changed := c.loaded.Load() != nil, now != c.stamps
	c.stamps, c.err = now, err
	switch {
	case err == nil:
		c.loaded.Store(m)
		if again {
			log.Info("admin: certificate read again", "file", c.files.Certificate)
		}
	case again && changed:
		log.Warn("admin: certificate not read again: the one of before goes on", "file", c.files.Certificate, "err", err)
	}
	return c.loaded.Load(), c.missing()
}

// missing is the error where there is nothing to go on with. c.mu is held.
func (c *certificates) missing() error {
	if c.loaded.Load() == nil {
		return c.err
	}
	return nil
}

func stampOf(path string) (s stamp) {
	if path == "" {
		return s
	}
	info, err := os.Stat(path)
	if err != nil {
		return s
	}
	return stamp{info.Size(), info.ModTime()}
}

// load reads the files.
func (c *certificates) load() (*material, error) {
	chain, err := config.ReadFile(c.files.Certificate)
	if err != nil {
		return nil, fmt.Errorf("admin.tls: %w", err)
	}
	key, err := config.ReadFile(c.files.Key)
	if err != nil {
		return nil, fmt.Errorf("admin.tls: %w", err)
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("admin.tls: certificate %s, key %s: %w", c.files.Certificate, c.files.Key, err)
	}
	m := &material{config: &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}, leaf: pair.Leaf}
	if c.files.ClientCA == "" {
		return m, nil
	}
	pem, err := config.ReadFile(c.files.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("admin.tls: %w", err)
	}
	m.authority = x509.NewCertPool()
	if !m.authority.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("admin.tls: %s: no certificates in PEM form", c.files.ClientCA)
	}
	// Each request judges it: see certified. One without may read.
	m.config.ClientAuth, m.config.ClientCAs = tls.RequestClientCert, m.authority
	return m, nil
}

// serverConfig is for connections, each of which gets what the files have then.
func (c *certificates) serverConfig(log *slog.Logger) *tls.Config {
	return &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		m, err := c.current(log)
		if m == nil {
			return nil, errors.Join(errors.New("no certificate"), err)
		}
		return m.config, nil
	}}
}

// lookNow has the next that asks look at the files again.
func (c *certificates) lookNow() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looked = time.Time{}
}

// authority judges client certificates; nil: none is good. It is that of now, also for
// connections that began when the file had another one.
func (c *certificates) authority(log *slog.Logger) *x509.CertPool {
	if m, _ := c.current(log); m != nil {
		return m.authority
	}
	return nil
}

// names reports whether the certificate is for a host.
func (c *certificates) names(host string, log *slog.Logger) bool {
	m, _ := c.current(log)
	return m != nil && m.leaf != nil && m.leaf.VerifyHostname(host) == nil
}
