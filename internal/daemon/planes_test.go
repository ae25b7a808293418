package daemon

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"

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

// TestEveryServiceFieldCounts: a field of a service changes what a plane is made
// of, or is named here with the one who looks at it.
func TestEveryServiceFieldCounts(t *testing.T) {
	elsewhere := map[string]string{
		"Pos": "errors", "Name": "logs", "Listen": "openSocket", "Mode": "newPlane", "Pool": "upstreamConfigs", "Check": "upstreamConfigs",
		"Routes": "upstreamConfigs", "TLS": "newEncryption", "BackendTLS": "newEncryption", "AccessLog": "prepareParts", "RuleFiles": "newRuleFiles",
	}
	both := []string{"Limits", "AcceptProxy"} // of tcp and http
	pool, err := lb.NewPool(lb.PoolConfig{})
	if err != nil {
		t.Fatal(err)
	}
	planes := func(c config.Service) (all []any) {
		for _, c.Mode = range []string{"tcp", "udp", "http"} {
			p := planeConfig{service: c, pool: pool}
			if err := p.validate(); err != nil {
				t.Fatal(err)
			}
			switch c.Mode {
			case "tcp":
				all = append(all, p.tcp())
			case "udp":
				all = append(all, p.udp())
			case "http":
				all = append(all, p.http())
			}
		}
		return all
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[config.Service]()) {
		var changed config.Service
		switch to := reflect.ValueOf(&changed).Elem().FieldByIndex(f.Index).Addr().Interface().(type) {
		case *lb.Limits:
			to.Connections = 7
		case *[]netip.Prefix:
			*to = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		case *lb.TCPConfig:
			to.Tries = 7
		case *lb.UDPConfig:
			to.Responses = 7
		case *lb.HTTPConfig:
			to.Tries = 7
		}
		changes, want := 0, 1
		for i, p := range planes(changed) {
			if !reflect.DeepEqual(p, planes(config.Service{})[i]) {
				changes++
			}
		}
		if slices.Contains(both, f.Name) {
			want = 2
		}
		who, ok := elsewhere[f.Name]
		if ok {
			want = 0
		}
		if changes != want {
			t.Errorf("config.Service.%s changes %d planes, want %d; it is the business of: %q", f.Name, changes, want, who)
		}
	}
}
