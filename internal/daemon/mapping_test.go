package daemon

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/lb"
	"github.com/havip/havip/vip"
	"github.com/havip/havip/vrrp"
)

// TestEveryRouterFieldCounts: a field of config.Router changes what vrrp or vip
// is told, or is named here with the one who looks at it.
func TestEveryRouterFieldCounts(t *testing.T) {
	elsewhere := map[string]string{
		"Pos":   "errors",
		"Track": "tracker",

		"Family": "IPv6, without addresses",

		"StartDelayUptime": "startDelay",

		"Notify":        "notifier",
		"NotifyUser":    "notifier",
		"NotifyFIFO":    "notifier",
		"NotifyTimeout": "notifier",
	}
	base := config.Router{VirtualMAC: true, Addresses: []config.Address{{Prefix: netip.MustParsePrefix("192.0.2.1/24")}}, Checksum: "pseudo-header", Auth: config.Auth{Type: "hmac"}}
	before := []any{vrrpConfig(base), vipConfig(base)}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[config.Router]()) {
		changed := base
		alter(t, f.Name, reflect.ValueOf(&changed).Elem().FieldByIndex(f.Index))
		counts := !reflect.DeepEqual(before, []any{vrrpConfig(changed), vipConfig(changed)})
		if who, ok := elsewhere[f.Name]; ok == counts {
			t.Errorf("config.Router.%s: mapped: %v, and here the business of: %q", f.Name, counts, who)
		}
	}
}

// alter gives v a value other than the one it has.
func alter(t *testing.T, name string, v reflect.Value) {
	t.Helper()
	var to any
	switch v.Interface().(type) {
	case string:
		if to = "x"; name == "Checksum" {
			to = "message-only"
		}
	case bool:
		to = !v.Bool()
	case uint8:
		to = uint8(v.Uint() + 7)
	case int:
		to = int(v.Int() + 7)
	case time.Duration:
		to = 7 * time.Second
	case netip.Addr:
		to = netip.MustParseAddr("192.0.2.7")
	case []netip.Addr:
		to = []netip.Addr{netip.MustParseAddr("192.0.2.7")}
	case []config.Address:
		to = []config.Address{{Prefix: netip.MustParsePrefix("192.0.2.7/24")}}
	case config.Auth:
		to = config.Auth{Type: "hmac", ActiveKey: 7}
	case config.Announce:
		to = config.Announce{Burst: 7}
	case config.Position:
		to = config.Position{Line: 7}
	default:
		if v.Kind() != reflect.Slice {
			t.Fatalf("%s: no other value for a %v: add one", name, v.Type())
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		return
	}
	v.Set(reflect.ValueOf(to))
}

// TestStartDelay: with start_delay_uptime it counts soon after the host's boot
// only.
func TestStartDelay(t *testing.T) {
	for _, tc := range []struct{ delay, uptime, up, want time.Duration }{
		{0, 0, time.Second, 0},
		{30 * time.Second, 0, time.Second, 30 * time.Second},
		{30 * time.Second, 0, 1000 * time.Hour, 30 * time.Second},
		{30 * time.Second, time.Minute, 0, 30 * time.Second},
		{30 * time.Second, time.Minute, 59 * time.Second, 30 * time.Second},
		{30 * time.Second, time.Minute, time.Minute, 0},
		{30 * time.Second, time.Minute, 1000 * time.Hour, 0},
	} {
		c := config.Router{StartDelay: tc.delay, StartDelayUptime: tc.uptime}
		if got := startDelay(c, tc.up); got != tc.want {
			t.Errorf("start_delay %v, start_delay_uptime %v, up for %v: %v, want %v", tc.delay, tc.uptime, tc.up, got, tc.want)
		}
	}
}

// TestOptionalAddresses: a host that has only the router's own family serves in
// it, and none serves with nothing.
func TestOptionalAddresses(t *testing.T) {
	for keys, want := range map[string]string{
		`addresses: [192.0.2.1], excluded: [192.0.2.2, "2001:db8::1"]`:                     "192.0.2.1/32 192.0.2.2/32 2001:db8::1/128?",
		`addresses: ["fe80::1"], excluded: [192.0.2.2], routes: [{to: 0.0.0.0/0}]`:         "fe80::1/128 192.0.2.2/32? 0.0.0.0/0?",
		`excluded: ["2001:db8::1"], routes: [{to: "::/0"}]`:                                "2001:db8::1/128 ::/0",
		`excluded: [192.0.2.2, "2001:db8::1"], family: ipv6, routes: [{to: 192.0.2.0/24}]`: "192.0.2.2/32? 2001:db8::1/128 192.0.2.0/24?",
		`notify: [/bin/true], virtual_mac: true`:                                           "",
	} {
		cfg, err := config.Parse("f.yaml", []byte("vrrp: [{name: a, interface: eth0, vrid: 51, "+keys+"}]"))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		note := func(p netip.Prefix, optional bool) {
			s := p.String()
			if optional {
				s += "?"
			}
			got = append(got, s)
		}
		vc := vipConfig(cfg.VRRP[0])
		for _, a := range vc.Addresses {
			note(a.Prefix, a.Optional)
		}
		for _, r := range vc.Routes {
			note(r.Destination, r.Optional)
		}
		if got := strings.Join(got, " "); got != want {
			t.Errorf("%s: %s, want %s", keys, got, want)
		}
	}
}

// TestEveryOptionIsReachable: no option of a virtual router or of its addresses is
// out of a configuration's reach.
func TestEveryOptionIsReachable(t *testing.T) {
	const file = `
vrrp:
  - name: a
    interface: eth0
    vrid: 51
    preempt: false
    start_delay: 1s
    addresses: [192.0.2.1/24]
    routes: [{to: 10.0.0.0/8}]
    source: 192.0.2.8
    peers: [192.0.2.9]
    min_ttl: 2
    checksum: message-only
    auth: {type: hmac, keys: [{id: 1, secret: 0123456789abcdef0123456789abcdef}]}
    probe: 50ms
    virtual_mac: true
    accept: false
    takeover: true
    macvlan: vmac51
  - {name: b, interface: eth0, vrid: 52, addresses: [192.0.2.2], preempt_delay: 1s, virtual_mac: true}
  - {name: c, interface: eth0, vrid: 53, addresses: [192.0.2.3], priority: 255}
  - {name: d, interface: eth0, vrid: 54, family: ipv6, notify: [/bin/true]}
`
	cfg, err := config.Parse("f.yaml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	ours := map[string]bool{ // set by the daemon itself
		"vrrp.Config.Group": true, "vrrp.Config.OnTransition": true, "vrrp.Config.Logger": true,
		"vip.Config.OnLost": true, "vip.Config.OnRemovals": true, "vip.Config.Entitled": true, "vip.Config.OnConflict": true, "vip.Config.Namespace": true, "vip.Config.Logger": true,
	}
	set := map[string]bool{} // by type and field
	note := func(of any) {
		v := reflect.Indirect(reflect.ValueOf(of))
		for f, field := range v.Fields() {
			name := fmt.Sprint(v.Type(), ".", f.Name)
			set[name] = set[name] || !field.IsZero()
		}
	}
	for _, r := range cfg.VRRP {
		note(vrrpConfig(r))
		note(vipConfig(r))
	}
	for name, ok := range set {
		if ok == ours[name] {
			t.Errorf("%s: set by the configuration: %v", name, ok)
		}
	}
}

func TestLease(t *testing.T) {
	for _, tc := range []struct {
		lease string
		want  time.Duration
	}{
		{"", vip.LeaseFor(time.Second, 3)}, {"lease: auto, ", vip.LeaseFor(time.Second, 3)}, {"lease: 0s, ", -1}, {"lease: 5s, ", 5 * time.Second},
		{"down_multiplier: 5, ", 5 * time.Second}, {"down_multiplier: 2, interval: 1500ms, ", 3 * time.Second},
	} {
		cfg, err := config.Parse("f.yaml", []byte("vrrp: [{name: a, interface: eth0, vrid: 51, "+tc.lease+"addresses: [192.0.2.1]}]"))
		if err != nil {
			t.Fatal(err)
		}
		if got := vipConfig(cfg.VRRP[0]).Lease; got != tc.want {
			t.Errorf("%q: lease %v, want %v", tc.lease, got, tc.want)
		}
	}
}

func TestAuthMapping(t *testing.T) {
	for _, tc := range []struct {
		in   config.Auth
		want vrrp.Auth
	}{
		{config.Auth{}, vrrp.Auth{}},
		{config.Auth{Type: "pass"}, vrrp.Auth{Type: vrrp.AuthPass}},
		{config.Auth{Type: "ah"}, vrrp.Auth{Type: vrrp.AuthAH}},
		{config.Auth{Type: "hmac", Mode: "permissive", Replay: "monotonic", Window: time.Second},
			vrrp.Auth{Type: vrrp.AuthHMAC, HMAC: vrrp.HMACConfig{Mode: vrrp.HMACPermissive, Replay: vrrp.ReplayMonotonic, Window: time.Second}}},
		{config.Auth{Type: "hmac", Mode: "receive-only"}, vrrp.Auth{Type: vrrp.AuthHMAC, HMAC: vrrp.HMACConfig{Mode: vrrp.HMACReceiveOnly}}},
	} {
		if got := auth(tc.in); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%+v: %+v, want %+v", tc.in, got, tc.want)
		}
	}
}

