// Package client asks and steers a running havip, for the commands: over its socket, or
// over TCP by a URL. What can go wrong on the way is said in words that a person can do
// something about.
package client

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"
)

// DefaultSocket is where a havip listens unless its file says otherwise.
const DefaultSocket = "/run/havip/havip.sock"

// ErrAway: no havip answers.
var ErrAway = errors.New("no havip answers")

const (
	connectTimeout = 3 * time.Second
	// handshakeTimeout is longer: a busy host answers a connection in no time, but takes a
	// while over its keys.
	handshakeTimeout = 10 * time.Second
	// largest is the most bytes of an answer that are read, and of a token.
	largest      = 256 << 20
	largestToken = 4096
)

// Config says which havip is asked.
type Config struct {
	Socket string // empty: DefaultSocket. Not used with a URL
	// URL, such as https://lb-01:9650, asks over TCP.
	URL       string
	TokenFile string // what is in it permits to steer there
	CA        string // the file with the authority of the server's certificate; empty: the system's
	// Cert and Key are the files of a client certificate, which permits to steer as well.
	// One file may have both: without a Key it is Cert.
	Cert, Key string
}

// Client asks one havip. Its methods may be called from any goroutine.
type Client struct {
	where string // the socket or the URL, for errors
	base  string
	token string
	http  *http.Client
}

// New reads the files of a Config, and connects to nobody yet.
func New(cfg Config) (*Client, error) {
	dialer := &net.Dialer{Timeout: connectTimeout}
	transport := &http.Transport{DialContext: dialer.DialContext, TLSHandshakeTimeout: handshakeTimeout}
	c := &Client{http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	if cfg.URL == "" {
		c.where, c.base = cmp.Or(cfg.Socket, DefaultSocket), "http://localhost"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", c.where)
		}
		return c, nil
	}
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("URL %q: want one such as https://lb-01:9650", cfg.URL)
	}
	c.where, c.base = cfg.URL, u.Scheme+"://"+u.Host
	transport.Proxy = http.ProxyFromEnvironment
	if transport.TLSClientConfig, err = cfg.tls(); err != nil {
		return nil, err
	}
	switch {
	case cfg.Key != "" && cfg.Cert == "":
		return nil, fmt.Errorf("key %s: want the certificate that it is of, too", cfg.Key)
	case cfg.Cert != "" && u.Scheme != "https":
		return nil, fmt.Errorf("URL %q: want https for a client certificate", cfg.URL)
	}
	if cfg.TokenFile != "" {
		if u.Scheme != "https" && !isLoopback(u.Hostname()) {
			return nil, fmt.Errorf("URL %q: want https for a token: everybody on the way could read it", cfg.URL)
		}
		if c.token, err = readToken(cfg.TokenFile); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// tls reads the authority, and the client certificate.
func (cfg *Config) tls() (*tls.Config, error) {
	t := &tls.Config{}
	if cfg.CA != "" {
		text, err := os.ReadFile(cfg.CA)
		if err != nil {
			return nil, fmt.Errorf("authority: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("authority: %s: no certificate in it: want PEM", cfg.CA)
		}
	}
	if cfg.Cert != "" {
		key := cmp.Or(cfg.Key, cfg.Cert)
		c, err := tls.LoadX509KeyPair(cfg.Cert, key)
		if err != nil {
			return nil, fmt.Errorf("client certificate: %s, key: %s: %w", cfg.Cert, key, err)
		}
		// Whatever authorities the server names: it says best itself what is wrong with this one.
		t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c, nil }
	}
	return t, nil
}

func readToken(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, largestToken+1))
	token := strings.TrimSpace(string(text))
	switch {
	case err != nil:
		return "", fmt.Errorf("token: %w", err)
	case token == "" || len(text) > largestToken || strings.ContainsAny(token, " \t\r\n"):
		return "", fmt.Errorf("token: %s: want one word of at most %d bytes in it", file, largestToken)
	}
	return token, nil
}

// call sends a request with a body, if it is not nil, and reads the answer into result, if
// that is not nil.
func (c *Client) call(ctx context.Context, method, path string, body, result any) error {
	response, err := c.send(ctx, method, path, body, nil)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if result == nil || response.StatusCode == http.StatusNoContent {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, largest))
	if err != nil {
		return c.away(ctx, method, err)
	}
	if err := json.Unmarshal(text, result); err != nil {
		return fmt.Errorf("%s: its answer to %s: %w", c.where, path, err)
	}
	return nil
}

// send sends a request, and returns the answer if it is a good one.
func (c *Client) send(ctx context.Context, method, path string, body any, header http.Header) (*http.Response, error) {
	var text io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		text = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, text)
	if err != nil {
		return nil, err
	}
	if header != nil {
		r.Header = header
	}
	r.Header.Set("Content-Type", "application/json")
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	response, err := c.http.Do(r)
	if err != nil {
		return nil, c.away(ctx, method, err)
	}
	if response.StatusCode/100 == 2 {
		return response, nil
	}
	defer func() { _ = response.Body.Close() }()
	return nil, c.refusal(response)
}

// refusal is the error of an answer.
func (c *Client) refusal(response *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(response.Body, 1<<16)) // what there is of it
	var body struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(text, &body) == nil && body.Error != "" {
		return errors.New(body.Error)
	}
	return fmt.Errorf("%s answers %s: is it a havip?", c.where, response.Status)
}

// away says why there is no answer, and what to do.
func (c *Client) away(ctx context.Context, method string, err error) error {
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded) && method != http.MethodGet:
		// It is done only if havip had begun with it: see refuseAbsent of admin.
		return fmt.Errorf("%w on %s in time: it may be frozen, or very busy. Whether it has begun with this is not known: 'havip events --kind control' tells when it answers again", ErrAway, c.where)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("%w on %s in time: it may be frozen, or very busy", ErrAway, c.where)
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: there is no socket %s: is it running? Another socket is named by --socket or HAVIP_SOCKET", ErrAway, c.where)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("socket %s: permission denied: ask as root, or as a member of the group that 'admin: {group: ...}' names in the daemon's file", c.where)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w on %s: connection refused: it is not running, or listens elsewhere", ErrAway, c.where)
	case errors.As(err, &certificate):
		return fmt.Errorf("%s: %w: name its authority with --ca", c.where, certificate.Err)
	}
	if strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") { // net/http has no error of its own for it
		return fmt.Errorf("%s: no TLS there: ask by http://, or set admin.tls in the daemon's file", c.where)
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return fmt.Errorf("%w on %s: %w", ErrAway, c.where, err)
}
