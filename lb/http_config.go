package lb

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/havip/havip/internal/field"
)

// HandlerConfig configures a Handler. Only Pool is required.
type HandlerConfig struct {
	// Pool is where requests go. Required. KeyHash uses the request's path.
	Pool *Pool
	// ConnectTimeout bounds each attempt to reach a backend. Default 5 s.
	ConnectTimeout time.Duration
	// Timeout is the longest silence of a backend that is accepted once it has the
	// request, and the longest time that it may take nothing of it. Default 60 s.
	Timeout time.Duration
	// ClientTimeout is the longest silence of a client while the body of its request
	// is awaited, which is then answered with 408, and the longest time that it may
	// take nothing of the response. Default 60 s.
	ClientTimeout time.Duration
	// TunnelTimeout is the same for upgraded connections such as WebSockets.
	// Default 1 h.
	TunnelTimeout time.Duration
	// Tries bounds the backends that are tried for a request, 1 to 8. Default 3.
	Tries int
	// MaxBody bounds request bodies in bytes; a larger one is answered with 413.
	// 0: no bound.
	MaxBody int64
	// TrustedProxies are peers whose X-Forwarded-Proto, X-Forwarded-Host and
	// X-Real-IP are passed on. If it is set, the X-Forwarded-For of other peers
	// is dropped rather than appended to.
	TrustedProxies []netip.Prefix
	// RequestHeaders are set on requests to backends, ResponseHeaders on responses
	// to clients; an empty value removes the header. In values, ${client} is the
	// client's address, ${local} the one it connected to, ${backend} the backend's
	// name and, in responses, ${source} this host's address in the connection to
	// the backend. Names keep the case they are written in. Headers on which
	// the framing of messages depends cannot be set.
	RequestHeaders, ResponseHeaders map[string]string
	// BackendTLS makes connections to backends use TLS. Without a ServerName the
	// host of the backend's address is verified.
	BackendTLS *tls.Config
	// Dial connects to backends. It must heed its context. Default: a net.Dialer.
	Dial DialFunc
	// Record is told of each request that has ended; it must not block.
	Record func(Record)
	// Logger gets failures of backends. Nothing waits for it. nil: silent.
	Logger *slog.Logger
}

// WithDefaults returns c with the defaults of the fields that are zero.
func (c HandlerConfig) WithDefaults() HandlerConfig {
	setDefault(&c.ConnectTimeout, 5*time.Second)
	setDefault(&c.Timeout, 60*time.Second)
	setDefault(&c.ClientTimeout, 60*time.Second)
	setDefault(&c.TunnelTimeout, time.Hour)
	setDefault(&c.Tries, 3)
	return c
}

// Validate returns all that is wrong with c: FieldErrors, joined.
func (c HandlerConfig) Validate() error {
	c = c.WithDefaults()
	errs := []error{
		field.AtLeast("ConnectTimeout", c.ConnectTimeout, 0),
		field.AtLeast("Timeout", c.Timeout, 0),
		field.AtLeast("ClientTimeout", c.ClientTimeout, 0),
		field.AtLeast("TunnelTimeout", c.TunnelTimeout, 0),
		field.Between("Tries", c.Tries, 1, maxTries),
		field.AtLeast("MaxBody", c.MaxBody, 0),
		c.validateTLS(),
	}
	if c.Pool == nil {
		errs = append(errs, field.Errorf("Pool", "none: want a pool"))
	}
	errs = append(errs, validateHeaders("RequestHeaders", c.RequestHeaders)...)
	errs = append(errs, validateHeaders("ResponseHeaders", c.ResponseHeaders)...)
	return errors.Join(append(errs, c.validateHost())...)
}

// validateHeaders tells no value: it may be a password.
func validateHeaders(name string, headers map[string]string) (errs []error) {
	for header, value := range headers {
		what := name + "[" + header + "]"
		switch {
		case !validHeader(header, value):
			errs = append(errs, field.Errorf(what, "not a valid header"))
		case slices.Contains(unsettable, http.CanonicalHeaderKey(header)):
			errs = append(errs, field.Errorf(what, "cannot be set or removed: the proxy itself decides on it"))
		}
	}
	return errs
}

// validateHost checks that every request has one Host.
func (c *HandlerConfig) validateHost() error {
	hosts := 0
	for name, value := range c.RequestHeaders {
		if strings.EqualFold(name, "Host") {
			if hosts++; hosts > 1 || value == "" || strings.ContainsAny(value, " \t") {
				return field.Errorf("RequestHeaders["+name+"]", "every request needs one Host")
			}
		}
	}
	return nil
}

// validateTLS checks what can be known now: later updates of the pool may bring other
// backends.
func (c *HandlerConfig) validateTLS() error {
	if c.Pool == nil || c.BackendTLS == nil || c.BackendTLS.ServerName != "" || c.BackendTLS.InsecureSkipVerify {
		return nil
	}
	for _, m := range c.Pool.snap.Load().all {
		if strings.HasPrefix(m.Address, "unix:") {
			return field.Errorf("BackendTLS", "backend %s: TLS over a Unix socket needs a ServerName to verify", m.Name)
		}
	}
	return nil
}