// FuzzAccepted: what a configuration may say is what the packages accept, so
// that validate and run agree.
func FuzzAccepted(f *testing.F) {
	var defaults bytes.Buffer
	if err := config.WriteDefaults(&defaults); err != nil {
		f.Fatal(err)
	}
	// Without comments, which name files.
	f.Add(regexp.MustCompile(`(?m)#.*$`).ReplaceAll(defaults.Bytes(), nil))
	f.Add([]byte(allServices))
	for _, file := range []string{"lb01.yaml", "lb02.yaml"} {
		data, err := os.ReadFile("../../examples/twonode/" + file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		// Files and variables are not the fuzzer's to read.
		for _, outside := range []string{"file:", "env:", "ca:", "certificate"} {
			if bytes.Contains(data, []byte(outside)) {
				return
			}
		}
		cfg, err := config.Parse("f.yaml", data)
		if err != nil {
			return
		}
		for _, c := range cfg.Checks {
			if _, err := newMonitor(c, c.Name, "", healthcheck.Unknown, nil); err != nil {
				t.Errorf("check %+v: %v", c, err)
			}
		}
		for _, r := range cfg.VRRP {
			if _, err := vrrp.NewMachine(vrrpConfig(r)); err != nil {
				t.Errorf("router %+v: %v", r, err)
			}
		}
		for _, s := range cfg.Services {
			d := &Daemon{log: slog.New(slog.DiscardHandler), access: lb.NewConnLog(1)}
			if err := (&servicePlan{cfg: s}).prepareParts(d, nil); err != nil {
				t.Errorf("service %+v: %v", s, err)
			}
		}
	})
}
