package vip

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// on returns an address as another program puts it on an interface, and our one
// as a Manager does.
func on(index int, s string) assigned { return assigned{index: index, prefix: prefix(s)} }
func our(index int, s string) assigned {
	return assigned{index: index, prefix: prefix(s), mark: protocol}
}

func isOurs(a assigned) bool { return a.mark == protocol }

func want(index int, s string) target {
	return target{Address: Address{Prefix: prefix(s), Interface: "eth0"}, index: index}
}

// hostBeside returns the addresses that are not those of targets.
func hostBeside(want []target, have []assigned) []assigned {
	return slices.DeleteFunc(slices.Clone(have), func(h assigned) bool {
		return slices.ContainsFunc(want, func(w target) bool { return w.Prefix.Addr() == h.prefix.Addr() })
	})
}

var compare = cmp.Options{
	cmp.AllowUnexported(assigned{}, changes{}, shot{}, change{}),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
}

func TestPlan(t *testing.T) {
	v6 := func(flags uint32) assigned {
		a := our(2, "2001:db8::10/64")
		a.flags = flags
		return a
	}
	tests := map[string]struct {
		want []target
		have []assigned
		hold bool
		plan changes
		gone []assigned // ours, while the addresses are not held
	}{
		"missing address is put": {
			want: []target{want(2, "192.0.2.10/24")},
			have: []assigned{on(2, "192.0.2.1/24")},
			hold: true,
			plan: changes{put: []assigned{our(2, "192.0.2.10/24")}, all: []assigned{our(2, "192.0.2.10/24")}},
		},
		"present address is left, and renewable": {
			want: []target{want(2, "192.0.2.10/24")},
			have: []assigned{our(2, "192.0.2.10/24")},
			hold: true,
			plan: changes{all: []assigned{our(2, "192.0.2.10/24")}},
		},
		"address with another length does not count": {
			want: []target{want(2, "192.0.2.10/24")},
			have: []assigned{our(2, "192.0.2.10/32")},
			hold: true,
			plan: changes{put: []assigned{our(2, "192.0.2.10/24")}, all: []assigned{our(2, "192.0.2.10/24")}},
		},
		"address on another interface does not count": {
			want: []target{want(2, "192.0.2.10/24")},
			have: []assigned{on(3, "192.0.2.10/24")},
			hold: true,
			plan: changes{put: []assigned{our(2, "192.0.2.10/24")}, all: []assigned{our(2, "192.0.2.10/24")}},
		},
		"leftovers go whatever their length, others and another program's stay": {
			want: []target{want(2, "192.0.2.10/24"), want(2, "2001:db8::10/64")},
			have: []assigned{
				on(1, "127.0.0.1/8"), on(2, "192.0.2.1/24"), our(2, "192.0.2.10/32"), our(2, "192.0.2.10/24"),
				on(3, "192.0.2.10/24"), on(2, "2001:db8::1/64"), our(2, "2001:db8::10/128"), on(2, "2001:db8::10/64"),
			},
			gone: []assigned{our(2, "192.0.2.10/32"), our(2, "192.0.2.10/24"), our(2, "2001:db8::10/128")},
		},
		"nothing to remove": {
			want: []target{want(2, "192.0.2.10/24")},
			have: []assigned{on(2, "192.0.2.1/24")},
		},
		"IPv6 alone in its network makes the network's route": {
			want: []target{want(2, "2001:db8::10/64")},
			have: []assigned{on(2, "fe80::1/64"), on(3, "2001:db8:1::1/64")},
			hold: true,
			plan: changes{put: []assigned{v6(flagNoDAD)}, all: []assigned{v6(flagNoDAD)}},
		},
		"a network that another interface has gets no second route": {
			want: []target{want(2, "192.0.2.10/24"), want(2, "2001:db8::10/64")},
			have: []assigned{on(3, "192.0.2.1/24"), on(3, "2001:db8::1/64"), our(2, "192.0.2.10/24"), v6(flagNoDAD)},
			hold: true,
			plan: changes{all: []assigned{
				{index: 2, prefix: prefix("192.0.2.10/24"), flags: flagNoPrefixRoute, mark: protocol}, v6(flagNoDAD | flagNoPrefixRoute),
			}},
		},
		"virtual addresses in one network all make its route": {
			want: []target{want(2, "2001:db8::10/64"), want(2, "2001:db8::11/64"), want(2, "192.0.2.10/24"), want(3, "192.0.2.11/24")},
			have: []assigned{v6(flagNoDAD), our(2, "2001:db8::11/64"), our(2, "192.0.2.10/24"), our(3, "192.0.2.11/24")},
			hold: true,
			plan: changes{all: []assigned{
				v6(flagNoDAD), {index: 2, prefix: prefix("2001:db8::11/64"), flags: flagNoDAD, mark: protocol}, our(2, "192.0.2.10/24"), our(3, "192.0.2.11/24"),
			}},
		},
		"IPv6 beside the host's own address leaves the host's route alone": {
			want: []target{want(2, "2001:db8::10/64")},
			have: []assigned{on(2, "2001:db8::1/64"), v6(flagNoDAD)},
			hold: true,
			plan: changes{all: []assigned{v6(flagNoDAD | flagNoPrefixRoute)}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if !tt.hold {
				if diff := cmp.Diff(tt.gone, equals(tt.want, tt.have, isOurs), compare); diff != "" {
					t.Errorf("gone (-want +got):\n%s", diff)
				}
				return
			}
			if diff := cmp.Diff(tt.plan, plan(tt.want, tt.have, hostBeside(tt.want, tt.have), 0), compare); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPlanCarriesAddressAttributes(t *testing.T) {
	w := target{Address: Address{Prefix: prefix("192.0.2.10/24"), Scope: ScopeLink, Label: "eth0:vip"}, index: 2}
	want := assigned{index: 2, prefix: w.Prefix, scope: ScopeLink, label: "eth0:vip", valid: 3 * time.Second, mark: protocol}
	got := plan([]target{w}, nil, nil, 3*time.Second)
	if diff := cmp.Diff([]assigned{want}, got.put, compare); diff != "" {
		t.Errorf("put (-want +got):\n%s", diff)
	}
}

func TestElsewhere(t *testing.T) {
	links := map[int]link{
		1: {index: 1, name: "lo", loopback: true},
		2: {index: 2, name: "eth0"},
		3: {index: 3, name: "eth1"},
	}
	lookup := func(index int, _ string) (link, error) { return links[index], nil }
	tests := map[string]struct {
		want target
		have assigned
		err  string
	}{
		"own interface":      {want(2, "192.0.2.10/24"), on(2, "192.0.2.10/24"), ""},
		"other interface":    {want(2, "192.0.2.10/24"), on(3, "192.0.2.10/32"), `vip: eth0: 192.0.2.10 is on eth1 already, "ip addr del 192.0.2.10/32 dev eth1" removes it: address already in use`},
		"IPv6 too":           {want(2, "2001:db8::1/64"), on(3, "2001:db8::1/64"), `vip: eth0: 2001:db8::1 is on eth1 already, "ip addr del 2001:db8::1/64 dev eth1" removes it: address already in use`},
		"loopback":           {want(2, "192.0.2.10/24"), on(1, "192.0.2.10/32"), ""},
		"link-local repeats": {want(2, "fe80::1/64"), on(3, "fe80::1/64"), ""},
		"other address":      {want(2, "192.0.2.10/24"), on(3, "192.0.2.11/24"), ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := elsewhere([]target{tt.want}, []assigned{tt.have}, lookup)
			if tt.err == "" {
				if err != nil {
					t.Errorf("error %v, want none", err)
				}
				return
			}
			if err == nil || err.Error() != tt.err || !errors.Is(err, ErrInUse) {
				t.Errorf("error %v, want %s", err, tt.err)
			}
		})
	}
}

func TestOrphans(t *testing.T) {
	v6 := func(s string, flags uint32) assigned {
		a := on(2, s)
		a.flags = flags
		return a
	}
	leased := v6("2001:db8::10/64", flagNoDAD)
	tests := map[string]struct {
		removed, stay []assigned
		want          bool
	}{
		"alone in its network":       {[]assigned{leased}, []assigned{on(2, "2001:db8:1::1/64"), on(3, "2001:db8::1/64")}, true},
		"with one that goes too":     {[]assigned{leased, v6("2001:db8::11/64", flagNoPrefixRoute)}, nil, true},
		"the host's own comes later": {[]assigned{leased}, []assigned{v6("2001:db8::1/64", flagPermanent)}, false},
		"another router's":           {[]assigned{leased}, []assigned{on(2, "2001:db8::11/64")}, false},
		"another without the route":  {[]assigned{leased}, []assigned{v6("2001:db8::1/64", flagPermanent|flagNoPrefixRoute)}, true},
		"without a lifetime":         {[]assigned{v6("2001:db8::10/64", flagPermanent)}, nil, false},
		"beside the host's":          {[]assigned{v6("2001:db8::10/64", flagNoPrefixRoute)}, nil, false},
		"single":                     {[]assigned{on(2, "2001:db8::10/128")}, nil, false},
		"IPv4":                       {[]assigned{on(2, "192.0.2.10/24")}, nil, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var want []assigned
			if tt.want {
				want = tt.removed[:1]
			}
			if diff := cmp.Diff(want, orphans(tt.removed, append(tt.removed, tt.stay...)), compare); diff != "" {
				t.Errorf("orphans (-want +got):\n%s", diff)
			}
		})
	}
}
