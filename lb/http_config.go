package lb

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/internal/words"
)

// HandlerConfig configures a Handler. Only Pool is required, and not even that where Routes or
// Rules answer.
type HandlerConfig struct {
	// Pool is where requests go. Required, unless there are Routes, a Redirect, an Answer or
	// Maintenance: requests that come to none of these are answered with 404 then.
	Pool *Pool
	// Routes take some of the requests, for other pools or other rules. See Route. None by
	// default.
	Routes []Route
	// Key is what KeyHash ties to a backend. Default: the request's path.
	Key func(*http.Request) string
	// ConnectTimeout bounds each attempt to reach a backend. Default 5 s.
	ConnectTimeout time.Duration
	// Timeout is how long a backend may be silent when the request has been sent, and how
	// long it may take nothing of a request. Default 60 s.
	Timeout time.Duration
	// ClientTimeout is how long a client may be silent while the body of its request is
	// awaited, and how long it may take nothing of the response. A request whose body
	// does not come is answered with 408. Default 60 s.
	ClientTimeout time.Duration
	// TunnelTimeout ends an upgraded connection, a WebSocket for instance, on which
	// nothing moved in either direction for so long. Default 1 h.
	TunnelTimeout time.Duration
	// Tries bounds the backends that are tried for a request, 1 to 8. Default 3.
	Tries int
	// MaxHeader bounds the header of a request: the bytes that its method, its target and
	// its fields take in HTTP/1.1, however few they are in HTTP/2. A larger one is answered
	// with 431. The trailer of a request has the same bound. The server that brings the
	// requests has read the header before, and has bounds of its own. An http.Server has
	// MaxHeaderBytes; it answers a trailer of more than 4 KB in HTTP/1.1 with 400, and in
	// HTTP/2 leaves out what exceeds MaxHeaderBytes. 1 KiB to 1 MiB, default 32 KiB.
	MaxHeader int64
	// MaxFields bounds the fields in the header of a request, and those in its trailer, in
	// the same way. 10 to 10000, default 100.
	MaxFields int
	// BackendProtocol is what is spoken to backends, whatever clients speak. Requests of
	// many clients share a connection of HTTP/2, and there are no upgrades: a backend gets
	// the request for a WebSocket as any other. Default BackendHTTP1.
	BackendProtocol BackendProtocol
	// Reuse says for which requests kept connections to backends are used. Default
	// ReuseSafe.
	Reuse Reuse
	// MaxBody bounds request bodies in bytes; a larger one is answered with 413.
	// 0: no bound.
	MaxBody int64
	// TrustedProxies are proxies in front of this one. The client of a request that comes from
	// one of them is found in its X-Forwarded-For: from the end, the first address that is no
	// trusted proxy, or else the first of all. A malformed entry ends the search: the client is
	// the proxy that has added it. X-Real-IP, ${client}, Access, limits of requests, SourceHash,
	// Maglev, the log and Record go by that client; limits of connections by who has connected.
	// X-Forwarded-Proto and X-Forwarded-Host of trusted proxies are passed on. If TrustedProxies
	// is set, the X-Forwarded-For and Forwarded of others are dropped rather than appended to or
	// passed on. An X-Real-IP is never passed on.
	TrustedProxies []netip.Prefix
	// Underscores says what becomes of headers and trailers of requests whose names hold
	// other characters than letters, digits and hyphens. Programs behind CGI, WSGI and the
	// like take an underscore, and some take any other character, for a hyphen: a name that
	// becomes one of X-Forwarded-*, X-Real-IP, RequestHeaders, or of a header that concerns
	// the connection or the framing, is dropped in any case. At level Debug the Logger gets
	// the names of dropped headers. Default UnderscoresDrop.
	Underscores Underscores
	// RequestHeaders are set on requests to backends, ResponseHeaders on responses
	// of backends and on answers made here, those of errors as well; an empty value removes the
	// header.
	//
	// In values, ${client} is the client's address, behind TrustedProxies the one in front
	// of them, and ${local} the address that the client connected to, ${server_port} its port.
	// In responses, ${backend} is the backend's name and ${source} this host's address in the
	// connection to the backend.
	//
	// Of the request, as the client has sent it and with its escapes, there are ${scheme}, http
	// or https; ${host}, in lower case and without a port, and ${http_host}, as it came;
	// ${method}; ${uri}, with its ${path} and ${query}; ${is_args}, a question mark if that
	// is not empty, as in /new${is_args}${query}; ${arg_NAME}, the first argument NAME of
	// the query; ${cookie_NAME}, the first cookie NAME; and ${header_NAME}, where an underscore
	// stands for a hyphen, all headers NAME with commas between them. The case of NAME does not
	// matter. ${request_id} is 32 hexadecimal digits, different for each request, or what
	// RequestID makes of it; ${route} is the name of the Route; ${user} is who has logged in by
	// Auth, and never what a client claims without that.
	//
	// Of the client's TLS there are ${tls_version}, as in
	// TLSv1.3, ${tls_cipher} by its name of IANA, and ${server_name}, the one that was asked
	// for; of the client's certificate ${client_cert}, in PEM form with URL escapes,
	// ${client_cert_subject} and ${client_cert_issuer} by RFC 2253, ${client_cert_serial} and
	// ${client_cert_fingerprint}, SHA-256, both hexadecimal, and ${client_cert_verified}:
	// SUCCESS; FAILED: the tls.Config does not verify it; NONE: there is none.
	//
	// A header whose value turns out empty is removed: in no case backends get what a client
	// claims. A Host that variables make no host is the client's. Control bytes of variables
	// become spaces. Names keep the case they are written in. Headers on which the framing of
	// messages depends cannot be set.
	RequestHeaders, ResponseHeaders map[string]string
	// BackendTLS makes connections to backends use TLS. Without a ServerName the
	// host of the backend's address is verified.
	BackendTLS *tls.Config
	// Dial connects to backends, as net.Dialer's DialContext does; network is "tcp" or
	// "unix". nil: a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// ModifyResponse may change the response of a backend, before ResponseHeaders are
	// set. The response's Request is the client's. Whoever replaces the Body reads and
	// closes the old one, and adapts ContentLength and the header. An error becomes a
	// RequestError with status 502. nil: responses stay as they are.
	ModifyResponse func(*http.Response) error
	// ErrorHandler answers a request for which there is no response of a backend. The
	// error is a *RequestError. nil: the answer is the RequestError's Status.
	ErrorHandler func(http.ResponseWriter, *http.Request, error)
	// Record is told of each request that has ended; it must not block. An [HTTP] also tells of
	// what was no request: see RequestRecord.Line. Two things leave no record, as net/http keeps
	// them for itself: what it refuses within HTTP/2, such as a frame that is none, or fields far
	// beyond MaxHeader; and what comes in place of a preface where HTTP/2 was agreed upon in TLS.
	// Where net/http serves a connection of HTTP/1, Line has 64 bytes at most, and nothing if
	// what was no request came together with the request before.
	// With a server of your own, net/http refuses all that and a Handler does not hear of it.
	Record func(Record)
	// Logger gets failures of backends. Nothing waits for it. nil: silent.
	Logger *slog.Logger
	// Rules are what is decided here, beside choosing a backend.
	Rules
}

