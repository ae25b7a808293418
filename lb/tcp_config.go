package lb

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/internal/proxyproto"
	"github.com/havip/havip/internal/words"
)

// TCPConfig configures a TCP.
type TCPConfig struct {
	// Pool is where connections go. Required, unless Routes are given: then
	// connections that no route fits are closed if there is no Pool.
	Pool *Pool
	// Routes send TLS connections to a pool by their server name (SNI), without
	// decrypting them unless TLS is set: exact, or *.example.org for one label.
	// Case does not matter.
	Routes map[string]*Pool
	// TLS terminates TLS. See Certificates.
	TLS *tls.Config
	// BackendTLS makes connections to backends use TLS. Without a ServerName the
	// host of the backend's address is verified.
	BackendTLS *tls.Config
	// AcceptProxy are the peers that begin each connection with a PROXY protocol
	// header, version 1 or 2, in front of TLS if there is TLS; one of theirs without it
	// is closed.
	AcceptProxy []netip.Prefix
	// SendProxy is the version of the PROXY header that backends get, in front of TLS
	// if they get TLS. Their checks may need it as well: see healthcheck.Proxied.
	// Default none.
	SendProxy ProxyVersion
	// HandshakeTimeout bounds the wait for the PROXY header, the ClientHello and the
	// TLS handshake. Default 10 s.
	HandshakeTimeout time.Duration
	// ConnectTimeout bounds each attempt to reach a backend. Default 5 s.
	ConnectTimeout time.Duration
	// IdleTimeout ends a connection on which nothing moved in either direction
	// for so long. Default 10 min.
	IdleTimeout time.Duration
	// ShutdownTimeout is how long connections may go on after Serve's context
	// has ended, before they are cut. Default 10 s; negative: not at all.
	ShutdownTimeout time.Duration
	// Tries bounds the backends that are tried for a connection, 1 to 8. Default 3.
	Tries int
	// Limits bounds connections.
	Limits Limits
	// NoSplice copies bulk instead of splicing it.
	NoSplice bool
	// Record is told of each connection that has ended; it must not block.
	Record func(Record)
	// Logger gets failures to reach a backend. Nothing waits for it. nil: silent.
	Logger *slog.Logger
}

// ProxyVersion is a version of the PROXY protocol.
type ProxyVersion uint8

// The versions.
const (
	ProxyNone ProxyVersion = iota // no header
	ProxyV1                       // a line of text
	ProxyV2                       // binary
)

var proxyVersions = []string{"none", "v1", "v2"}

// String returns "none", "v1" or "v2".
func (v ProxyVersion) String() string { return words.Of(proxyVersions, v) }

// MarshalText implements encoding.TextMarshaler.
func (v ProxyVersion) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (v *ProxyVersion) UnmarshalText(text []byte) error { return words.Parse(proxyVersions, text, v) }

// validateSendProxy returns what is wrong with a SendProxy.
func validateSendProxy(v ProxyVersion) error {
	return field.If(!words.Has(proxyVersions, v), "SendProxy", "%v: want %s", v, words.Choice(proxyVersions))
}

// WithDefaults returns c with its zero fields filled in.
func (c TCPConfig) WithDefaults() TCPConfig {
	c.HandshakeTimeout = cmp.Or(c.HandshakeTimeout, defaultHandshakeTimeout)
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, defaultConnectTimeout)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, 10*time.Minute)
	c.ShutdownTimeout = cmp.Or(c.ShutdownTimeout, 10*time.Second)
	c.Tries = cmp.Or(c.Tries, defaultTries)
	c.Limits = c.Limits.WithDefaults()
	return c
}

// What other planes have as well.
const (
	defaultHandshakeTimeout = 10 * time.Second
	defaultConnectTimeout   = 5 * time.Second
	defaultTries            = 3
)

// Validate returns what is wrong with c: FieldErrors, joined.
func (c TCPConfig) Validate() error {
	c = c.WithDefaults()
	errs := []error{
		field.If(c.Pool == nil && len(c.Routes) == 0, "Pool", "nil: want one, or routes"),
		validateServerTLS(c.TLS),
		validateSendProxy(c.SendProxy),
		field.Between("HandshakeTimeout", c.HandshakeTimeout, 10*time.Millisecond, time.Hour),
		field.Between("ConnectTimeout", c.ConnectTimeout, time.Millisecond, time.Hour),
		field.Between("IdleTimeout", c.IdleTimeout, 10*time.Millisecond, 30*day),
		field.Between("ShutdownTimeout", max(c.ShutdownTimeout, 0), 0, day),
		field.Between("Tries", c.Tries, 1, maxTries),
		validatePrefixes("AcceptProxy", c.AcceptProxy),
		validatePoolTLS(c.BackendTLS, append(slices.Collect(maps.Values(c.Routes)), c.Pool)...),
		field.In("Limits", c.Limits.Validate()),
	}
	folded := make(map[string]bool)
	for _, name := range slices.Sorted(maps.Keys(c.Routes)) {
		at := fmt.Sprintf("Routes[%q]", name)
		errs = append(errs, field.If(name == "" || c.Routes[name] == nil, at, "%v: want a server name and a pool", c.Routes[name]),
			field.If(folded[foldName(name)], at, "another one differs in case only: want one of them"))
		folded[foldName(name)] = true
	}
	return errors.Join(errs...)
}

// tcpSettings are the settings of the connections that were accepted while they were
// current.
type tcpSettings struct {
	TCPConfig
	plane  *TCP
	log    *slog.Logger
	dialer dialer
}

// newTCPSettings returns the settings of a valid configuration. What cfg refers to is
// the caller's, who may change it for the next Reconfigure.
func newTCPSettings(plane *TCP, cfg TCPConfig) *tcpSettings {
	cfg = cfg.WithDefaults()
	routes := make(map[string]*Pool, len(cfg.Routes))
	for name, pool := range cfg.Routes {
		routes[foldName(name)] = pool
	}
	cfg.Routes, cfg.AcceptProxy = routes, slices.Clone(cfg.AcceptProxy)
	return &tcpSettings{
		TCPConfig: cfg,
		plane:     plane,
		log:       limitedLog(cfg.Logger),
		dialer:    dialer{timeout: cfg.ConnectTimeout, tls: cfg.BackendTLS},
	}
}

// leave undoes what was counted of a connection when it was accepted.
func (cfg *tcpSettings) leave(peer netip.Addr) {
	cfg.plane.counters.active.Add(-1)
	cfg.plane.limiter.release(&cfg.Limits, peer)
}

// account counts a connection that is over, and records it.
func (cfg *tcpSettings) account(r *Record, p *Pool) {
	c := &cfg.plane.counters
	c.received.Add(uint64(r.Received))
	c.sent.Add(uint64(r.Sent))
	c.retries.Add(uint64(r.Retries))
	if p != nil {
		r.Service = p.config().Name
	}
	if cfg.Record != nil {
		cfg.Record(*r)
	}
}

// greeting is the PROXY header that the backend gets, nil if none.
func (cfg *tcpSettings) greeting(o *origin) []byte {
	if cfg.SendProxy == ProxyNone {
		return nil
	}
	return proxyproto.Append(nil, int(cfg.SendProxy), o.client, o.local)
}
