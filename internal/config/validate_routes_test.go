package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/lb"
)

// TestPoolsOfRoutes: what a route says of its pool counts, be it zero, and the rest is the
// service's. So is the way to its backends.
func TestPoolsOfRoutes(t *testing.T) {
	const text = `services:
  - name: web
    listen: ":80"
    balance: least-conn
    backends: [{address: "192.0.2.7:80", max_conns: 5}, "192.0.2.6:80", "192.0.2.5:80"]
    pool: {max_fails: 3, slow_start: 30s, quorum: 2, hysteresis: 1, panic: 50, kill_on_down: true, drain_timeout: 1m, queue: 9}
    connect_timeout: 2s
    tries: 2
    backend_tls: {server_name: web.example.org}
    routes:
      - {name: same, paths: [/same]}
      - {name: inherits, paths: [/inherits], backends: ["192.0.2.8:80", "192.0.2.9:80"]}
      - {name: own, paths: [/own], backends: ["192.0.2.8:80"], balance: random, pool: {max_fails: 7, slow_start: 5s, queue: 0, quorum: 1, hysteresis: 0}, connect_timeout: 5s, tries: 4, backend_tls: {}}
      - {name: none, paths: [/none], backends: ["192.0.2.8:80", "192.0.2.9:80"], backend_tls: off,
         pool: {max_fails: 0, slow_start: 0s, hysteresis: 0, panic: 0, kill_on_down: false, drain_timeout: 0s, queue: 0}}
`
	c, err := pretend("f.yaml", []byte(text))
	if err != nil || len(c.Warnings) > 0 {
		t.Fatal(err, c.Warnings)
	}
	s := c.Services[0]
	routes := s.HTTPRoutes(func(string) *lb.Pool { return nil })
	for i, want := range []lb.PoolConfig{
		{Balance: lb.LeastConn, MaxFails: 3, SlowStart: 30 * time.Second, Quorum: 2, Hysteresis: 1, Panic: 50, KillOnDown: true, DrainTimeout: time.Minute, Queue: 9},
		{Balance: lb.LeastConn, MaxFails: 3, SlowStart: 30 * time.Second, Quorum: 2, Hysteresis: 1, Panic: 50, KillOnDown: true, DrainTimeout: time.Minute, Queue: 9},
		{Balance: lb.Random, MaxFails: 7, SlowStart: 5 * time.Second, Quorum: 1, Panic: 50, KillOnDown: true, DrainTimeout: time.Minute},
		{Balance: lb.LeastConn, MaxFails: -1, Quorum: 2},
	} {
		r := s.Routes[i]
		want.Name, want.Backends = "web/"+r.Name, r.Backends
		want.FailTimeout, want.QueueTimeout, want.ResolveInterval = s.Pool.FailTimeout, s.Pool.QueueTimeout, s.Pool.ResolveInterval
		if got := s.PoolOf(r); fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
			t.Errorf("%s: %+v, want %+v", r.Name, got, want)
		}
		name := ""
		if by := s.BackendTLSOf(r); by != nil {
			name = "by TLS to " + by.ServerName
		}
		got := fmt.Sprint(name, routes[i].ConnectTimeout, routes[i].Tries, slices.Contains(routes[i].Own, "BackendTLS"))
		if want := []string{"by TLS to web.example.org0s 0 false", "by TLS to web.example.org0s 0 false", "by TLS to 5s 4 false", "0s 0 true"}[i]; got != want {
			t.Errorf("%s: %q, want %q", r.Name, got, want)
		}
	}
}

