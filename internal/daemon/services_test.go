package daemon

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/havip/havip/internal/lab/labtest"
)

// echoServer answers each line with its name and the line.
func echoServer(t *testing.T, name string) string {
	t.Helper()
	return labtest.Listen(t, labtest.EchoLines(name))
}

// say sends a line and returns the answer.
func say(c net.Conn, line string) (string, error) {
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := fmt.Fprintln(c, line); err != nil {
		return "", err
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(answer), err
}

func mustReload(t *testing.T, d *Daemon, text string) {
	t.Helper()
	if err := d.Reconfigure(parse(t, text)); err != nil {
		t.Fatal(err)
	}
}

// TestPoolIsCarriedOver: counters, ejections, drains and connections survive
// whatever changes about a service but its backends.
func TestPoolIsCarriedOver(t *testing.T) {
	alive, spare, dead := echoServer(t, "a"), echoServer(t, "s"), "127.0.0.1:"+freePort(t)
	port, port2 := freePort(t), freePort(t)
	service := func(name, port, rest string) string {
		return fmt.Sprintf(`services: [{name: %s, listen: "127.0.0.1:%s", backends: ["%s", "%s", "%s"], %s}]`, name, port, alive, dead, spare, rest)
	}
	const pool = "pool: {fail_timeout: 1h}"
	d := startDaemon(t, service("db", port, "mode: tcp, "+pool))
	var conns []net.Conn
	for range 3 {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := say(c, "x"); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	first := d.services[0].upstreams[""].pool
	if !first.SetDrain(spare, true) {
		t.Fatal("no backend to drain")
	}
	before := first.Status()
	if b := before.Backends[1]; !b.Ejected || b.Failures != 1 || before.Backends[0].Active == 0 {
		t.Fatalf("%+v", before)
	}
	for _, tc := range []struct{ name, text string }{
		{"another balance", service("db", port, "mode: tcp, balance: least-conn, "+pool)},
		{"another name", service("db2", port, "mode: tcp, balance: maglev, "+pool)},
		{"another setting of the pool", service("db2", port, "mode: tcp, pool: {fail_timeout: 2h, slow_start: 1s, queue: 5}")},
		{"another timeout", service("db2", port, "mode: tcp, idle_timeout: 2h, tries: 2, pool: {fail_timeout: 2h}")},
		{"another mode", service("db2", port, "mode: http, pool: {fail_timeout: 2h}")},
		{"another address", service("db2", port2, "mode: http, pool: {fail_timeout: 2h}")},
		{"another network", service("db2", port2, "mode: udp, pool: {fail_timeout: 2h}")},
		{"and all the way back", service("db2", port, "mode: tcp, pool: {fail_timeout: 2h}")},
		{"and forth again at once", service("db2", port2, "mode: http, pool: {fail_timeout: 2h}")},
		{"and back again", service("db2", port, "mode: tcp, pool: {fail_timeout: 2h}")},
	} {
		if strings.Contains(tc.text, "mode: udp") && runtime.GOOS != "linux" {
			continue // see lb.UDP
		}
		mustReload(t, d, tc.text)
		cfg := d.services[0].cfg
		after := d.services[0].upstreams[""].pool.Status()
		if after.Name != cfg.Name {
			t.Errorf("%s: the pool is called %s", tc.name, after.Name)
		}
		for i, b := range after.Backends {
			was := before.Backends[i]
			if b.Active != was.Active || b.Picks != was.Picks || b.Failures != was.Failures || b.Ejected != was.Ejected || b.Draining != was.Draining {
				t.Errorf("%s: %+v, was %+v", tc.name, b, was)
			}
		}
	}
	for _, c := range conns {
		if got, err := say(c, "y"); err != nil || !strings.HasSuffix(got, " y") {
			t.Errorf("an established connection: %q, %v", got, err)
		}
	}
}

// TestRoutesComeAndGo: each route has a pool that lives as long as its name
// stays, and connections to one that is gone are cut when the pool says so.
func TestRoutesComeAndGo(t *testing.T) {
	a, b := echoServer(t, "a"), echoServer(t, "b")
	port := freePort(t)
	service := func(rest string) string {
		return fmt.Sprintf(`services: [{name: mail, listen: "127.0.0.1:%s", mode: tcp, %s}]`, port, rest)
	}
	route := func(name, backend string) string {
		return fmt.Sprintf(`{name: %s, server_names: [%s.example.org], backends: ["%s"]}`, name, name, backend)
	}
	d := startDaemon(t, service("routes: ["+route("a", a)+"]"))
	pool := d.services[0].upstreams["a"].pool
	mustReload(t, d, service("routes: ["+route("b", b)+", "+route("a", a)+`], backends: ["`+b+`"]`))
	if n := len(d.services[0].upstreams); n != 3 || d.services[0].upstreams["a"].pool != pool {
		t.Errorf("%d pools, want 3, and route a's to stay", n)
	}
	c, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// What is no TLS goes to the service's own backends.
	if got, err := say(c, "x"); err != nil || got != "b x" {
		t.Fatalf("%q, %v", got, err)
	}
	mustReload(t, d, service("pool: {drain_timeout: 10ms}, routes: ["+route("a", a)+`], backends: ["`+b+`"]`))
	if len(d.services[0].upstreams) != 2 || len(pool.Status().Backends) != 1 {
		t.Errorf("%d pools, want 2", len(d.services[0].upstreams))
	}
	if got, err := say(c, "y"); err != nil || got != "b y" {
		t.Errorf("a connection of backends that stay: %q, %v", got, err)
	}
	mustReload(t, d, service("pool: {drain_timeout: 10ms}, routes: ["+route("a", a)+"]"))
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.ReadAll(c); err != nil && os.IsTimeout(err) {
		t.Error("a connection of backends that are gone was not cut")
	}
}

// TestAccessLog: what ended is logged with the service's name, also when no
// backend was involved.
func TestAccessLog(t *testing.T) {
	backend, port := echoServer(t, "a"), freePort(t)
	text := fmt.Sprintf(`services: [{name: db, listen: "127.0.0.1:%s", mode: tcp, backends: ["%s"], access_log: true, proxy_protocol: {accept: [127.0.0.1]}}]`, port, backend)
	var out labtest.Log
	d, err := New(parse(t, text), slog.New(slog.NewTextHandler(&out, nil)), nil, false)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	<-d.started
	for _, header := range []string{"PROXY TCP4 192.0.2.7 192.0.2.8 1234 80\r\nx", "nonsense"} {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = say(c, header)
		c.Close()
	}
	for _, want := range []string{"service=db client=192.0.2.7:1234 backend=" + backend, "service=db client=127.0.0.1:"} {
		until(t, want+" is logged", func() bool { return strings.Contains(out.String(), want) })
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestServiceThatCannotListen: a service whose port somebody else has taken when
// its predecessor let go of it waits for the port. The daemon goes on, and no other
// service notices.
func TestServiceThatCannotListen(t *testing.T) {
	port, other := freePort(t), freePort(t)
	text := func(listen string) string {
		return fmt.Sprintf(`services: [{name: a, listen: "%s:%s", mode: tcp, backends: ["127.0.0.1:9"]},`+
			`{name: b, listen: "127.0.0.1:%s", mode: tcp, backends: ["127.0.0.1:9"]}]`, listen, port, other)
	}
	d := startDaemon(t, text("127.0.0.1"))
	taken, err := net.Listen("tcp", "127.0.0.2:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if err := d.Reconfigure(parse(t, text(""))); err == nil || !strings.Contains(err.Error(), "it does not run yet") {
		t.Errorf("Reload: %v", err)
	}
	open := func(address string) bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	}
	if !open("127.0.0.1:" + other) {
		t.Error("the other service has gone")
	}
	taken.Close()
	until(t, "the service has its port", func() bool { return open("127.0.0.3:" + port) })
	if err := d.Reconfigure(parse(t, text(""))); err != nil || len(d.services) != 2 {
		t.Errorf("the same file again: %v, %d services", err, len(d.services))
	}
}

// failingPlane fails as soon as it serves.
type failingPlane struct {
	plane // nil: nothing else is asked of it
	began []time.Time
}

func (p *failingPlane) serve(context.Context, io.Closer, reopener) error {
	p.began = append(p.began, time.Now())
	return errors.New("no descriptors")
}

// TestServiceErrorsEndNothing: a service whose plane fails is begun again, after longer and
// longer pauses, whatever its mode. The log says so.
func TestServiceErrorsEndNothing(t *testing.T) {
	for _, mode := range []string{"http", "tcp", "udp"} {
		t.Run(mode, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := parse(t, `services: [{name: a, listen: "127.0.0.1:1", backends: ["127.0.0.1:9"]}]`).Services[0]
				cfg.Mode, cfg.Listen = mode, netip.MustParseAddrPort("127.0.0.1:0")
				var out labtest.Log
				fails := new(failingPlane)
				s := &service{cfg: cfg, plane: fails}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				start := time.Now()
				s.run(ctx, &servicePlan{cfg: cfg, parts: planeConfig{log: slog.New(slog.NewTextHandler(&out, nil))}})
				var at []time.Duration
				for _, began := range fails.began {
					at = append(at, began.Sub(start)/time.Second)
				}
				if want := []time.Duration{0, 1, 3, 7, 15, 31}; !slices.Equal(at, want) {
					t.Errorf("it begins after %d s, want %d", at, want)
				}
				if want := `msg="service does not run" err="no descriptors" retry=16s`; !strings.Contains(out.String(), want) {
					t.Errorf("no %q in\n%s", want, &out)
				}
			})
		})
	}
}
