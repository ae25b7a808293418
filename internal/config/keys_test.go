package config

import (
	"bytes"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/internal/alarm"
	"github.com/havip/havip/lb"
	"github.com/havip/havip/vip"
	"github.com/havip/havip/vrrp"
)

func everything(t *testing.T) *Config {
	t.Helper()
	data, err := os.ReadFile("testdata/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := pretend("everything.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestEveryFieldIsDecoded: a field that no key fills stays zero in
// everything.yaml, and fails here.
func TestEveryFieldIsDecoded(t *testing.T) {
	filled := make(map[string]bool)
	var visit func(v reflect.Value)
	visit = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			if !v.IsNil() {
				visit(v.Elem())
			}
		case reflect.Slice:
			for i := range v.Len() {
				visit(v.Index(i))
			}
		case reflect.Struct:
			if v.Type().PkgPath() != reflect.TypeFor[Config]().PkgPath() {
				return
			}
			for f, field := range v.Fields() {
				if !f.IsExported() {
					continue
				}
				name := v.Type().Name() + "." + f.Name
				filled[name] = filled[name] || !field.IsZero()
				visit(field)
			}
		}
	}
	visit(reflect.ValueOf(everything(t)).Elem())
	if len(filled) < 50 {
		t.Fatalf("only %d fields were seen", len(filled))
	}
	for name, ok := range filled {
		if !ok {
			t.Errorf("%s: no key in everything.yaml fills it: add a row to its table in keys.go, and the key to the file", name)
		}
	}
}

// TestEveryKeyIsUsed: everything.yaml has each key of the tables.
func TestEveryKeyIsUsed(t *testing.T) {
	data, err := os.ReadFile("testdata/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	walk("", "", new(Config).keys(), func(title string, keys []key) {
		for _, k := range keys {
			if !bytes.Contains(data, []byte(k.name+":")) {
				t.Errorf("%s: key %s is not in everything.yaml", title, k.name)
			}
			if k.doc == "" && k.value.want == "" {
				t.Errorf("%s: key %s has no documentation", title, k.name)
			}
			if k.example == "" && k.preset == "" && !k.setting && k.value.sections() == nil {
				t.Errorf("%s: key %s has neither an example nor a default", title, k.name)
			}
		}
	})
}

