package daemon

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"sync"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/internal/config"
)

// check is one that routers follow.
type check struct {
	cfg     config.Check
	monitor *healthcheck.Monitor
	task    *task
}

// state is what is known so far; of a nil check nothing.
func (c *check) state() healthcheck.State {
	if c == nil {
		return healthcheck.Unknown
	}
	return c.monitor.Status().State
}

// follow subscribes fn to a monitor. cancel waits for a call that is under way, so that
// nothing comes after it; fn must not call it.
func follow(m *healthcheck.Monitor, fn func(healthcheck.Status)) (cancel func()) {
	var mu sync.Mutex
	cancelled := false
	unsubscribe := m.Subscribe(func(s healthcheck.Status) {
		mu.Lock()
		defer mu.Unlock()
		if !cancelled {
			fn(s)
		}
	})
	return func() {
		unsubscribe()
		mu.Lock()
		defer mu.Unlock()
		cancelled = true
	}
}

// newMonitor makes the monitor of one check. backend is the address to probe
// if the check is a service's, and empty if the check names its own target.
// known is the state that an earlier one has found, if any.
func newMonitor(c config.Check, name, backend string, known healthcheck.State, log *slog.Logger) (*healthcheck.Monitor, error) {
	checker, err := newRenewing(c, backend, log)
	if err != nil {
		return nil, err
	}
	mc := monitorConfig(c)
	mc.Name, mc.Checker, mc.Logger = name, checker, log
	if known != healthcheck.Unknown {
		mc.Initial = known
	}
	return healthcheck.NewMonitor(mc)
}

// monitorConfig is what all types have in common.
func monitorConfig(c config.Check) healthcheck.Config {
	mc := healthcheck.Config{
		Interval:     c.Interval,
		FastInterval: c.FastInterval,
		DownInterval: c.DownInterval,
		Timeout:      c.Timeout,
		LongTimeout:  c.LongTimeout,
		StartSpread:  c.StartSpread,
		Jitter:       c.Jitter,
		Rise:         c.Rise,
		Fall:         c.Fall,
		HoldDown:     c.HoldDown,
		FailStatic:   c.OnError == "ignore",
	}
	switch c.Initial {
	case "up":
		mc.Initial = healthcheck.Up
	case "down":
		mc.Initial = healthcheck.Down
	}
	return mc
}

// checkFiles reports which files of a check cannot be read.
func checkFiles(c *config.Check) error {
	_, err := tlsConfig(c.TLS)
	return err
}

// renewing is a checker that is made anew when the file of its authorities was
// changed, so that they can be renewed in place. While the file cannot be read,
// as in the middle of being written, those before count. A check fails until its
// files could be read once.
type renewing struct {
	healthcheck.Checker // nil: it could not be made yet
	cfg                 config.Check
	backend             string
	log                 *slog.Logger
	file                os.FileInfo // as it was just before it was read
}

