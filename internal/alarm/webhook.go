package alarm

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	// maxAnswer is how much is read of a receiver's answer. What it says of an error is in
	// the first bytes.
	maxAnswer = 4096
	maxSaid   = 200
	// maxRedirects on the same host are followed.
	maxRedirects = 3
	// longestWait bounds what a receiver may ask for with Retry-After.
	longestWait = 10 * time.Minute
)

// failure is why an attempt has failed.
type failure struct {
	err error
	// final: another attempt would fail as well.
	final bool
	// wait is how long the receiver asks to be left alone; 0: it does not say.
	wait time.Duration
}

func (f *failure) Error() string { return f.err.Error() }

// Unwrap returns the error itself.
func (f *failure) Unwrap() error { return f.err }

// post sends a notice to a webhook.
func post(ctx context.Context, c Config, n *Notice) error {
	body, to, err := webhookBody(c, n)
	if err != nil {
		return &failure{err: err, final: true}
	}
	transport, err := c.transport()
	if err != nil {
		return err // the file of authorities may come back
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return &failure{err: withoutURL(err), final: true}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "havip")
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	client := &http.Client{Transport: transport, CheckRedirect: mayFollow}
	resp, err := client.Do(req)
	if err != nil {
		var refused errRedirect
		return &failure{err: withoutURL(err), final: errors.As(err, &refused)}
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return nil // what else it says, however slowly, changes nothing
	}
	said, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return judgeAnswer(resp, c.withoutSecrets(string(said)), time.Now())
}

func webhookBody(c Config, n *Notice) (body []byte, to string, err error) {
	switch c.Format {
	case Slack:
		body, err = slackBody(n)
	case Alertmanager:
		body, err = alertBody(n, time.Now())
		return body, alertURL(c.Webhook), err
	default:
		body, err = json.Marshal(n)
	}
	return body, c.Webhook, err
}

// transport makes connections as c wants them. None is kept: alarms are rare.
func (c Config) transport() (*http.Transport, error) {
	encryption, err := c.tls("")
	if err != nil {
		return nil, err
	}
	t := &http.Transport{TLSClientConfig: encryption, DisableKeepAlives: true, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 64 << 10}
	if c.Proxy != "" {
		proxy, err := url.Parse(c.Proxy)
		if err != nil {
			return nil, withoutURL(err)
		}
		t.Proxy = http.ProxyURL(proxy)
	}
	return t, nil
}

// tls is how servers are judged. The file is read each time, so that a renewed one counts.
func (c Config) tls(name string) (*tls.Config, error) {
	t := &tls.Config{ServerName: name, MinVersion: tls.VersionTLS12}
	if c.CA == "" {
		return t, nil
	}
	pem, err := os.ReadFile(c.CA)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	if t.RootCAs = x509.NewCertPool(); !t.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca: %s: no certificates in PEM form", c.CA)
	}
	return t, nil
}

// errRedirect is a redirect that is not followed.
type errRedirect string

func (e errRedirect) Error() string { return string(e) }

// mayFollow lets a receiver move on its own host. To another host, or out of TLS, goes
// neither the alarm nor the token; and a redirect that makes a GET of the POST tells
// nothing.
func mayFollow(req *http.Request, via []*http.Request) error {
	first := via[0].URL
	switch {
	case req.URL.Scheme != first.Scheme || req.URL.Host != first.Host:
		return errRedirect("redirected to another host or scheme: want the URL itself in the configuration")
	case req.Method != http.MethodPost:
		return errRedirect("redirected by a status that makes a GET of the POST: want 307 or 308")
	case len(via) > maxRedirects:
		return errRedirect("redirected too often")
	}
	return nil
}

// withoutURL takes the URL, which is a secret, from an error.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// shortestSecret is the fewest characters of a part of a path that is taken for a secret.
const shortestSecret = 8

// withoutSecrets takes from what a receiver says whatever it repeats of the URL and of the
// token: many a server's page of an error names the path that it does not know.
func (c Config) withoutSecrets(said string) string {
	secrets := []string{c.Webhook, c.Token}
	if u, err := url.Parse(c.Webhook); err == nil {
		password, _ := u.User.Password()
		secrets = append(secrets, password, u.RawQuery)
		for _, values := range u.Query() {
			secrets = append(secrets, values...)
		}
		for _, path := range []string{u.Path, u.EscapedPath()} {
			for part := range strings.SplitSeq(path, "/") {
				if len(part) >= shortestSecret {
					secrets = append(secrets, part)
				}
			}
		}
	}
	for _, secret := range secrets {
		if secret != "" {
			said = strings.ReplaceAll(said, secret, "[hidden]")
		}
	}
	return said
}

// judgeAnswer is about a status that is no success: what a receiver refuses it would refuse
// again, but for a lack of time.
func judgeAnswer(resp *http.Response, said string, now time.Time) error {
	status := resp.StatusCode
	text := fmt.Sprintf("the receiver answers %d", status)
	if s := strings.TrimSpace(oneLine(said)); s != "" {
		text += ": " + strconv.Quote(cut(s, maxSaid))
	}
	again := status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout || status == http.StatusTooEarly
	f := &failure{err: errors.New(text), final: !again}
	if again {
		f.wait = retryAfter(resp.Header.Get("Retry-After"), now)
	}
	return f
}

// retryAfter reads seconds or a date (RFC 9110 §10.2.3). What is neither counts as 0.
func retryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return min(time.Duration(n)*time.Second, longestWait)
	}
	at, err := http.ParseTime(s)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), longestWait)
}