// TestDecoded: what everything.yaml says arrives where it belongs.
func TestDecoded(t *testing.T) {
	secret := func(s string) Secret { return Secret{&s} }
	at := func(line, column int) Position { return Position{"everything.yaml", line, column} }
	// With the defaults that every check has.
	check := func(line, column int, name, kind string, checker healthcheck.Checker, c healthcheck.Config) Check {
		c = c.WithDefaults()
		c.Name, c.Checker = name, checker
		return Check{Pos: at(line, column), Type: kind, Config: c}
	}
	// Nothing is gained by a second look.
	atOnce := healthcheck.Config{Fall: 1}
	ofBackends := func(c Check) *Check {
		c.StartSpread = time.Second
		return &c
	}
	virtual := func(s string) vip.Address { return vip.Address{Prefix: netip.MustParsePrefix(s)} }
	var none healthcheck.Config
	template := check(45, 13, "template", "http", &healthcheck.HTTP{Method: "GET", Status: []healthcheck.StatusRange{{Min: 204, Max: 204}}, MaxBody: 65536}, none)
	template.Path = "/ready"
	secure := check(29, 5, "secure", "http", &healthcheck.HTTP{URL: "https://127.0.0.1/", Method: "GET", Status: []healthcheck.StatusRange{{Min: 200, Max: 399}},
		Body: regexp.MustCompile("^ok"), MaxBody: 4096}, none)
	secure.TLS = &TLS{"www.example.org", "/ca.pem", "/client.pem", "/client.key", []string{"h2"}, true, ""}
	want := &Config{
		Log: Log{"debug", "json"},
		Admin: Admin{"/run/havip/lb01.sock", "operators", netip.MustParseAddrPort("127.0.0.1:9650"), []string{"lb01.example.org"},
			&AdminTLS{"/etc/havip/admin.pem", "/etc/havip/admin.key", "/etc/havip/operators.pem", ""},
			secret("0123456789abcdef0123456789abcdef"), true, "/var/lib/havip/lb01"},
		Checks: []Check{
			check(5, 13, "balancer", "tcp", &healthcheck.TCP{Address: "127.0.0.1:8080"}, healthcheck.Config{Timeout: 500 * time.Millisecond, LongTimeout: true,
				StartSpread: 100 * time.Millisecond, Rise: 3, Fall: 4}),
			check(7, 5, "page", "http", &healthcheck.HTTP{URL: "https://localhost/health?full=1", Method: "HEAD", Host: "www.example.org",
				Header: http.Header{"Accept": {"text/plain"}, "X-Check": {"1"}}, Status: []healthcheck.StatusRange{{Min: 200, Max: 200}, {Min: 300, Max: 399}}, MaxBody: 65536}, none),
			check(13, 11, "script", "exec", &healthcheck.Exec{Path: "/usr/bin/pgrep", Args: []string{"-x", "nginx"}, Dir: "/"}, none),
			check(14, 12, "script2", "exec", &healthcheck.Exec{Path: "/bin/true", Args: []string{}, Dir: "/"}, none),
			check(16, 5, "echo", "udp", &healthcheck.UDP{Address: "127.0.0.1:7", Send: []byte("\x00\xff"), Expect: []byte("pong"), ExpectRegexp: regexp.MustCompile("^pong"), AllowSilence: true},
				healthcheck.Config{FastInterval: 200 * time.Millisecond, DownInterval: 2 * time.Second,
					Jitter: 10 * time.Millisecond, HoldDown: 30 * time.Second, Initial: healthcheck.Up, FailStatic: true}),
			secure,
			check(34, 8, "rpc", "grpc", &healthcheck.GRPC{Address: "127.0.0.1:50051", Service: "echo.Echo", Authority: "www.example.org"}, none),
			check(35, 9, "name", "dns", &healthcheck.DNS{Server: "127.0.0.1:53", Name: "_x.example.org", Type: "TXT", Expect: []string{"v=1"}, TCP: true}, none),
			check(36, 9, "ping", "icmp", &healthcheck.ICMP{Address: "192.168.31.1"}, none),
			check(37, 9, "mail", "smtp", &healthcheck.SMTP{Address: "127.0.0.1:25", Hello: "lb01.example.org", StartTLS: true}, none),
			check(38, 16, "certificate", "tls", &healthcheck.TLS{Address: "127.0.0.1:443", MinValidity: 336 * time.Hour}, none),
			check(39, 12, "program", "exec", &healthcheck.Exec{Path: "/bin/true", Args: []string{}, User: "nobody:nogroup", Env: []string{"LANG=C"}, Dir: "/tmp"}, none),
			check(40, 16, "maintenance", "file", &healthcheck.File{Path: "/run/maintenance", Absent: true}, atOnce),
			check(41, 14, "heartbeat", "file", &healthcheck.File{Path: "/run/beat", MaxAge: time.Minute, Content: regexp.MustCompile("ok")}, none),
			check(42, 10, "nginx", "process", &healthcheck.Process{Name: "nginx", PIDFile: "/run/nginx.pid", Min: 1}, atOnce),
			check(43, 11, "uplink", "interface", &healthcheck.Interface{Name: "eth1"}, atOnce),
			check(44, 12, "gateway", "gateway", &healthcheck.Gateway{Interface: "eth0", Address: netip.MustParseAddr("192.168.31.1")}, none),
		},
		VRRP: []Router{{
			Pos: at(47, 5), Name: "VI_1", StartDelayUptime: 5 * time.Minute,
			VRRP: VRRP{VRID: 51, Priority: 120, Version: 2, Interval: 2 * time.Second, NoPreempt: true, StartDelay: 3 * time.Second, DownMultiplier: 4,
				Source: netip.MustParseAddr("192.168.31.240"), Peers: []netip.Addr{netip.MustParseAddr("192.168.31.241")}, TTL: 64, MinTTL: 60, MaxTTL: 64},
			VIP: VIP{Interface: "eth0", Lease: 5 * time.Second, Announce: vip.Schedule{Rounds: []time.Duration{0, 2 * time.Second}, Burst: 2, Refresh: time.Minute},
				Routes: []vip.Route{{Destination: netip.MustParsePrefix("10.0.0.0/8"), Gateway: netip.MustParseAddr("192.168.31.1"), Interface: "eth1",
					Source: netip.MustParseAddr("192.168.31.250"), Table: 100, Metric: 5}}, Probe: 50 * time.Millisecond},
			Excluded:  []vip.Address{{Prefix: netip.MustParsePrefix("192.168.32.250/24"), Interface: "eth1", Label: "eth1:vip", Scope: vip.ScopeLink}, virtual("2001:db8::250/64")},
			Auth:      Auth{Type: "pass", Secret: secret("d0cker")},
			Addresses: []vip.Address{virtual("192.168.31.250/24"), virtual("192.168.31.251/32")},
			Track:     []Track{{"balancer", 0, "priority"}, {"page", -20, "priority"}, {"script2", 5, "resign"}},
			Listeners: Listeners{[]Notify{{[]string{"/etc/havip/notify.sh"}, nil}, {[]string{"/etc/havip/log.sh", "VI_1"}, nil}, {[]string{"/etc/havip/up.sh"}, []string{"master"}}}, "nobody", "/run/havip/notify", 5 * time.Second},
		}, {
			Pos: at(77, 5), Name: "VI_6", Family: "ipv6", VirtualMAC: true, XmitBase: true,
			VRRP: VRRP{VRID: 51, Priority: 100, Version: 3, Interval: 100 * time.Millisecond, PreemptDelay: 90 * time.Second, DownMultiplier: 3, TTL: 255, MaxTTL: 255,
				Auth: vrrp.Auth{HMAC: vrrp.HMACConfig{ActiveKey: 8, Mode: vrrp.HMACPermissive, Replay: vrrp.ReplayMonotonic, Window: 10 * time.Second}}},
			VIP: VIP{Interface: "eth0", NoAccept: true, Takeover: true, MacvlanName: "vmac51",
				Announce: vip.Schedule{Rounds: []time.Duration{0, 1100 * time.Millisecond, 5 * time.Second}, Burst: 3}},
			Addresses: []vip.Address{virtual("fe80::51/64"), virtual("2001:db8::51/64")},
			Auth: Auth{Type: "hmac",
				Keys: []Key{{7, secret("0123456789abcdef0123456789abcdef")}, {8, secret("fedcba9876543210fedcba9876543210")}}},
			Track: []Track{{"script", 0, "priority"}, {"echo", 0, "priority"}, {"secure", 0, "priority"}, {"rpc", 0, "priority"}, {"name", 0, "priority"}, {"ping", 0, "priority"}, {"mail", 0, "priority"}, {"certificate", 0, "priority"}, {"program", 0, "priority"}, {"maintenance", 0, "priority"}, {"heartbeat", 0, "priority"}, {"nginx", 0, "priority"}, {"uplink", 0, "priority"}, {"gateway", 0, "priority"}}, Listeners: Listeners{NotifyTimeout: 30 * time.Second},
		}},
		Groups: []Group{{at(99, 5), "G1", []string{"VI_1", "VI_6"}, Listeners{[]Notify{{[]string{"/etc/havip/notify.sh"}, nil}}, "nobody:nogroup", "/run/havip/groups", 30 * time.Second}}},
		Alarms: []Alarm{{
			Pos: at(114, 5), Webhook: secret("https://hooks.example.org/xyz"), Token: secret("t0ken"),
			Receiver: Receiver{Name: "ops", Format: alarm.Slack, Proxy: "http://proxy.example.org:3128", CA: "/etc/havip/ca.pem", On: []string{"split", "fault"},
				Repeat: time.Hour, Timeout: 5 * time.Second, GiveUp: 30 * time.Minute},
		}, {
			Pos: at(124, 5), Password: secret("s3cret"),
			Receiver: Receiver{Name: "mail", Email: alarm.Email{Server: "smtp.example.org:465", From: "havip <havip@example.org>", To: []string{"ops@example.org", "boss@example.org"},
				User: "havip", TLS: alarm.TLS}, On: []string{"transition", "split", "pool", "certificate"}, Repeat: -1, Timeout: 10 * time.Second, GiveUp: time.Hour},
		}},
		Warnings: []Problem{
			{at(33, 24), "checks.secure.tls.server_name", "with insecure: true nothing is verified: leave that out, or this"},
			{at(33, 45), "checks.secure.tls.ca", "with insecure: true nothing is verified: leave that out, or this"},
			{at(72, 31), "vrrp[0].track[1].weight", "-20: with preempt: false a changed priority alone moves " +
				"no address: leave weight out to release the addresses on failure, or add mode: resign"},
			{at(176, 83), "services[2].tls.certificates[1].ocsp_staple", "/etc/havip/web.der: in PEM form: want DER, as openssl ocsp -respout writes it: clients get none"}},
	}
	// Not by their method Equal, which takes positions for equal.
	type service Service
	options := gocmp.Options{
		gocmp.Comparer(func(a, b Secret) bool { return a.Reveal() == b.Reveal() }),
		gocmp.Comparer(func(a, b *regexp.Regexp) bool { return a == b || a != nil && b != nil && a.String() == b.String() }),
		cmpopts.IgnoreUnexported(Config{}, Check{}), cmpopts.IgnoreFields(ServerTLS{}, "Digest"), cmpopts.IgnoreFields(TLS{}, "Digest"), cmpopts.IgnoreFields(service{}, "RuleFiles"),
		cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{}),
	}
	got := everything(t)
	// The service that has all rules has those that do nothing beside one another: see TestIdleRules.
	got.Warnings = slices.DeleteFunc(got.Warnings, func(p Problem) bool { return strings.HasPrefix(p.Path, "services[5].http.") })
	want.Admin.TLS.Digest = got.Admin.TLS.Digest // of a new certificate each time
	for i, s := range services(t, template, ofBackends, check) {
		if i >= len(got.Services) {
			t.Fatalf("%d services", len(got.Services))
		}
		if diff := gocmp.Diff(service(s), service(got.Services[i]), options); diff != "" {
			t.Errorf("service %s: -want +got\n%s", s.Name, diff)
		} else if !samePlaces(reflect.ValueOf(s), reflect.ValueOf(got.Services[i])) {
			t.Errorf("service %s: positions: want\n%+v\ngot\n%+v", s.Name, s, got.Services[i])
		}
	}
	got.Services = nil
	if diff := gocmp.Diff(want, got, options); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// samePlaces reports whether the positions in both, which are otherwise equal,
