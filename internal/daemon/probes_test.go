package daemon

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

// addresses is a resolver of one name, whatever it is asked for.
type addresses struct {
	mu   sync.Mutex
	list []netip.Addr
	hold <-chan struct{} // no answer before it is closed; nil: at once
}

func (a *addresses) set(list ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list = nil
	for _, s := range list {
		a.list = append(a.list, netip.MustParseAddr(s))
	}
}

func (a *addresses) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	if a.hold != nil {
		select {
		case <-a.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]netip.Addr(nil), a.list...), nil
}

func (a *addresses) LookupSRV(context.Context, string, string, string) (string, []*net.SRV, error) {
	return "", nil, errors.New("no SRV records")
}

// using is parse for a service whose names a resolver knows.
func using(t *testing.T, r *addresses, text string) *config.Config {
	t.Helper()
	cfg := parse(t, text)
	cfg.Services[0].Pool.Resolver = r
	return cfg
}

// site answers at one port of several loopback addresses: at each with its status and the
// address, 0: never, and remembers the Host that it was asked for.
type site struct {
	port  string
	mu    sync.Mutex
	hosts map[string]string // by address
}

func newSite(t *testing.T, statuses map[string]int) *site {
	t.Helper()
	s := &site{port: freePort(t), hosts: map[string]string{}}
	for ip, status := range statuses {
		ln, err := net.Listen("tcp", net.JoinHostPort(ip, s.port))
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.mu.Lock()
			s.hosts[ip] = r.Host
			s.mu.Unlock()
			if status == 0 {
				<-r.Context().Done()
				return
			}
			w.WriteHeader(status)
			fmt.Fprint(w, ip)
		})}
		go server.Serve(ln)
		t.Cleanup(func() { server.Close() })
	}
	return s
}

// health says of each backend of the first service whether it is up, and is checked.
func health(d *Daemon) string {
	pool := d.View().Services[0].Pools[0]
	checked := map[string]string{}
	for _, m := range pool.Monitors() {
		checked[m.Backend] = " checked"
	}
	var list []string
	for _, b := range pool.Status().Backends {
		up := map[bool]string{true: "up", false: "down"}[b.Up]
		list = append(list, cmp.Or(strings.TrimPrefix(b.Name, "app/"), b.Name)+" "+up+checked[b.Name])
	}
	return strings.Join(list, ", ")
}

func untilHealth(t *testing.T, d *Daemon, want string) {
	t.Helper()
	got := ""
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if got = health(d); got == want {
			return
		}
	}
	t.Fatalf("%q, want %q", got, want)
}

// TestEachAddressIsCheckedByItself: no address is up because another one answers. Its
// monitor comes and goes with it, asks for the name, and knows after a reload what it knew.
func TestEachAddressIsCheckedByItself(t *testing.T) {
	s := newSite(t, map[string]int{"127.0.0.1": 503, "127.0.0.2": 200, "127.0.0.3": 503})
	r := &addresses{}
	r.set("127.0.0.1", "127.0.0.2")
	port := freePort(t)
	service := func(check string) string {
		return fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", backends: [{name: app, address: "app.test:%s"}],
  pool: {resolve_interval: 100ms, max_fails: 0}%s}]`, port, s.port, check)
	}
	const fast, slow = ", check: {type: http, interval: 50ms, fall: 1}", ", check: {type: http, interval: 1h, timeout: 5s, fall: 1}"
	d := startFrom(t, using(t, r, service(fast)), slog.New(slog.DiscardHandler))
	at := func(text string) string { return strings.ReplaceAll(text, ":PORT", ":"+s.port) }
	untilHealth(t, d, at("127.0.0.1:PORT down checked, 127.0.0.2:PORT up checked"))
	for range 4 {
		resp, err := http.Get("http://127.0.0.1:" + port)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("a request got %s", resp.Status)
		}
	}
	s.mu.Lock()
	if got := s.hosts["127.0.0.1"]; got != "app.test:"+s.port {
		t.Errorf("the check asked for %q", got)
	}
	s.mu.Unlock()

	r.set("127.0.0.2", "127.0.0.3")
	untilHealth(t, d, at("127.0.0.2:PORT up checked, 127.0.0.3:PORT down checked"))

	monitor := d.services[0].upstreams[""].probes.monitors[at("app/127.0.0.3:PORT")].monitor
	reload := func(text, want string) {
		t.Helper()
		if err := d.Reconfigure(using(t, r, text)); err != nil {
			t.Fatal(err)
		}
		if got := health(d); got != at(want) {
			t.Errorf("%q, want %q", got, at(want))
		}
	}
	reload(strings.Replace(service(fast), "name: app", "name: app2", 1), "app2/127.0.0.2:PORT up checked, app2/127.0.0.3:PORT down checked")
	// The name is in the monitor's log lines, so another one takes over, with what is known.
	next := d.services[0].upstreams[""].probes.monitors[at("app2/127.0.0.3:PORT")].monitor
	if next == monitor {
		t.Error("another name of a backend: its lines have the name of before")
	}
	reload(service(fast), "127.0.0.2:PORT up checked, 127.0.0.3:PORT down checked")
	reload(service(slow), "127.0.0.2:PORT up checked, 127.0.0.3:PORT down checked")
	reload(service(""), "127.0.0.2:PORT up, 127.0.0.3:PORT up")
}

// TestFirstAddressIsChecked: a name with one address at a time is checked at that, and what
// was found at the address before says nothing of the next one.
func TestFirstAddressIsChecked(t *testing.T) {
	s := newSite(t, map[string]int{"127.0.0.1": 503, "127.0.0.2": 0})
	r := &addresses{}
	r.set("127.0.0.1", "127.0.0.2")
	d := startFrom(t, using(t, r, fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", backends: [{name: app, address: "app.test:%s", resolve: first}],
  pool: {resolve_interval: 100ms}, check: {type: http, interval: 1h, timeout: 1m, long_timeout: true, fall: 1}}]`, freePort(t), s.port)), slog.New(slog.DiscardHandler))
	untilHealth(t, d, "app down checked")
	r.set("127.0.0.2")
	untilHealth(t, d, "app up checked")
}

