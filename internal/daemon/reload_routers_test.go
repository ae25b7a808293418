package daemon

import (
	"slices"
	"strings"
	"testing"

	"github.com/havip/havip/internal/config"
)

// reloaded is what a router of a file becomes with an edit of the file.
func reloaded(t *testing.T, edit ...string) (a, b config.Router) {
	t.Helper()
	const text = `vrrp: [{name: VI_1, interface: eth0, vrid: 51, version: 2, priority: 120, auth: {type: pass, secret: x}, ` +
		`peers: [192.0.2.2], addresses: [192.0.2.10/24, 192.0.2.11/24], routes: [{to: 10.0.0.0/8}]}]`
	next := strings.NewReplacer(edit...).Replace(text)
	if next == text {
		t.Fatalf("%q changes nothing", edit)
	}
	return parse(t, text).VRRP[0], parse(t, next).VRRP[0]
}

// TestFixedKeys: what takes another router is named by its key, and what changes
// in place is not.
func TestFixedKeys(t *testing.T) {
	for _, tc := range []struct {
		edit []string
		want string
	}{
		{[]string{", 192.0.2.11/24", ""}, ""},
		{[]string{"192.0.2.2", "192.0.2.2, 192.0.2.3"}, ""},
		{[]string{"peers: [192.0.2.2], ", ""}, ""},
		{[]string{"priority: 120", "priority: 110, interval: 2s, preempt_delay: 3s, start_delay: 4s, down_multiplier: 4"}, ""},
		{[]string{"priority: 120", "priority: 110, lease: 0s, preempt: false, announce: {burst: 1}, probe: 50ms, notify: [/bin/true], excluded: [2001:db8::1/64]"}, ""},
		{[]string{"routes: [{to: 10.0.0.0/8}]", "source: 192.0.2.1, ttl: 254, min_ttl: 250, max_ttl: 254"}, ""},
		{[]string{"secret: x", "secret: y"}, ""},
		{[]string{"version: 2", "version: 3", "type: pass, secret: x", "type: hmac, keys: [{id: 1, secret: 0123456789abcdef0123456789abcdef}]"}, "version"},
		{[]string{"vrid: 51", "vrid: 52", "interface: eth0", "interface: eth1"}, "interface, vrid"},
		{[]string{"priority: 120", "priority: 255"}, "priority"},
		{[]string{"type: pass", "type: ah"}, "auth"},
		{[]string{"priority: 120", "priority: 110, accept: false"}, "accept"},
		{[]string{"priority: 120", "priority: 110, virtual_mac: true"}, "virtual_mac"},
		{[]string{"version: 2", "version: 3", "auth: {type: pass, secret: x}, ", "", "peers: [192.0.2.2], ", "",
			"192.0.2.10/24, 192.0.2.11/24", "fe80::10/64", "routes: [{to: 10.0.0.0/8}]", "source: fe80::1"}, "version, addresses"},
		{[]string{"addresses: [192.0.2.10/24, 192.0.2.11/24], ", ""}, ""},
		{[]string{"addresses: [192.0.2.10/24, 192.0.2.11/24], ", "", "version: 2", "version: 3",
			"auth: {type: pass, secret: x}, ", "", "192.0.2.2", "fe80::2"}, "version, addresses"},
	} {
		a, b := reloaded(t, tc.edit...)
		if got := strings.Join(fixedKeys(a, b), ", "); got != tc.want {
			t.Errorf("%q: %q, want %q", tc.edit, got, tc.want)
		}
		if got := fixedKeys(b, a); strings.Join(got, ", ") != tc.want {
			t.Errorf("back from %q: %q, want %q", tc.edit, got, tc.want)
		}
	}
}

// TestFixedFamily: of a router without addresses, too, another family takes
// another router, whichever key says it.
func TestFixedFamily(t *testing.T) {
	router := func(keys string) config.Router {
		return parse(t, "vrrp: [{name: a, interface: eth0, vrid: 51, notify: [/bin/true], "+keys+"}]").VRRP[0]
	}
	for _, tc := range []struct{ a, b, want string }{
		{"family: ipv4", "family: ipv6", "family"},
		{"family: ipv4", "priority: 90", ""},
		{"peers: [192.0.2.2]", "peers: [192.0.2.3]", ""},
		{"peers: [192.0.2.2]", `peers: ["fe80::2"]`, "peers"},
		{"priority: 90", `source: "fe80::1", virtual_mac: true`, "source, virtual_mac"},
		{"excluded: [192.0.2.9]", `excluded: ["2001:db8::9"]`, ""},
	} {
		got := fixedKeys(router(tc.a), router(tc.b))
		slices.Sort(got)
		if got := strings.Join(got, ", "); got != tc.want {
			t.Errorf("%s, then %s: %q, want %q", tc.a, tc.b, got, tc.want)
		}
	}
}

// TestShedding: a router lets go first of what another one is about to take, and
// of nothing else.
func TestShedding(t *testing.T) {
	one, two := `{name: VI_1, interface: eth0, vrid: 51, addresses: [192.0.2.10/24, 192.0.2.11/24], excluded: [10.1.1.1/24], `+
		`routes: [{to: 10.8.0.0/16}, {to: 10.9.0.0/16, via: 10.1.1.254}, {to: 10.10.0.0/16, source: 192.0.2.11}]}`,
		`{name: VI_2, interface: eth0, vrid: 52, addresses: [192.0.2.12/24]}`
	for _, tc := range []struct {
		name string
		edit []string
		want string // what is left of the first router; empty: no router
	}{
		{"nothing moves", []string{", 192.0.2.11/24", "", "10.1.1.1/24", "10.1.1.2/24"}, "192.0.2.10 192.0.2.11 10.1.1.1 10.8.0.0 10.9.0.0 10.10.0.0"},
		{"one moves", []string{", 192.0.2.11/24", "", "192.0.2.12/24", "192.0.2.12/24, 192.0.2.11/24"}, "192.0.2.10 10.1.1.1 10.8.0.0 10.9.0.0"},
		{"an excluded one moves", []string{"10.1.1.1/24", "10.1.1.2/24", "192.0.2.12/24", "192.0.2.12/24, 10.1.1.1/24"}, "192.0.2.10 192.0.2.11 10.8.0.0 10.10.0.0"},
		{"all move", []string{"192.0.2.10/24, 192.0.2.11/24", "192.0.2.13/24", "192.0.2.12/24", "192.0.2.10/24, 192.0.2.11/24"}, ""},
	} {
		old := parse(t, "vrrp: ["+one+", "+two+"]").VRRP[0]
		all := parse(t, strings.NewReplacer(tc.edit...).Replace("vrrp: ["+one+", "+two+"]")).VRRP
		rest, ok := shedding(old, all[0], all)
		var got []string
		for _, a := range slices.Concat(rest.Addresses, rest.Excluded) {
			got = append(got, a.Prefix.Addr().String())
		}
		for _, r := range rest.Routes {
			got = append(got, r.Destination.Addr().String())
		}
		if ok != (tc.want != "") || ok && strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %q is left, %v; want %q", tc.name, got, ok, tc.want)
		}
	}
}