// are the same.
func samePlaces(a, b reflect.Value) bool {
	if p, ok := a.Interface().(Position); ok {
		return p == b.Interface()
	}
	switch a.Kind() {
	case reflect.Pointer, reflect.Interface:
		return a.IsNil() || samePlaces(a.Elem(), b.Elem())
	case reflect.Slice:
		for i := range a.Len() {
			if !samePlaces(a.Index(i), b.Index(i)) {
				return false
			}
		}
	case reflect.Struct:
		for i := range a.NumField() {
			if a.Type().Field(i).IsExported() && !samePlaces(a.Field(i), b.Field(i)) {
				return false
			}
		}
	}
	return true
}

// TestDefaults: a file with required keys only.
func TestDefaults(t *testing.T) {
	c, err := pretend("f.yaml", []byte(`
checks:
  c: {type: http}
  quick: {type: tcp, interval: 100ms, start_spread: 0s}
  slow: {type: tcp, address: "192.0.2.7:80", timeout: 3s, long_timeout: true}
  flag: {type: file, file: /x}
  text: {type: file, file: /x, content: ok}
  text1: {type: file, file: /x, content: ok, fall: 1}
vrrp:
  - {name: a, interface: eth0, vrid: 51, addresses: [192.0.2.1]}
  - {name: b, interface: eth0, vrid: 52, addresses: [192.0.2.2], interval: 40s,
     auth: {type: hmac, keys: [{id: 9, secret: 0123456789abcdef0123456789abcdef}]}}
services:
  - {name: web, listen: ":80", backends: ["192.0.2.7:80"], check: c}
  - {name: web2, listen: ":81", backends: ["192.0.2.7:80"], check: quick}
  - {name: web3, listen: ":82", backends: ["192.0.2.7:80"], check: {type: tcp, interval: 100ms}}
  - {name: tcp, listen: ":91", mode: tcp, backends: ["192.0.2.7:80"], tls: {certificates: [/a.pem]}}
  - {name: udp, listen: ":91", mode: udp, backends: ["192.0.2.7:80"]}
  - {name: mutual, listen: ":92", backends: ["192.0.2.7:80"], tls: {certificates: [/a.pem], client_ca: /ca.pem}}
alarms: [{name: ops, webhook: "http://192.0.2.9/x"}]
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []struct {
		name      string
		got, want any
	}{
		{"log", c.Log, Log{"info", "text"}},
		{"admin", c.Admin, Admin{}},
		{"priority", c.VRRP[0].Priority, uint8(100)},
		{"version", c.VRRP[0].Version, uint8(3)},
		{"interval", c.VRRP[0].Interval, time.Second},
		{"preempt", c.VRRP[0].NoPreempt, false},
		{"down multiplier", c.VRRP[0].DownMultiplier, 3},
		{"ttl", [3]uint8{c.VRRP[0].TTL, c.VRRP[0].MinTTL, c.VRRP[0].MaxTTL}, [3]uint8{255, 0, 255}},
		{"checksum", c.VRRP[0].Checksum, vrrp.ChecksumPseudoHeader},
		{"lease", c.VRRP[0].Lease, time.Duration(0)},
		{"announce", c.VRRP[0].Announce, vip.Schedule{Rounds: []time.Duration{0, 1100 * time.Millisecond, 5 * time.Second}, Burst: 3}},
		{"prefix of a bare address", c.VRRP[0].Addresses[0].Prefix.Bits(), 32},
		{"auth", c.VRRP[0].VRRPConfig().Auth, vrrp.Auth{}},
		{"active key", c.VRRP[1].VRRPConfig().WithDefaults().Auth.HMAC.ActiveKey, uint8(9)},
		{"mode", c.VRRP[1].VRRPConfig().Auth.HMAC.Mode, vrrp.HMACEnforce},
		{"window", c.VRRP[1].VRRPConfig().WithDefaults().Auth.HMAC.Window, 120 * time.Second},
		{"checks of routers", len(c.Checks), 4},
		{"timeout of a check that may take longer", c.Checks[0].Timeout, 3 * time.Second},
		{"spread of a router's check", c.Checks[0].StartSpread, time.Duration(0)},
		{"spread of backends' checks", c.Services[0].Check.StartSpread, time.Second},
		{"spread of backends' checks, turned off", c.Services[1].Check.StartSpread, time.Duration(0)},
		{"spread of backends' checks, short interval", c.Services[2].Check.StartSpread, 100 * time.Millisecond},
		{"fall", c.Checks[0].Fall, 2},
		{"fall of what is noticed at once", c.Checks[1].Fall, 1},
		{"fall of a content", c.Checks[2].Fall, 2},
		{"fall of a content, given", c.Checks[3].Fall, 1},
		{"check interval", c.Services[0].Check.Interval, time.Second},
		{"check timeout", c.Services[0].Check.Timeout, time.Second},
		{"path", c.Services[0].Check.Path, "/"},
		{"status", c.Services[0].Check.Checker.(*healthcheck.HTTP).Status, []healthcheck.StatusRange{{Min: 200, Max: 399}}},
		{"mode of a service", c.Services[0].Mode, "http"},
		{"weight", c.Services[0].Pool.Backends[0].Weight, 1},
		{"name of a backend", c.Services[0].Pool.Backends[0].Name, "192.0.2.7:80"},
		{"pool", c.Services[0].Pool, lb.PoolConfig{Name: "web", Balance: lb.RoundRobin, Backends: []lb.Backend{{Name: "192.0.2.7:80", Address: "192.0.2.7:80", Weight: 1}}, MaxFails: 1, FailTimeout: 10 * time.Second, Quorum: 1, QueueTimeout: 10 * time.Second, ResolveInterval: 10 * time.Second}},
		{"idle timeouts", [3]time.Duration{c.Services[0].HTTP.IdleTimeout, c.Services[3].TCP.IdleTimeout, c.Services[4].UDP.IdleTimeout},
			[3]time.Duration{75 * time.Second, 10 * time.Minute, 30 * time.Second}},
		{"tls", c.Services[0].TLS, (*ServerTLS)(nil)},
		{"client auth", [2]string{c.Services[3].TLS.ClientAuth, c.Services[5].TLS.ClientAuth}, [2]string{"", "required"}},
		{"alpn", [2][]string{c.Services[3].TLS.ALPN, c.Services[5].TLS.ALPN}, [2][]string{nil, {"h2", "http/1.1"}}},
		{"alarm", c.Alarms[0].AlarmConfig(), alarm.Config{Name: "ops", Webhook: "http://192.0.2.9/x", On: []string{"transition", "split", "pool", "certificate"},
			Repeat: 4 * time.Hour, Timeout: 10 * time.Second, GiveUp: time.Hour}},
		{"limits", c.Services[0].Limits, lb.Limits{}},
	} {
		if !reflect.DeepEqual(v.got, v.want) {
			t.Errorf("%s is %v, want %v", v.name, v.got, v.want)
		}
	}
}

// oneMode finds the only mode that has a key.
var oneMode = regexp.MustCompile(`mode (tcp|udp):`)

// TestWriteDefaults: the output is valid, and so it is with any one of its
// comments made effective.
func TestWriteDefaults(t *testing.T) {
	var out bytes.Buffer
	if err := WriteDefaults(&out); err != nil {
		t.Fatal(err)
	}
	if _, err := pretend("defaults.yaml", out.Bytes()); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	// What else has to be said when a comment becomes effective.
	together := map[string][2]string{
		"# macvlan:": {"virtual_mac: false", "virtual_mac: true"},
		"# url:":     {"\n    path: /", "\n    # path: /"},
		"# email:":   {"webhook: https", "# webhook: https"},
		"# track:":   {"# address: 127", "address: 127"},
	}
	const passAH = "version: 3"
	lines := strings.SplitAfter(out.String(), "\n")
	tried := 0
	for i, l := range lines {
		comment := strings.TrimLeft(l, " ")
		if !strings.HasPrefix(comment, "# ") || i < 4 || strings.Contains(l, "#   ") {
			continue
		}
		indent := len(l) - len(comment)
		edited := slices.Clone(lines)
		// A comment goes on over the lines that are indented more.
		for j := i; j < len(lines) && strings.HasPrefix(lines[j][min(indent, len(lines[j])):], "# ") &&
			(j == i || strings.HasPrefix(lines[j][min(indent, len(lines[j])):], "#   ")); j++ {
			edited[j] = lines[j][:indent] + lines[j][indent+2:]
		}
		text := strings.Join(edited, "")
		for prefix, edit := range together {
			if strings.HasPrefix(comment, prefix) {
				text = strings.Replace(text, edit[0], edit[1], 1)
			}
		}
		if strings.Contains(l, "version 2") {
			text = strings.Replace(text, passAH, "version: 2", 1)
		}
		if m := oneMode.FindStringSubmatch(l); m != nil {
			text = strings.Replace(text, "mode: http", "mode: "+m[1], 1)
		}
		if _, err := pretend("defaults.yaml", []byte(text)); err != nil {
			t.Errorf("with line %d, %s: %v", i+1, strings.TrimSpace(l), err)
		}
		tried++
	}
	if tried < 12 {
		t.Errorf("only %d comments were tried", tried)
	}
	if absurd := regexp.MustCompile(`[0-9]{12,}.*|[0-9]ns .*`).FindString(out.String()); absurd != "" {
		t.Errorf("a library has no bound: %s", absurd)
	}
	// What is printed for a key is what a file without it gets.
	for _, want := range []string{"priority: 100", "preempt: true", "mode: http", "interval: 1s", "status: 200-399"} {
		if !strings.Contains(out.String(), want+" ") {
			t.Errorf("%q is not printed", want)
		}
	}
	for _, never := range later {
		if strings.Contains(out.String(), never+":") {
			t.Errorf("%q is printed, and not available", never)
		}
	}
}

// TestReferenceScenario: the files of examples/twonode say what the scenario
// asks for.
func TestReferenceScenario(t *testing.T) {
	for i, c := range []struct {
		file, peer string
		priority   uint8
	}{{"lb01.yaml", "192.168.31.241", 120}, {"lb02.yaml", "192.168.31.240", 110}} {
		cfg, err := Load("../../examples/twonode/" + c.file)
		if err != nil {
			t.Fatal(err)
		}
		if len(cfg.Warnings) > 0 {
			t.Errorf("%s: %v", c.file, cfg.Warnings)
		}
		r := cfg.VRRP[0]
		got := fmt.Sprintln(r.VRID, r.Version, r.Priority, !r.NoPreempt, r.Interval, r.Peers, r.Addresses[0].Prefix, len(r.Addresses), r.Auth.Type, r.Auth.Secret.Reveal())
		want := fmt.Sprintf("51 2 %d false 1s [%s] 192.168.31.250/24 1 pass d0cker\n", c.priority, c.peer)
		if got != want {
			t.Errorf("%s: %s, want %s", c.file, got, want)
		}
		if cfg.Checks[0].Checker.(*healthcheck.TCP).Address != "127.0.0.1:8080" || r.Track[0] != (Track{"balancer", 0, "priority"}) {
			t.Errorf("node %d does not follow its own port 8080", i+1)
		}
		s := cfg.Services[0]
		if s.Listen.Port() != 8080 || len(s.Pool.Backends) != 3 || s.Mode != "http" || s.Check == nil {
			t.Errorf("%s: service %+v", c.file, s)
		}
	}
}
