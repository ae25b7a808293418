package lb

import (
	"cmp"
	"crypto/tls"
	"errors"
	"net/netip"
	"time"

	"github.com/havip/havip/internal/field"
)

// HTTPConfig configures an HTTP. Only the Pool of its HandlerConfig is required.
type HTTPConfig struct {
	// HandlerConfig is what becomes of requests.
	HandlerConfig
	// AcceptProxy are the peers that begin each connection with a PROXY protocol
	// header, version 1 or 2, in front of TLS if there is TLS; one of theirs that has not
	// sent it within 10 s is closed.
	AcceptProxy []netip.Prefix
	// Limits bounds connections.
	Limits Limits
	// TLS terminates TLS. See Certificates. Its NextProtos say what clients may speak: h2,
	// http/1.1. Default both.
	TLS *tls.Config
	// HeaderTimeout bounds the wait for the header of a request, TLS handshake included.
	// In HTTP/2 it is for the handshake alone, and IdleTimeout ends a connection with an
	// unfinished header. Default 60 s.
	HeaderTimeout time.Duration
	// IdleTimeout ends a connection without a request. Default 75 s, as nginx's
	// keepalive_timeout.
	IdleTimeout time.Duration
	// MaxStreams is how many requests a client may have under way on a connection of HTTP/2. 1
	// to 10000, default 100, which is what RFC 9113 §6.5.2 recommends to allow. So many backends,
	// at the most, are busy for a connection, however fast its requests are given up; a client
	// that gives them up faster than they can end is sent away (ENHANCE_YOUR_CALM).
	MaxStreams int
	// ShutdownTimeout is how long requests and upgraded connections may go on after
	// Serve's context has ended, before they are cut. Default 10 s; negative: not at all.
	ShutdownTimeout time.Duration
}

// WithDefaults returns c with its zero fields filled in.
func (c HTTPConfig) WithDefaults() HTTPConfig {
	c.Buffering = cmp.Or(c.Buffering, BufferingOn)
	c.HandlerConfig = c.HandlerConfig.WithDefaults()
	c.Limits = c.Limits.WithDefaults()
	c.HeaderTimeout = cmp.Or(c.HeaderTimeout, time.Minute)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, 75*time.Second)
	c.MaxStreams = cmp.Or(c.MaxStreams, 100)
	c.ShutdownTimeout = cmp.Or(c.ShutdownTimeout, 10*time.Second)
	return c
}

// Validate returns all that is wrong with c: FieldErrors, joined.
func (c HTTPConfig) Validate() error {
	c = c.WithDefaults()
	return errors.Join(
		c.HandlerConfig.Validate(),
		validatePrefixes("AcceptProxy", c.AcceptProxy),
		field.In("Limits", c.Limits.Validate()),
		validateServerTLS(c.TLS),
		field.Between("HeaderTimeout", c.HeaderTimeout, 10*time.Millisecond, time.Hour),
		field.Between("IdleTimeout", c.IdleTimeout, 10*time.Millisecond, 30*day),
		field.Between("MaxStreams", c.MaxStreams, 1, 10000),
		field.Between("ShutdownTimeout", max(c.ShutdownTimeout, 0), 0, day))
}

// httpSettings are the settings of the connections that were accepted while they were
// current. Those of requests are the Handler's.
type httpSettings struct {
	HTTPConfig // with its defaults
	gate       *gateSettings
	tls        *tls.Config // TLS with its NextProtos; nil: no TLS
	front      frontConfig
}

// newHTTPSettings returns the settings of a valid configuration. prev are those of before,
// nil at first.
func newHTTPSettings(cfg HTTPConfig, gate *gateSettings, prev *httpSettings) *httpSettings {
	cfg = cfg.WithDefaults()
	s := &httpSettings{HTTPConfig: cfg, gate: gate, tls: cfg.TLS, front: newFrontConfig(&cfg)}
	switch {
	case prev != nil && prev.TLS == cfg.TLS:
		s.tls = prev.tls // clients would have to forget their sessions otherwise
	case cfg.TLS != nil && len(cfg.TLS.NextProtos) == 0:
		s.tls = cfg.TLS.Clone()
		s.tls.NextProtos = []string{"h2", "http/1.1"}
	}
	return s
}
