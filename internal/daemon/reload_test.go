package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/lab"
)

// parse is a configuration.
func parse(t *testing.T, text string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("f.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// startDaemon runs a daemon until the test ends.
func startDaemon(t *testing.T, text string) *Daemon {
	t.Helper()
	return startLogging(t, text, slog.New(slog.DiscardHandler))
}

// startLogging is startDaemon for who wants to see the log.
func startLogging(t *testing.T, text string, log *slog.Logger) *Daemon {
	t.Helper()
	return startFrom(t, parse(t, text), log)
}

// startFrom is startLogging for who has read the configuration.
func startFrom(t *testing.T, cfg *config.Config, log *slog.Logger) *Daemon {
	t.Helper()
	d, err := New(cfg, log, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := d.Reconfigure(cfg); !errors.Is(err, ErrStopped) {
			t.Errorf("reload after the end: %v", err)
		}
	})
	<-d.started
	return d
}

// freePort is one that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	_, port, _ := net.SplitHostPort(lab.FreeAddress(t))
	return port
}

// TestHealthIsCarriedOver: a backend that was down is down for the successor of
// its pool, its monitor and its service from the first moment on.
func TestHealthIsCarriedOver(t *testing.T) {
	alive, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	dead, port := "127.0.0.1:"+freePort(t), freePort(t)
	service := func(name, mode, balance, check string) string {
		return fmt.Sprintf(`services: [{name: %s, listen: "127.0.0.1:%s", mode: %s, balance: %s, backends: ["%s", "%s"]%s}]`,
			name, port, mode, balance, alive.Addr(), dead, check)
	}
	const slow = ", check: {type: tcp, interval: 1h, timeout: 1s, fall: 1}"
	d := startDaemon(t, service("web", "tcp", "round-robin", ", check: {type: tcp, interval: 20ms, fall: 1}"))
	isDown := func() bool { return !d.services[0].upstreams[""].pool.Status().Backends[1].Up }
	until(t, "the dead backend is down", isDown)
	first := d.services[0]
	for _, tc := range []struct {
		name, text string
		same       bool // the service goes on
	}{
		{"another check", service("web", "tcp", "round-robin", slow), true},
		{"another balance", service("web", "tcp", "random", slow), true},
		{"another name", service("web2", "tcp", "random", slow), true},
		{"another mode", service("web2", "http", "random", slow), false},
		{"another check of requests", service("web2", "http", "random", ", check: {type: tcp, interval: 1h, timeout: 2s, fall: 1}"), false},
	} {
		if err := d.Reconfigure(parse(t, tc.text)); err != nil {
			t.Fatal(err)
		}
		if !isDown() {
			t.Errorf("%s: the dead backend is taken for alive", tc.name)
		}
		if (d.services[0] == first) != tc.same {
			t.Errorf("%s: the service goes on: %v, want %v", tc.name, d.services[0] == first, tc.same)
		}
	}
	if err := d.Reconfigure(parse(t, service("web2", "http", "random", ""))); err != nil {
		t.Fatal(err)
	}
	if isDown() {
		t.Error("nobody probes any more, and the backend is still down")
	}
}

// TestWhatStays: what is the same is not touched, wherever it stands in the
// file.
func TestWhatStays(t *testing.T) {
	a, b := freePort(t), freePort(t)
	one := fmt.Sprintf(`{name: a, listen: "127.0.0.1:%s", backends: ["127.0.0.1:9"], check: {type: tcp}}`, a)
	two := fmt.Sprintf(`{name: b, listen: "127.0.0.1:%s", mode: tcp, backends: ["127.0.0.1:9"], check: {type: tcp}}`, b)
	d := startDaemon(t, "services: ["+one+", "+two+"]")
	s := d.services
	monitor := s[0].upstreams[""].probes.monitors["127.0.0.1:9"].monitor
	if err := d.Reconfigure(parse(t, "# moved\nservices:\n- "+two+"\n- "+one)); err != nil {
		t.Fatal(err)
	}
	if d.services[0] != s[1] || d.services[1] != s[0] || s[0].upstreams[""].probes.monitors["127.0.0.1:9"].monitor != monitor {
		t.Error("a service that is the same was replaced")
	}
	other := strings.Replace(one, `"127.0.0.1:9"`, `"127.0.0.1:9", "127.0.0.1:10"`, 1)
	if err := d.Reconfigure(parse(t, "services: ["+other+"]")); err != nil {
		t.Fatal(err)
	}
	if len(d.services) != 1 || d.services[0] != s[0] || s[0].upstreams[""].probes.monitors["127.0.0.1:9"].monitor != monitor || len(s[0].upstreams[""].probes.monitors) != 2 {
		t.Error("a backend more: the service and the monitor of the one that stays should go on")
	}
	until(t, "the service that is gone has let go of its port", func() bool {
		ln, err := net.Listen("tcp", "127.0.0.1:"+b)
		if err == nil {
			ln.Close()
		}
		return err == nil
	})
}

// TestReloadFails: what cannot be opened changes nothing, and leaves nothing
// open.
func TestReloadFails(t *testing.T) {
	a, b := freePort(t), freePort(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	one := fmt.Sprintf(`{name: a, listen: "127.0.0.1:%s", backends: ["127.0.0.1:9"]}`, a)
	d := startDaemon(t, "services: ["+one+"]")
	s := d.services[0]
	err = d.Reconfigure(parse(t, fmt.Sprintf(`services: [{name: b, listen: "127.0.0.1:%s", backends: ["127.0.0.1:9"]},`+
		`{name: c, listen: "%s", backends: ["127.0.0.1:9"]}]`, b, taken.Addr())))
	if err == nil || !strings.Contains(err.Error(), "nothing changed") || !strings.Contains(err.Error(), "f.yaml:1:") {
		t.Errorf("a port in use: %v", err)
	}
	if len(d.services) != 1 || d.services[0] != s {
		t.Error("something changed")
	}
	for port, open := range map[string]bool{a: true, b: false} {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if (err == nil) != open {
			t.Errorf("port %s: %v, want it to be open: %v", port, err, open)
		}
		if err == nil {
			c.Close()
		}
	}
}
