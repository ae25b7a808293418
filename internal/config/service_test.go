package config

import (
	"bytes"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/lb"
)

// services is what everything.yaml says about them. check makes a check with its
// defaults, and ofBackends with those that it has in a service. Lines count from that of services.
func services(t *testing.T, template Check, ofBackends func(Check) *Check, check func(line, column int, name, kind string, checker healthcheck.Checker, c healthcheck.Config) Check) []Service {
	t.Helper()
	data, err := os.ReadFile("testdata/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	before, _, _ := bytes.Cut(data, []byte("\nservices:"))
	first := bytes.Count(before, []byte("\n")) + 2
	at := func(line, column int) Position { return Position{"everything.yaml", first + line, column} }
	pool := func(name string, balance lb.Balance, backends ...lb.Backend) lb.PoolConfig {
		return lb.PoolConfig{Name: name, Balance: balance, Backends: backends,
			MaxFails: 1, FailTimeout: 10 * time.Second, Quorum: 1, QueueTimeout: 10 * time.Second, ResolveInterval: 10 * time.Second}
	}
	var none healthcheck.Config
	// With the defaults that every service has.
	service := func(line int, s Service) Service {
		s.Pos = at(line, 5)
		s.TCP, s.UDP, s.HTTP = s.TCP.WithDefaults(), s.UDP.WithDefaults(), s.HTTP.WithDefaults()
		return s
	}
	backend := func(address string) lb.Backend { return lb.Backend{Name: address, Address: address, Weight: 1} }
	web := service(1, Service{Name: "web", Listen: netip.AddrPortFrom(netip.Addr{}, 8080), Mode: "http",
		Pool:  pool("web", lb.LeastConn, backend("192.168.31.242:8080"), backend("192.168.31.242:8081"), backend("app.example.org:8082")),
		Check: ofBackends(template)})
	web.Pool.Backends[1].Weight, web.Pool.Backends[2].Backup, web.Pool.Backends[2].Resolve = 2, true, lb.ResolveFirst

	ticketSecret := "0123456789abcdef0123456789abcdef"
	db := service(10, Service{Name: "db", Listen: netip.MustParseAddrPort("[2001:db8::51]:5432"), Mode: "tcp",
		Pool: pool("db", lb.RoundRobin, backend("[2001:db8::7]:5432")),
		TLS: &ServerTLS{Certificates: []lb.CertificateFile{{Cert: "/etc/havip/web.pem", Key: "/etc/havip/web.pem"}}, MinVersion: "1.2",
			TicketSecret: Secret{&ticketSecret}},
		Check: ofBackends(check(first+14, 12, "", "tcp", new(healthcheck.TCP), healthcheck.Config{Interval: 2 * time.Second}))})

	shop := Service{
		Pos: at(16, 5), Name: "shop", Listen: netip.MustParseAddrPort("192.168.31.250:443"), Mode: "http",
		Pool: lb.PoolConfig{Name: "shop", Balance: lb.KeyHash, Backends: []lb.Backend{
			{Name: "shop1", Address: "192.168.31.243:8443", Weight: 3, MaxConns: 100},
			{Name: "shop2", Address: "192.168.31.244:8443", Weight: 1, Drain: true},
		}, MaxFails: 3, FailTimeout: 20 * time.Second, SlowStart: 30 * time.Second, Quorum: 2, Hysteresis: 1, Panic: 50, KillOnDown: true,
			DrainTimeout: 5 * time.Minute, Queue: 1000, QueueTimeout: 4 * time.Second, ResolveInterval: time.Minute},
		TCP:    lb.TCPConfig{ConnectTimeout: 2 * time.Second, HandshakeTimeout: 10 * time.Second, IdleTimeout: 90 * time.Second, ShutdownTimeout: time.Minute, Tries: 2, SendProxy: lb.ProxyV1},
		UDP:    lb.UDPConfig{IdleTimeout: 90 * time.Second, MaxSessions: 65536},
		Limits: lb.Limits{Connections: 10000, PerClient: 50, Rate: 2.5, Burst: 20, TotalRate: 1000, TotalBurst: 2000},
		TLS: &ServerTLS{Certificates: []lb.CertificateFile{{Cert: "/etc/havip/both.pem", Key: "/etc/havip/both.pem"}, {Cert: "/etc/havip/web.pem", Key: "/etc/havip/web.key", Staple: "/etc/havip/web.der"}},
			ClientCA: "/etc/havip/ca.pem", ClientAuth: "optional", MinVersion: "1.3", ALPN: []string{"http/1.1"},
			TicketKeys: []string{"/etc/havip/ticket.key", "/etc/havip/ticket.old.key"}},
		BackendTLS:  &TLS{ServerName: "shop.example.org", CA: "/etc/havip/ca.pem", Certificate: "/etc/havip/lb.pem", Key: "/etc/havip/lb.key"},
		AcceptProxy: []netip.Prefix{netip.MustParsePrefix("192.168.31.0/24"), netip.MustParsePrefix("2001:db8::1/128")},
		HTTP: lb.HTTPConfig{HandlerConfig: lb.HandlerConfig{ConnectTimeout: 2 * time.Second, Tries: 2, Timeout: 20 * time.Second, ClientTimeout: 40 * time.Second, TunnelTimeout: 30 * time.Minute, MaxHeader: 16 << 10, MaxFields: 50, BackendProtocol: lb.BackendHTTP2, Reuse: lb.ReuseAlways, MaxBody: 2 << 20,
			TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Underscores: lb.UnderscoresPass,
			RequestHeaders: map[string]string{"X-Client": "${client}", "Cookie": "", "X-Client-Cert": "${client_cert}"}, ResponseHeaders: map[string]string{"LB_IP": "${source}"}, Rules: lb.Rules{Buffering: lb.BufferingOn, BufferMemory: 64 << 10, BufferFolder: "/var/tmp", BufferTotal: 1 << 30, MinRateGrace: 30 * time.Second,
				RetryBudget: 10, RetryAfter: time.Minute, SendProxy: lb.ProxyV1}},
			HeaderTimeout: 10 * time.Second, IdleTimeout: 90 * time.Second, MaxStreams: 100, ShutdownTimeout: time.Minute},
		AccessLog: AccessLog{Log: true, File: "/var/log/havip/shop.log", Format: lb.AccessJSON, Sample: 10},
	}

	behind := func(c *Check) *Check { c.SendProxy = lb.ProxyV2; return c }
	tcp := behind(ofBackends(check(first+76, 12, "", "tcp", new(healthcheck.TCP), none)))
	mail := service(65, Service{Name: "mail", Listen: netip.AddrPortFrom(netip.Addr{}, 993), Mode: "tcp", Pool: pool("mail", lb.RoundRobin),
		Routes: []ServiceRoute{
			{Name: "new", ServerNames: []string{"mail.example.org", "*.mail.example.org"},
				Backends: []lb.Backend{backend("192.168.31.245:993")}, Check: tcp},
			{Name: "old", ServerNames: []string{"old.example.org"},
				Backends: []lb.Backend{backend("192.168.31.246:993")}, Check: behind(ofBackends(check(first+75, 16, "", "tls", new(healthcheck.TLS), none)))},
		},
		Check: tcp, BackendTLS: &TLS{Insecure: true}, TCP: lb.TCPConfig{SendProxy: lb.ProxyV2, HandshakeTimeout: 5 * time.Second},
		HTTP: lb.HTTPConfig{HandlerConfig: lb.HandlerConfig{Rules: lb.Rules{SendProxy: lb.ProxyV2}}}})

	dns := service(80, Service{Name: "dns", Listen: netip.AddrPortFrom(netip.Addr{}, 993), Mode: "udp",
		Pool: pool("dns", lb.SourceHash, backend("192.168.31.247:53")), UDP: lb.UDPConfig{Responses: 1, MaxSessions: 1000}})
	dns.Pool.KillOnDown, dns.Pool.DrainTimeout = true, time.Minute

	// The rules of requests, in the order of their keys.
	rules := service(87, Service{Name: "rules", Listen: netip.AddrPortFrom(netip.Addr{}, 8081), Mode: "http",
		Pool: pool("rules", lb.RoundRobin, backend("192.168.31.242:8080")), AccessLog: AccessLog{Log: true},
		Routes: []ServiceRoute{
			{Name: "api", Hosts: []string{"www.example.org", "*.example.org"}, Paths: []string{"/api/", "~ ^/v[0-9]+/"}, Methods: []string{"GET", "POST"},
				Headers: map[string]string{"X-Version": "~ ^2", "Cookie": ""}, Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
				Backends: []lb.Backend{{Name: "192.168.31.243:8080", Address: "192.168.31.243:8080", Weight: 1, MaxConns: 9}},
				Pool: lb.PoolConfig{Balance: lb.Maglev, MaxFails: 5, FailTimeout: 7 * time.Second, SlowStart: 3 * time.Second, Quorum: 1, KillOnDown: true,
					DrainTimeout: 9 * time.Second, Queue: 6, QueueTimeout: 2 * time.Second, ResolveInterval: 3 * time.Minute},
				OwnPool:    []string{"Panic"},
				BackendTLS: &TLS{ServerName: "api.example.org", CA: "/etc/havip/ca.pem"},
				HTTP:       lb.HTTPConfig{HandlerConfig: lb.HandlerConfig{ConnectTimeout: time.Second, Tries: 2, MaxBody: 1 << 30, Rules: lb.Rules{Access: []lb.AccessRule{{}}, Unlogged: true}}}},
			{Name: "rest", Paths: []string{"/"}, HTTP: lb.HTTPConfig{HandlerConfig: lb.HandlerConfig{Rules: lb.Rules{RetryStatuses: []int{}}}}, Own: []string{"Maintenance"}},
		},
		HTTP: lb.HTTPConfig{HandlerConfig: lb.HandlerConfig{Rules: lb.Rules{
			Access:    []lb.AccessRule{{From: netip.MustParsePrefix("10.0.0.0/8")}, {Deny: true}},
			Buffering: lb.BufferingOff, BufferMemory: 16 << 10, BufferFolder: "/var/lib/havip/bodies", BufferTotal: 10 << 30,
			Maintenance: true,
			Compress:    &lb.Compress{Encodings: []lb.Encoding{lb.EncodingZstd, lb.EncodingGzip}, Types: []string{"text/html", "*"}, MinLength: 2 << 10, Level: 5, MaxActive: 100},

			Sticky:        &lb.Sticky{Cookie: "backend", Key: []byte("0123456789abcdef"), MaxAge: time.Hour, Path: "/shop", Domain: "example.org", Secure: true, HTTPOnly: true, SameSite: lb.SameSiteNone},
			HashKey:       "id=${cookie_id}",
			RetryStatuses: []int{502, 503}, RetryBudget: 20, RetryNonIdempotent: true,

			Redirect:        lb.Redirect{Location: "/new${uri}", Status: 308},
			Answer:          lb.Answer{Status: 418, Type: "text/html", Content: "${host}"},
			Rewrite:         lb.Rewrite{StripPrefix: "/a", Regexp: "^/b/(.*)", Replacement: "/c/$1", AddPrefix: "/d"},
			RewriteLocation: []lb.LocationRewrite{{Prefix: "http://internal:8080/", To: "${scheme}://${host}/a/"}, {Regexp: "^/c/(.*)", To: "/b/$1"}},

			Auth:            &lb.BasicAuth{Realm: "closed site", File: "/etc/havip/htpasswd", DropCredentials: true},
			MaintenancePage: &lb.Page{File: "/etc/havip/soon.html", ContentType: "text/html", Status: 500}, RetryAfter: 5 * time.Minute,
			Sorry:      &lb.Page{File: "/etc/havip/sorry.html"},
			ErrorPages: []lb.ErrorPage{{Statuses: []int{502, 504}, Page: lb.Page{File: "/etc/havip/50x.json", ContentType: "application/json", Status: 200}}}, InterceptErrors: true,

			AddRequestHeaders: http.Header{"X-Tag": {"${route} ${arg_tag}"}}, AddResponseHeaders: http.Header{"Set-Cookie": {"lb=${request_id}", "b=2"}, "X-Lb": {"a"}},
			Forwarded: true, Via: "lb.example.org", RequestID: lb.RequestIDKeep,

			RequestRate: 12.5, RequestBurst: 30, RequestsPerClient: 20, RequestsPerConnection: 1000, MaxURI: 2000, MinRate: 240, MinRateGrace: 20 * time.Second,
		}}, MaxStreams: 50}})
	return []Service{web, db, shop, mail, dns, rules}
}

// TestWeightZero: a weight of 0 is none, not the default, and may be less than the quorum asks
// for: it is meant for a while.
func TestWeightZero(t *testing.T) {
	c, err := Parse("f.yaml", []byte(`services: [{name: web, listen: ":80", backends: [{address: "192.0.2.7:80", weight: 0}, "192.0.2.8:80"], pool: {quorum: 2}}]`))
	if err != nil {
		t.Fatal(err)
	}
	if b := c.Services[0].Pool.Backends; b[0].Weight != -1 || b[1].Weight != 1 {
		t.Errorf("weights %d and %d, want -1, which is none, and 1", b[0].Weight, b[1].Weight)
	}
}

// TestRoutesSayZero: what a route's file says counts, be it zero, and what it does not say is the
// service's.
func TestRoutesSayZero(t *testing.T) {
	const above = `{max_body: 5, maintenance: true, intercept_errors: true, retry_non_idempotent: true, forwarded: true, via: lb, backend_protocol: http2, reuse: always,
		request_rate: 5, request_burst: 9, min_rate: 500, requests_per_client: 5, max_uri: 100, hash_key: "${host}", request_id: make, retry_statuses: [503], access: [deny all], error_pages: [{statuses: [502], file: /etc/havip/sorry.html}], rewrite_location: [{prefix: /, to: /a/}],
		request_headers: {A: b}, response_headers: {A: b}, add_request_headers: {A: b}, add_response_headers: {A: b},
		basic_auth: {realm: x, file: /etc/havip/htpasswd}, compress: {encodings: [gzip]}, sticky: {cookie: a, secret: 0123456789abcdef}, sorry: {file: /etc/havip/sorry.html}, maintenance_page: {file: /etc/havip/sorry.html}}`
	const none = `{max_body: 0, maintenance: false, intercept_errors: false, retry_non_idempotent: false, forwarded: false, via: "", backend_protocol: http1, reuse: safe,
		request_rate: 0, min_rate: 0, requests_per_client: 0, max_uri: 0, hash_key: "", request_id: off, retry_statuses: [], access: [], error_pages: [], rewrite_location: [],
		request_headers: {}, response_headers: {}, add_request_headers: {}, add_response_headers: {},
		basic_auth: off, compress: off, sticky: off, sorry: off, maintenance_page: off}`
	c, err := pretend("f.yaml", []byte(`services: [{name: web, listen: ":80", backends: ["192.0.2.7:80"], http: `+above+`,
		routes: [{name: all, paths: [/all], http: `+none+`}, {name: some, paths: [/some], http: {max_body: 0}}, {name: same}]}]`))
	if err != nil {
		t.Fatal(err)
	}
	s := c.Services[0]
	routes := s.HTTPRoutes(nil)
	if want := []string{"MaxBody"}; !slices.Equal(routes[1].Own, want) || routes[2].Own != nil {
		t.Errorf("own are %q and %q, want %q and none", routes[1].Own, routes[2].Own, want)
	}
	// All that is zero, or empty, was said, and the rest means "off".
	own := routes[0].Own
	for _, want := range []string{"MaxBody", "Maintenance", "InterceptErrors", "RetryNonIdempotent", "Forwarded", "Via", "BackendProtocol", "Reuse", "HashKey"} {
		if !slices.Contains(own, want) {
			t.Errorf("%s is the service's; own are %q", want, own)
		}
	}
	// No key of a route is left out of the two texts above but those that cannot be zero.
	for _, k := range routeKeys(new(lb.HTTPConfig)) {
		if slices.Contains([]string{"response_timeout", "client_timeout", "tunnel_timeout", "buffering", "buffer_memory", "buffer_folder", "buffer_total",
			"redirect", "answer", "rewrite", "retry_after", "retry_budget", "request_burst", "min_rate_grace"}, k.name) {
			continue
		}
		if !strings.Contains(none, k.name+": ") || !strings.Contains(above, k.name+": ") {
			t.Errorf("%s: not tried", k.name)
		}
	}
}

// TestAccessLogOfServices: a file has the format of its mode, and what is said of a file needs
// one.
func TestAccessLogOfServices(t *testing.T) {
	const file = "file: /var/log/havip/x.log"
	for _, tt := range []struct {
		mode, says, wrong string
		want              AccessLog
	}{
		{"http", "true", "", AccessLog{Log: true}},
		{"udp", "false", "", AccessLog{}},
		{"http", "{" + file + "}", "", AccessLog{File: "/var/log/havip/x.log"}},
		{"tcp", "{" + file + ", sample: 5}", "", AccessLog{File: "/var/log/havip/x.log", Format: lb.AccessJSON, Sample: 5}},
		{"http", "{" + file + ", format: json, log: true}", "", AccessLog{Log: true, File: "/var/log/havip/x.log", Format: lb.AccessJSON}},
		{"udp", "{" + file + ", format: combined}", "access_log.format: combined: is about requests, which mode udp has none of: want json", AccessLog{}},
		{"http", "{format: json}", "", AccessLog{Format: lb.AccessJSON}},
		{"http", "{" + file + ", sample: 0}", "access_log.sample", AccessLog{}},
		{"http", "{" + file + ", format: common}", "want combined or json", AccessLog{}},
		{"http", "{file: x.log}", "access_log.file", AccessLog{}},
	} {
		cfg, err := Parse("test.yaml", []byte(`services: [{name: a, listen: ":1", mode: `+tt.mode+`, backends: ["192.0.2.1:1"], access_log: `+tt.says+"}]"))
		switch {
		case tt.wrong != "":
			if err == nil || !strings.Contains(err.Error(), tt.wrong) {
				t.Errorf("mode %s, %s: %v, want %q", tt.mode, tt.says, err, tt.wrong)
			}
		case err != nil:
			t.Errorf("mode %s, %s: %v", tt.mode, tt.says, err)
		case cfg.Services[0].AccessLog != tt.want:
			t.Errorf("mode %s, %s: %+v, want %+v", tt.mode, tt.says, cfg.Services[0].AccessLog, tt.want)
		}
	}
}