// WithDefaults returns c with its zero fields filled in.
func (c HandlerConfig) WithDefaults() HandlerConfig {
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, defaultConnectTimeout)
	c.Timeout = cmp.Or(c.Timeout, 60*time.Second)
	c.ClientTimeout = cmp.Or(c.ClientTimeout, 60*time.Second)
	c.TunnelTimeout = cmp.Or(c.TunnelTimeout, time.Hour)
	c.Tries = cmp.Or(c.Tries, defaultTries)
	c.MaxHeader = cmp.Or(c.MaxHeader, defaultMaxHeader)
	c.MaxFields = cmp.Or(c.MaxFields, defaultMaxFields)
	c.Rules = c.Rules.WithDefaults()
	return c
}

// Validate returns all that is wrong with c: FieldErrors, joined.
func (c HandlerConfig) Validate() error {
	if err := c.validateOwn(len(c.Routes) == 0 && !c.Rules.answers()); err != nil {
		return err // and those of routes may follow from it
	}
	if err := c.validateGroups(0); err != nil {
		return err
	}
	return c.validateRoutes()
}

// validateOwn is Validate, but for Routes. pooled: there must be a Pool.
func (c HandlerConfig) validateOwn(pooled bool) error {
	c = c.WithDefaults()
	return errors.Join(
		field.Between("ConnectTimeout", c.ConnectTimeout, time.Millisecond, time.Hour),
		field.Between("Timeout", c.Timeout, time.Millisecond, day),
		field.Between("ClientTimeout", c.ClientTimeout, time.Millisecond, day),
		field.Between("TunnelTimeout", c.TunnelTimeout, time.Millisecond, 30*day),
		field.Between("Tries", c.Tries, 1, maxTries),
		field.Between("MaxHeader", c.MaxHeader, 1<<10, 1<<20),
		field.Between("MaxFields", c.MaxFields, 10, 10000),
		field.If(!words.Has(backendProtocols, c.BackendProtocol), "BackendProtocol", "%v: want %s", c.BackendProtocol, words.Choice(backendProtocols)),
		field.If(!words.Has(reuses, c.Reuse), "Reuse", "%v: want %s", c.Reuse, words.Choice(reuses)),
		field.If(!words.Has(underscores, c.Underscores), "Underscores", "%v: want %s", c.Underscores, words.Choice(underscores)),
		field.If(c.MaxBody < 0, "MaxBody", "%d: want at least 0", c.MaxBody),
		validateHeaders("RequestHeaders", alone(c.RequestHeaders), inRequests),
		validateHeaders("ResponseHeaders", alone(c.ResponseHeaders), inResponses),
		validatePrefixes("TrustedProxies", c.TrustedProxies),
		validatePoolTLS(c.BackendTLS, c.Pool),
		c.Rules.Validate(),
		field.If(c.Pool == nil && pooled, "Pool", "none: want a pool"))
}

