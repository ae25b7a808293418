package daemon

import (
	"log/slog"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/lb"
)

// allServices uses every key of services that needs no file.
const allServices = `
services:
  - name: web
    listen: 127.0.0.1:8080
    balance: key-hash
    backends:
      - {address: "192.0.2.7:80", name: a, weight: 2, max_conns: 5, drain: true}
      - {address: "192.0.2.8:80", weight: 9}
      - {address: "app.example.org:80", backup: true}
    pool: {max_fails: 0, slow_start: 1s, quorum: 2, hysteresis: 1, panic: 5, kill_on_down: true, drain_timeout: 1s, queue: 5, queue_timeout: 1s}
    tries: 2
    limits: {connections: 5, per_client: 4, rate: 2.5, burst: 3, total_rate: 9, total_burst: 9}
    backend_tls: {insecure: true}
    proxy_protocol: {accept: [192.0.2.0/24]}
    http:
      max_body: 1MiB
      trusted_proxies: [192.0.2.1]
      request_headers: {A: b}
      response_headers: {A: "${backend}"}
    access_log: true
  - name: db
    listen: 127.0.0.1:8080
    mode: udp
    backends: ["192.0.2.7:80"]
    udp: {responses: 1}
    access_log: true
  - name: mail
    listen: 127.0.0.1:8081
    mode: tcp
    limits: {connections: 5}
    routes: [{name: a, server_names: [a.example.org], backends: ["192.0.2.7:80"]}]
    backends: ["192.0.2.8:80"]
    backend_tls: {insecure: true}
    proxy_protocol: {accept: [192.0.2.0/24], send: v1}
    access_log: true
`

// mapped is all that a service tells package lb and net/http.
func mapped(c config.Service) []any {
	return []any{
		tcpConfig(c), udpConfig(c), handlerConfig(c), newFront(planeConfig{service: c}),
	}
}

// TestEveryServiceFieldCounts: a field of a service changes what package lb is
// told, or is named here with the one who looks at it.
func TestEveryServiceFieldCounts(t *testing.T) {
	elsewhere := map[string]string{
		"Pos": "errors", "Name": "logs", "Pool": "newUpstream", "Listen": "listen", "Mode": "newPlane", "Check": "newUpstream",
		"Routes": "prepare", "TLS": "newEncryption", "BackendTLS": "newEncryption", "AccessLog": "prepare",
	}
	base := config.Service{Name: "a"}
	var visit func(path string, v func(*config.Service) reflect.Value)
	visit = func(path string, of func(*config.Service) reflect.Value) {
		v := of(&base)
		if who, ok := elsewhere[path]; v.Kind() == reflect.Struct && !ok && v.Type().PkgPath() == reflect.TypeFor[config.Service]().PkgPath() {
			for i, f := range reflect.VisibleFields(v.Type()) {
				visit(strings.TrimPrefix(path+"."+f.Name, "."), func(s *config.Service) reflect.Value { return of(s).Field(i) })
			}
			return
		} else {
			changed := base
			alterService(t, path, of(&changed))
			if counts := !reflect.DeepEqual(mapped(base), mapped(changed)); counts == ok {
				t.Errorf("config.Service.%s: mapped: %v, and here the business of: %q", path, counts, who)
			}
		}
	}
	visit("", func(s *config.Service) reflect.Value { return reflect.ValueOf(s).Elem() })
}

// alterService gives v a value other than the one it has.
func alterService(t *testing.T, path string, v reflect.Value) {
	t.Helper()
	switch to := v.Addr().Interface().(type) {
	case *string:
		*to = "v2"
	case *bool:
		*to = !*to
	case *int:
		*to += 7
	case *int64:
		*to += 7
	case *float64:
		*to += 7
	case *time.Duration:
		*to += 7 * time.Second
	case *[]netip.Prefix:
		*to = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	case *[]config.Header:
		*to = []config.Header{{Name: "A", Value: "b"}}
	case *lb.PoolConfig:
		to.Quorum = 7
	case *lb.Limits:
		to.Connections = 7
	case *config.Position:
		to.Line = 7
	case *netip.AddrPort:
		*to = netip.MustParseAddrPort("192.0.2.7:80")
	case **config.Check:
		*to = new(config.Check)
	case **config.ServerTLS:
		*to = new(config.ServerTLS)
	case **config.BackendTLS:
		*to = new(config.BackendTLS)
	case *[]config.ServiceRoute:
		*to = make([]config.ServiceRoute, 1)
	default:
		t.Fatalf("%s: no other value for a %v: add one", path, v.Type())
	}
}

// TestEveryPlaneOptionIsReachable: no option of planes is out of a
// configuration's reach.
func TestEveryPlaneOptionIsReachable(t *testing.T) {
	cfg := parse(t, allServices)
	ours := map[string]bool{ // not for a configuration
		"TCPConfig.NoSplice": true,
		"HandlerConfig.Key": true, "HandlerConfig.Dial": true, "HandlerConfig.ModifyResponse": true,
		"HandlerConfig.ErrorHandler": true, "HandlerConfig.ClientTimeout": true,
	}
	seen := map[string]bool{}
	note := func(x any) {
		v := reflect.Indirect(reflect.ValueOf(x))
		for i, f := range reflect.VisibleFields(v.Type()) {
			name := v.Type().Name() + "." + f.Name
			seen[name] = seen[name] || f.IsExported() && !v.Field(i).IsZero()
			if !f.IsExported() {
				delete(seen, name)
			}
		}
	}
	d := &Daemon{log: slog.New(slog.DiscardHandler), access: lb.NewConnLog(1)}
	for _, c := range cfg.Services {
		s, err := d.newService(c, nil)
		if err == nil {
			err = s.equip(s.parts, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		switch p := s.plane.(type) {
		case *tcpPlane:
			p.cfg.TLS = s.tls.back // A certificate takes a file: see the tests of TLS.
			note(p.cfg)
		case *udpPlane:
			note(p.cfg)
		case *httpPlane:
			note(p.cfg)
		}
	}
	for name, set := range seen {
		if set == ours[name] {
			t.Errorf("lb.%s: set by the configuration: %v", name, set)
		}
	}
}