// TestFaultsOfPoolsOfRoutes: what is wrong is named where the file says it, and what does nothing
// is warned of.
func TestFaultsOfPoolsOfRoutes(t *testing.T) {
	const backends = `backends: ["192.0.2.8:80"]`
	const alone = "is of the route's own backends, and there are none: add backends, or leave this out: the service's has it for its own"
	for _, tt := range []struct{ claim, mode, service, route, want string }{
		{"a balance without backends", "http", "", "balance: random", "routes[0].balance: " + alone},
		{"a pool without backends", "http", "", "pool: {max_fails: 2}", "routes[0].pool: " + alone},
		{"TLS without backends", "http", "", "backend_tls: {}", "routes[0].backend_tls: " + alone},
		{"no TLS without backends", "http", "backend_tls: {}", "backend_tls: off", "routes[0].backend_tls: " + alone},
		{"another word than off", "http", "", backends + ", backend_tls: no", "routes[0].backend_tls: a text: want a mapping"},
		{"a balance that there is not", "http", "", backends + ", balance: best", "routes[0].balance: best: want "},
		{"out of range", "http", "", backends + ", pool: {panic: 101}", "routes[0].pool.panic: 101: want 0 to 100"},
		{"out of range in both", "http", "pool: {panic: 101}", backends, "pool.panic: 101: want 0 to 100"},
		{"a quorum out of reach", "http", "", backends + ", pool: {quorum: 3}", "routes[0].pool.quorum: 3: out of reach"},
		{"a service's quorum out of reach", "http", `balance: random, pool: {quorum: 2}`, backends, "pool.quorum: 2: out of reach"},
		{"a service's hysteresis beside a quorum of the route", "http", "pool: {quorum: 2, hysteresis: 1}", backends + ", pool: {quorum: 1}", "routes[0].pool.hysteresis: 1: want less than the quorum, 1"},
		{"a quorum of its own", "http", "pool: {quorum: 2}", backends + ", pool: {quorum: 1}", ""},
		{"no tries", "http", "", "tries: 0", "routes[0].tries: 0: want "},
		{"no time", "http", "", "connect_timeout: 0s", "routes[0].connect_timeout: 0s: want "},
		{"unknown keys", "http", "", backends + ", pool: {balance: random}", "routes[0].pool.balance: unknown key here: it belongs to services[] or services[].routes[]"},
		{"balance and pool in mode tcp", "tcp", "", backends + ", server_names: [x.example.org], balance: random, pool: {max_fails: 0}", ""},
		{"a path in mode tcp", "tcp", "", backends + ", server_names: [x.example.org], balance: key-hash", "routes[0].balance: key-hash: the key is the path of a request, which mode tcp does not know: want source-hash or maglev"},
		{"TLS in mode tcp", "tcp", "", backends + ", server_names: [x.example.org], backend_tls: {}", "routes[0].backend_tls: mode tcp does not use this: leave it out, or set mode: http"},
		{"a log in mode tcp", "tcp", "", backends + ", server_names: [x.example.org], access_log: false", "routes[0].access_log: mode tcp does not use this: leave it out, or set mode: http"},
		{"a socket without a name", "http", "", `backends: ["unix:/run/app.sock"], backend_tls: {}`, "routes[0].backends[0]: unix:/run/app.sock: has no name that its certificate could be for"},
		{"a socket without TLS", "http", "backend_tls: {}", `backends: ["unix:/run/app.sock"], backend_tls: off`, ""},
		{"a file that is not there", "http", "", backends + ", backend_tls: {ca: /nonexistent/ca.pem}", "routes[0].backend_tls.ca: /nonexistent/ca.pem: no such file"},

		{"a wait without a queue", "http", "", backends + ", pool: {queue_timeout: 1s}", "routes[0].pool.queue_timeout: 1s: does nothing without queue"},
		{"a queue of a route, for the service's wait", "http", "pool: {queue_timeout: 1s}", `backends: [{address: "192.0.2.8:80", max_conns: 1}], pool: {queue: 5}`, ""},
		{"a queue where nothing waits", "http", "", backends + ", pool: {queue: 5}", "routes[0].pool.queue: 5: no backend has max_conns: nothing ever waits"},
		{"a time of failures that do not count", "http", "", backends + ", pool: {max_fails: 0, fail_timeout: 1s}", "routes[0].pool.fail_timeout: 1s: does nothing with max_fails: 0"},
		{"the service's time of failures that count in a route", "http", "pool: {max_fails: 0, fail_timeout: 1s}", backends + ", pool: {max_fails: 1}", ""},
		{"a key for the balance of the route", "http", "", backends + `, balance: key-hash, http: {hash_key: "${uri}"}`, ""},
		{"a key of the service for the balance of a route", "http", `http: {hash_key: "${uri}"}`, backends + `, balance: key-hash`, ""},
		{"a key beside another balance of the route", "http", "balance: key-hash", backends + `, balance: random, http: {hash_key: "${uri}"}`, "routes[0].http.hash_key: does nothing without balance: key-hash"},
		{"repeating, with one try of the route", "http", "", backends + `, tries: 1, http: {retry_statuses: [503]}`, "routes[0].http.retry_statuses: does nothing with tries: 1"},
	} {
		text := fmt.Sprintf(`services: [{name: web, listen: ":80", mode: %s, backends: ["192.0.2.7:80", "192.0.2.6:80"], routes: [{name: r, %s}]`, tt.mode, tt.route)
		if tt.service != "" {
			text += ", " + tt.service
		}
		d := newDecoder("f.yaml")
		c, err := d.parse([]byte(text + "}]"))
		var said []string
		if err != nil {
			for line := range strings.Lines(err.Error()) {
				_, line, _ = strings.Cut(line, ": ")
				said = append(said, strings.TrimPrefix(strings.TrimSpace(line), "services[0]."))
			}
		} else {
			for _, w := range c.Warnings {
				said = append(said, strings.TrimPrefix(w.Path, "services[0].")+": "+w.Text)
			}
		}
		if got := strings.Join(said, "; "); !strings.HasPrefix(got, tt.want) || tt.want == "" && got != "" || len(said) > 1 {
			t.Errorf("%s: %q, want %q", tt.claim, got, tt.want)
		}
	}
}