// newRenewing returns a checker of c, a renewing one where that makes sense.
func newRenewing(c config.Check, backend string, log *slog.Logger) (healthcheck.Checker, error) {
	if c.TLS == nil || c.TLS.CA == "" && c.TLS.Certificate == "" {
		return newChecker(c, backend)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	r := &renewing{cfg: c, backend: backend, log: log}
	_ = r.renew() // the first check says what is wrong
	return r, nil
}

// Check is not called twice at the same time.
func (r *renewing) Check(ctx context.Context) error {
	err := r.renew()
	if r.Checker == nil {
		return err
	}
	if err != nil {
		r.log.Warn("the authorities of a check cannot be read again", "check", r.cfg.Name, "backend", r.backend, "err", err)
	}
	return r.Checker.Check(ctx)
}

// String says what is checked.
func (r *renewing) String() string {
	if s, ok := r.Checker.(fmt.Stringer); ok {
		return s.String()
	}
	return r.cfg.Type
}

// Validate reports what is wrong with the checker.
func (r *renewing) Validate() error {
	if v, ok := r.Checker.(interface{ Validate() error }); ok {
		return v.Validate()
	}
	return nil
}

// renew makes the checker of the file as it is now, unless it is of that
// already. A mistake is told once.
func (r *renewing) renew() error {
	file, err := os.Stat(r.cfg.TLS.CA)
	switch {
	case r.Checker == nil:
	case err != nil && r.file == nil:
		return nil // told before, or it has no such file
	case err == nil && r.file != nil && os.SameFile(file, r.file) && file.Size() == r.file.Size() && file.ModTime().Equal(r.file.ModTime()):
		return nil
	}
	r.file = file
	checker, err := newChecker(r.cfg, r.backend)
	if err == nil {
		r.Checker = checker
	}
	return err
}

func newChecker(c config.Check, backend string) (healthcheck.Checker, error) {
	encryption, err := tlsConfig(c.TLS)
	if err != nil {
		return nil, err
	}
	address := c.Address
	if address == "" {
		address = backend
	}
	switch c.Type {
	case "tcp":
		return &healthcheck.TCP{Address: address, Send: []byte(c.Send), Expect: []byte(c.Expect), ExpectRegexp: expression(c.ExpectRegexp)}, nil
	case "http":
		return newHTTPChecker(c, backend, encryption), nil
	case "grpc":
		return &healthcheck.GRPC{Address: address, Service: c.Service, Authority: c.Authority, TLS: encryption}, nil
	case "dns":
		return &healthcheck.DNS{Server: address, Name: c.Query, Type: c.Record, Expect: c.Answers, TCP: c.OverTCP}, nil
	case "icmp":
		if c.Target == "" {
			c.Target = hostOf(backend)
		}
		return &healthcheck.ICMP{Address: c.Target}, nil
	case "udp":
		return &healthcheck.UDP{Address: address, Send: []byte(c.Send), Expect: []byte(c.Expect),
			ExpectRegexp: expression(c.ExpectRegexp), AllowSilence: c.AllowSilence}, nil
	case "smtp":
		return &healthcheck.SMTP{Address: address, Hello: c.Hello, StartTLS: c.StartTLS, TLS: encryption}, nil
	case "tls":
		return &healthcheck.TLS{Address: address, Config: encryption, MinValidity: c.MinValidity}, nil
	}
	return newLocalChecker(c)
}

// newLocalChecker makes the checkers that look at this machine.
func newLocalChecker(c config.Check) (healthcheck.Checker, error) {
	switch c.Type {
	case "exec":
		e := &healthcheck.Exec{Path: c.Command[0], Args: c.Command[1:], User: c.User, Dir: c.Directory}
		for _, v := range c.Environment {
			e.Env = append(e.Env, v.Name+"="+v.Value)
		}
		return e, nil
	case "file":
		return &healthcheck.File{Path: c.File, Absent: c.Absent, MaxAge: c.MaxAge, Content: expression(c.Content)}, nil
	case "process":
		return &healthcheck.Process{PIDFile: c.PIDFile, Name: c.Process, Min: c.MinProcesses}, nil
	case "interface":
		return &healthcheck.Interface{Name: c.Interface}, nil
	case "gateway":
		return &healthcheck.Gateway{Interface: c.Interface, Address: c.Gateway}, nil
	}
	return nil, fmt.Errorf("%v: check type %q is unknown", c.Pos, c.Type)
}

// expression compiles what config has accepted; nil for none.
func expression(s string) *regexp.Regexp {
	if s == "" {
		return nil
	}
	return regexp.MustCompile(s)
}

func hostOf(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}

func newHTTPChecker(c config.Check, backend string, encryption *tls.Config) *healthcheck.HTTP {
	h := &healthcheck.HTTP{
		URL: c.URL, Method: c.Method, Host: c.Host, Body: expression(c.Body), MaxBody: c.MaxBody, TLS: encryption,
	}
	if h.URL == "" {
		u := url.URL{Scheme: "http", Host: backend}
		if encryption != nil {
			u.Scheme = "https"
		}
		h.URL = u.String() + c.Path
	}
	if len(c.Headers) > 0 {
		h.Header = http.Header{}
		for _, f := range c.Headers {
			h.Header.Add(f.Name, f.Value)
		}
	}
	for _, s := range c.Status {
		h.Status = append(h.Status, healthcheck.StatusRange{Min: s.Min, Max: s.Max})
	}
	return h
}

// tlsConfig reads the files that c names; nil stays nil. The client's
// certificate is read again for each connection, so that it can be renewed; of
// the authorities renewing sees to that.
func tlsConfig(c *config.TLS) (*tls.Config, error) {
	if c == nil {
		return nil, nil
	}
	tc := &tls.Config{ServerName: c.ServerName, NextProtos: c.ALPN, InsecureSkipVerify: c.Insecure}
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		tc.RootCAs = x509.NewCertPool()
		if !tc.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca: %s: no certificates in PEM form", c.CA)
		}
	}
	if c.Certificate != "" {
		load := func() (*tls.Certificate, error) {
			cert, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
			if err != nil {
				return nil, fmt.Errorf("certificate: %w", err)
			}
			return &cert, nil
		}
		if _, err := load(); err != nil {
			return nil, err
		}
		tc.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return tc, nil
}
