package config

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/vip"
	"github.com/havip/havip/vip/failover"
	"github.com/havip/havip/vrrp"
)

// TestEveryRouterFieldCounts: a field of a router changes what vrrp or vip is told,
// or is named here with the one who looks at it.
func TestEveryRouterFieldCounts(t *testing.T) {
	elsewhere := map[string]string{
		"Pos": "errors", "Track": "tracker", "StartDelayUptime": "startDelay",
		"Listeners": "notifier",
	}
	secret := "d0cker"
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Router]()) {
		if len(f.Index) > 1 {
			continue // of an embedded configuration, as it is
		}
		base := Router{VRRP: VRRP{VRID: 51}, VirtualMAC: true}
		changed := base
		switch v := reflect.ValueOf(&changed).Elem().FieldByIndex(f.Index); to := v.Addr().Interface().(type) {
		case *string:
			if *to = "x"; f.Name == "Family" {
				*to = "ipv6"
			}
		case *bool:
			*to = !*to
		case *VRRP:
			to.TTL = 7
		case *VIP:
			to.Probe = time.Second
		case *Listeners:
			to.NotifyUser = "x"
		case *Auth:
			*to = Auth{Type: "pass", Secret: Secret{&secret}}
		case *time.Duration:
			*to = time.Second
		case *Position:
			to.Line = 7
		default:
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		}
		counts := !reflect.DeepEqual([]any{base.VRRPConfig(), base.VIPConfig()}, []any{changed.VRRPConfig(), changed.VIPConfig()})
		if who, ok := elsewhere[f.Name]; ok == counts {
			t.Errorf("Router.%s: counts: %v, and here the business of: %q", f.Name, counts, who)
		}
	}
}

// TestAuthMapping: what a file says of authentication is what the protocol gets.
func TestAuthMapping(t *testing.T) {
	const key = "0123456789abcdef0123456789abcdef"
	keys := []vrrp.Key{{ID: 1, Secret: []byte(key)}}
	for said, want := range map[string]vrrp.Auth{
		"":                              {},
		"auth: {type: pass, secret: x}": {Type: vrrp.AuthPass, Password: "x"},
		"auth: {type: ah, secret: x}":   {Type: vrrp.AuthAH, Password: "x"},
		"version: 3, auth: {type: hmac, window: 1s, mode: permissive, replay: monotonic, keys: [{id: 1, secret: " + key + "}]}": {Type: vrrp.AuthHMAC,
			HMAC: vrrp.HMACConfig{Keys: keys, Mode: vrrp.HMACPermissive, Replay: vrrp.ReplayMonotonic, Window: time.Second}},
		"auth: {type: hmac, active_key: 1, mode: receive-only, keys: [{id: 1, secret: " + key + "}]}": {Type: vrrp.AuthHMAC,
			HMAC: vrrp.HMACConfig{Keys: keys, ActiveKey: 1, Mode: vrrp.HMACReceiveOnly}},
	} {
		version := ""
		if !strings.Contains(said, "version") {
			version = "version: 2, "
		}
		cfg, err := Parse("f.yaml", []byte("vrrp: [{name: a, interface: eth0, vrid: 51, addresses: [192.0.2.1], "+version+said+"}]"))
		if err != nil {
			t.Fatal(err)
		}
		if got := cfg.VRRP[0].VRRPConfig().Auth; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", said, got, want)
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
		cfg, err := Parse("f.yaml", []byte("vrrp: [{name: a, interface: eth0, vrid: 51, "+keys+"}]"))
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
		vc := cfg.VRRP[0].VIPConfig()
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

// TestLease: what the file says of the lease, and what it leaves to package failover.
func TestLease(t *testing.T) {
	for _, tc := range []struct {
		lease string
		want  time.Duration
	}{
		{"", vip.LeaseFor(time.Second, 3)}, {"lease: auto, ", vip.LeaseFor(time.Second, 3)}, {"lease: 0s, ", -1}, {"lease: 5s, ", 5 * time.Second},
		{"down_multiplier: 5, ", 5 * time.Second}, {"down_multiplier: 2, interval: 1500ms, ", 3 * time.Second},
	} {
		cfg, err := Parse("f.yaml", []byte("vrrp: [{name: a, interface: eth0, vrid: 51, "+tc.lease+"addresses: [192.0.2.1]}]"))
		if err != nil {
			t.Fatal(err)
		}
		r := cfg.VRRP[0]
		if got := (failover.Config{VRRP: r.VRRPConfig(), VIP: r.VIPConfig()}).WithDefaults().VIP.Lease; got != tc.want {
			t.Errorf("%q: lease %v, want %v", tc.lease, got, tc.want)
		}
	}
}
