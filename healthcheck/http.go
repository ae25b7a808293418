package healthcheck

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/havip/havip/internal/field"
)

// HTTP is a [Checker] that requests a page over a new connection, through no
// proxy and without following redirects: a redirect is an answer like any
// other. The connection is then closed in order. It is reset if more than 64 KiB of the
// body are left, or if they do not arrive within 200 ms.
type HTTP struct {
	// URL is what to request, with scheme http or https. A user and password
	// in it are sent as basic authentication. Required.
	URL string
	// Method is the request's method. Default GET.
	Method string
	// Host is the Host header. Default: the host of URL.
	Host string
	// Header is sent with the request. Default: User-Agent havip-healthcheck
	// and what HTTP needs.
	Header http.Header
	// Status lists the status codes that count as healthy. Default 200-399.
	Status []StatusRange
	// Body must match the first MaxBody bytes of the body. Default: the body
	// is not read.
	Body *regexp.Regexp
	// MaxBody is how much of the body Body may see, 1 byte to 16 MiB. Default 64 KiB.
	MaxBody int
	// TLS configures https: ServerName (default: the host of URL), RootCAs,
	// Certificates, and NextProtos. With "h2" among NextProtos the request is made
	// by HTTP/2, and fails if the server does not choose HTTP/2, unless NextProtos
	// has "http/1.1" too. Without "h2" the request is made by HTTP/1.1, whatever the
	// server chooses.
	// Default: Go's.
	TLS *tls.Config
}

// StatusRange is a range of HTTP status codes, both ends included.
type StatusRange struct{ Min, Max int }

// MarshalText returns a status such as "200", or a range such as "200-399".
func (r StatusRange) MarshalText() ([]byte, error) {
	if r.Min == r.Max {
		return strconv.AppendInt(nil, int64(r.Min), 10), nil
	}
	return fmt.Appendf(nil, "%d-%d", r.Min, r.Max), nil
}

// UnmarshalText accepts what MarshalText returns, from 100 to 599.
func (r *StatusRange) UnmarshalText(text []byte) error {
	low, high, isRange := strings.Cut(string(text), "-")
	if !isRange {
		high = low
	}
	least, err1 := strconv.ParseUint(low, 10, 16)
	most, err2 := strconv.ParseUint(high, 10, 16)
	if err := errors.Join(err1, err2); err != nil || !(StatusRange{int(least), int(most)}).valid() {
		return fmt.Errorf("%q: %w", text, errStatus)
	}
	*r = StatusRange{int(least), int(most)}
	return nil
}

var errStatus = errors.New("want a status such as 200, or a range such as 200-399")

func (r StatusRange) valid() bool { return r.Min >= 100 && r.Max <= 599 && r.Min <= r.Max }

// WithDefaults returns c with the defaults of Method, Status and MaxBody.
func (c HTTP) WithDefaults() HTTP {
	c.Method = cmp.Or(c.Method, http.MethodGet)
	c.MaxBody = cmp.Or(c.MaxBody, maxReply)
	if len(c.Status) == 0 {
		c.Status = []StatusRange{{200, 399}}
	}
	return c
}

// Forms of RFC 9110 §5.1 and §5.5.
var (
	token      = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
	fieldValue = regexp.MustCompile(`^[\t\x20-\x7e\x{80}-\x{10ffff}]*$`)
)

// Validate reports a request that cannot be made. What may be a password is not
// shown.
func (c HTTP) Validate() error {
	c = c.WithDefaults()
	u, err := url.Parse(c.URL)
	errs := []error{
		field.If(err != nil || u.Scheme != "http" && u.Scheme != "https" || !isHost(u.Hostname()) || u.Port() != "" && !isPort(u.Port()) ||
			u.Fragment != "", "URL", "want a URL such as http://127.0.0.1:8080/health"),
		field.If(!token.MatchString(c.Method) || c.Method != strings.ToUpper(c.Method), "Method", "%q: want an HTTP method such as GET", c.Method),
		optional(c.Host, validateHostHeader("Host", c.Host)),
	}
	for name, values := range c.Header {
		in := fmt.Sprintf("Header[%q]", name)
		switch {
		case !token.MatchString(name):
			errs = append(errs, field.Errorf(in, "want the name of a header, such as Accept"))
		case http.CanonicalHeaderKey(name) == "Host":
			errs = append(errs, field.Errorf(in, "want Host in its place"))
		case slices.ContainsFunc(values, func(v string) bool { return !fieldValue.MatchString(v) }):
			errs = append(errs, field.Errorf(in, "want the value of a header"))
		}
	}
	for i, r := range c.Status {
		errs = append(errs, field.If(!r.valid(), fmt.Sprintf("Status[%d]", i), "%d-%d: %w", r.Min, r.Max, errStatus))
	}
	return errors.Join(append(errs, field.Between("MaxBody", c.MaxBody, 1, 16<<20))...)
}

// Check makes the request and judges the response.
func (c HTTP) Check(ctx context.Context) error { return fail(c, c.probe(ctx)) }

// String names the check in errors and log lines, without what may be a secret.
func (c HTTP) String() string {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" {
		return "http URL" // the text may hold a password
	}
	if u.RawQuery != "" {
		u.RawQuery = "..." // the query may hold a token
	}
	return "http " + u.Redacted()
}

func (c HTTP) probe(ctx context.Context) error {
	c = c.WithDefaults()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := c.newRequest(ctx)
	if err != nil {
		return err
	}
	exchange := http1
	if c.TLS != nil && slices.Contains(c.TLS.NextProtos, "h2") {
		exchange = http2
	}
	resp, err := exchange(ctx, req, c.TLS)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	// What is left of the body is read only so that the connection ends in order.
	defer func() {
		defer time.AfterFunc(leaveGrace, cancel).Stop()
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxReply))
	}()

	if !slices.ContainsFunc(c.Status, func(r StatusRange) bool {
		return r.Min <= resp.StatusCode && resp.StatusCode <= r.Max
	}) {
		return fmt.Errorf("status %q", resp.Status)
	}
	if c.Body == nil {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(c.MaxBody)))
	if c.Body.Match(body) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("body: %w", cause(err))
	}
	return fmt.Errorf("body %s does not match %q", excerpt(bytes.TrimSpace(body)), c.Body)
}

func (c HTTP) newRequest(ctx context.Context) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, c.Method, c.URL, nil)
	if wrong, ok := errors.AsType[*url.Error](err); ok {
		return nil, wrong.Err // the URL may hold a password
	}
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "havip-healthcheck")
	for name, values := range c.Header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	if user := req.URL.User; user != nil && req.Header.Get("Authorization") == "" {
		password, _ := user.Password()
		req.SetBasicAuth(user.Username(), password)
	}
	req.Host = cmp.Or(c.Host, req.Host)
	return req, nil
}