// exampleHost returns what a Host with variables may turn out to be.
func exampleHost(value string) string {
	value = strings.ReplaceAll(value, "${server_port}", "80")
	return variablePattern.ReplaceAllLiteralString(value, "192.0.2.1")
}

// validateHeaders returns what is wrong with headers that a configuration sets. An
// error does not tell the value: it may be a password.
func validateHeaders(name string, headers http.Header, in parts) error {
	var errs []error
	seen := make(map[string]bool)
	for _, header := range slices.Sorted(maps.Keys(headers)) {
		at, canonical := name+"["+header+"]", http.CanonicalHeaderKey(header)
		switch {
		case !validHeader(header, ""):
			errs = append(errs, field.Errorf(at, "want the name of a header, such as X-Balancer"))
		case slices.Contains(unsettable, canonical), canonical == "Host" && name != "RequestHeaders":
			errs = append(errs, field.Errorf(at, "want another header than %s: %s", canonical, cmp.Or(unsettableWhy[canonical], "the proxy itself decides on this one")))
		case seen[canonical]:
			errs = append(errs, field.Errorf(at, "want one of a name, in upper or lower case"))
		default:
			errs = append(errs, validateValues(at, canonical, headers[header], in))
		}
		seen[canonical] = true
	}
	return errors.Join(errs...)
}

// validateValues returns what is wrong with the values of a header that may be set. at is its
// name in an error.
func validateValues(at, canonical string, values []string, in parts) error {
	var errs []error
	for i, value := range values {
		at, in := at, in
		if len(values) > 1 {
			at = fmt.Sprintf("%s[%d]", at, i)
		}
		switch {
		case !validHeader(canonical, value):
			errs = append(errs, field.Errorf(at, "want the value of a header"))
		case canonical == "Host" && !validAuthority(exampleHost(value)):
			errs = append(errs, field.Errorf(at, "want one host as Host: every request needs it"))
		}
		if canonical == "Host" {
			in = inHost
		}
		if _, err := compileTemplate(value, in); err != nil {
			errs = append(errs, field.Errorf(at, "%w", err))
		}
	}
	return errors.Join(errs...)
}

// alone are headers with one value each.
func alone(headers map[string]string) http.Header {
	all := make(http.Header, len(headers))
	for name, value := range headers {
		all[name] = []string{value}
	}
	return all
}