// TestAddressesAfterACheckByName: a check by the name, while there is no address, says nothing
// of the addresses that come then, nor of those that come when nobody checks any more.
func TestAddressesAfterACheckByName(t *testing.T) {
	s := newSite(t, map[string]int{"127.0.0.1": 200, "127.0.0.2": 200, "127.0.0.3": 200})
	for _, early := range []bool{true, false} { // the check ends before there is an address
		r, port := &addresses{}, freePort(t)
		service := func(check string) string {
			return fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", backends: [{name: app, address: "app.invalid:%s"}],
  pool: {resolve_interval: 100ms}%s}]`, port, s.port, check)
		}
		d := startFrom(t, using(t, r, service(", check: {type: http, interval: 50ms, timeout: 5s, long_timeout: true, fall: 1}")), slog.New(slog.DiscardHandler))
		untilHealth(t, d, "app down checked")
		if !early {
			r.set("127.0.0.1", "127.0.0.2")
			untilHealth(t, d, fmt.Sprintf("127.0.0.1:%s up checked, 127.0.0.2:%[1]s up checked", s.port))
		}
		if err := d.Reconfigure(using(t, r, service(""))); err != nil {
			t.Fatal(err)
		}
		r.set("127.0.0.1", "127.0.0.2", "127.0.0.3")
		untilHealth(t, d, fmt.Sprintf("127.0.0.1:%s up, 127.0.0.2:%[1]s up, 127.0.0.3:%[1]s up", s.port))
	}
}

// TestServiceAwaitsNames: whoever connects while the names of backends are looked up is
// served.
func TestServiceAwaitsNames(t *testing.T) {
	backend := labtest.Listen(t, labtest.EchoLines("app"))
	_, appPort, _ := net.SplitHostPort(backend)
	for {
		hold := make(chan struct{})
		r := &addresses{hold: hold}
		r.set("127.0.0.1")
		port := freePort(t)
		start := time.Now()
		startFrom(t, using(t, r, fmt.Sprintf(`services: [{name: db, listen: "127.0.0.1:%s", mode: tcp, backends: ["app.invalid:%s"]}]`, port, appPort)),
			slog.New(slog.DiscardHandler))
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		time.Sleep(100 * time.Millisecond)
		close(hold)
		got, err := say(c, "hello")
		if time.Since(start) > namesPatience {
			continue // a busy machine: nobody waits for that long
		}
		if err != nil || got != "app hello" {
			t.Errorf("%q, %v", got, err)
		}
		return
	}
}

// TestChecksBeginAsConnectionsDo: where connections to backends begin with a PROXY header, in
// front of TLS, so do checks, also after a reload that changes it.
func TestChecksBeginAsConnectionsDo(t *testing.T) {
	own := labtest.Certificate(nil, nil, "app.test")
	var mu sync.Mutex
	var last string // the header of the last connection that went on with TLS
	app := labtest.Listen(t, func(c net.Conn) {
		header, err := labtest.ReadProxyHeader(c)
		secure := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{own}})
		if err == nil && secure.Handshake() == nil {
			mu.Lock()
			last = string(header)
			mu.Unlock()
			labtest.EchoLines("app")(secure)
		}
	})
	begins := func(header string) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return strings.HasPrefix(last, header)
		}
	}
	port := freePort(t)
	service := func(send string) *config.Config {
		return parse(t, fmt.Sprintf(`services: [{name: db, mode: tcp, listen: "127.0.0.1:%s", backends: [{name: app, address: "%s"}], pool: {max_fails: 0},
  backend_tls: {insecure: true}, proxy_protocol: {send: %s}, check: {type: tls, tls: {insecure: true}, interval: 50ms, timeout: 5s, long_timeout: true, initial: down}}]`, port, app, send))
	}
	d := startFrom(t, service("v1"), slog.New(slog.DiscardHandler))
	untilHealth(t, d, "app up checked")
	lab.Until(t, 30*time.Second, "a header of version 1", begins("PROXY TCP4 127.0.0.1 127.0.0.1 "))
	if err := d.Reconfigure(service("v2")); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 30*time.Second, "a header of version 2 that says LOCAL", begins("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"))
	c, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	fmt.Fprintln(c, "hello")
	if got, err := bufio.NewReader(c).ReadString('\n'); got != "app hello\n" || err != nil {
		t.Errorf("a connection: %q, %v", got, err)
	}
	if err := d.Reconfigure(service("none")); err != nil {
		t.Fatal(err)
	}
	untilHealth(t, d, "app down checked")
}
