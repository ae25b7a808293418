package lb

import (
	"crypto/tls"
	"errors"

	"github.com/havip/havip/internal/words"
)

// BackendProtocol is what is spoken to backends.
type BackendProtocol uint8

// The protocols.
const (
	// BackendHTTP1 is HTTP/1.1.
	BackendHTTP1 BackendProtocol = iota
	// BackendHTTP2 is HTTP/2, which gRPC needs: with TLS if the backend chooses it (ALPN),
	// and without TLS at once, by prior knowledge (RFC 9113 §3.3).
	BackendHTTP2
)

var backendProtocols = []string{"http1", "http2"}

// String returns "http1" or "http2".
func (p BackendProtocol) String() string { return words.Of(backendProtocols, p) }

// MarshalText implements encoding.TextMarshaler.
func (p BackendProtocol) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *BackendProtocol) UnmarshalText(text []byte) error {
	return words.Parse(backendProtocols, text, p)
}

// alpnHTTP2 is the name of HTTP/2 in TLS.
const alpnHTTP2 = "h2"

// withHTTP2 returns cfg with HTTP/2 as the one protocol that is offered.
func withHTTP2(cfg *tls.Config) *tls.Config {
	cfg = cfg.Clone()
	cfg.NextProtos = []string{alpnHTTP2}
	return cfg
}

var errNoHTTP2 = errors.New("TLS handshake: the backend has not chosen HTTP/2 (ALPN h2)")
