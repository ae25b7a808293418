package healthcheck

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"time"
)

// HTTP is a [Checker] that requests a page over a new connection, through no
// proxy and without following redirects: a redirect is an answer like any
// other. The connection is then closed in order, unless the rest of the body is long
// or does not come: then it is reset.
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
	// MaxBody is how much of the body Body may see, in bytes. Default 64 KiB.
	MaxBody int
	// TLS configures https: ServerName (default: the host of URL), RootCAs,
	// Certificates, and NextProtos. With "h2" among these the request is made by
	// HTTP/2, and fails if the server does not choose it, unless "http/1.1" is
	// there too. Otherwise it is made by HTTP/1.1, whatever the server chooses.
	// Default: Go's.
	TLS *tls.Config
}

// StatusRange is a range of HTTP status codes, both ends included.
type StatusRange struct{ Min, Max int }

// Validate reports a URL, method or status range that cannot work.
func (c HTTP) Validate() error {
	req, err := c.request(context.Background())
	if err != nil {
		return c.fail(err)
	}
	if req.URL.Scheme != "http" && req.URL.Scheme != "https" || req.URL.Host == "" {
		return c.fail(errors.New("want http://host/ or https://host/"))
	}
	for _, r := range c.Status {
		if r.Min < 100 || r.Max > 599 || r.Min > r.Max {
			return c.fail(fmt.Errorf("status range %d-%d: want 100 to 599", r.Min, r.Max))
		}
	}
	if c.MaxBody < 0 {
		return c.fail(fmt.Errorf("MaxBody %d: must not be negative", c.MaxBody))
	}
	return nil
}

// Check makes the request and judges the response.
func (c HTTP) Check(ctx context.Context) error {
	if err := c.check(ctx); err != nil {
		return c.fail(err)
	}
	return nil
}

func (c HTTP) fail(err error) error {
	if _, parseErr := url.Parse(c.URL); parseErr != nil {
		if urlErr, ok := errors.AsType[*url.Error](err); ok {
			err = urlErr.Err // the rest may hold a password
		}
	}
	return fail(c, err)
}

// String names the check in errors and log lines, without what may be a secret.
func (c HTTP) String() string {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" {
		return "http URL" // it may hold a password
	}
	if u.RawQuery != "" {
		u.RawQuery = "..." // it may be a token
	}
	return "http " + u.Redacted()
}

func (c HTTP) check(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := c.request(ctx)
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
	// The rest does not matter any more.
	defer func() {
		defer time.AfterFunc(leaveGrace, cancel).Stop()
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxReply))
	}()

	status := c.Status
	if len(status) == 0 {
		status = []StatusRange{{200, 399}}
	}
	if !slices.ContainsFunc(status, func(r StatusRange) bool {
		return r.Min <= resp.StatusCode && resp.StatusCode <= r.Max
	}) {
		return fmt.Errorf("status %q", resp.Status)
	}
	if c.Body == nil {
		return nil
	}
	limit := c.MaxBody
	if limit == 0 {
		limit = maxReply
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(limit)))
	if c.Body.Match(body) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("body: %w", cause(err))
	}
	return fmt.Errorf("body %s does not match %q", excerpt(bytes.TrimSpace(body)), c.Body)
}

func (c HTTP) request(ctx context.Context) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, c.Method, c.URL, nil)
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
	if c.Host != "" {
		req.Host = c.Host
	}
	return req, nil
}
