package vip

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestNeeded: what the host lives on is told from what looks like an addition.
func TestNeeded(t *testing.T) {
	flagged := func(s string, flags uint32) assigned {
		a := on(2, s)
		a.flags = flags
		return a
	}
	hop := func(index int, to, gateway, source string) nextHop {
		n := nextHop{index: index, to: prefix(to)}
		if gateway != "" {
			n.gateway = netip.MustParseAddr(gateway)
		}
		if source != "" {
			n.source = netip.MustParseAddr(source)
		}
		return n
	}
	added, added6 := flagged("192.0.2.10/24", flagSecondary), flagged("2001:db8::10/64", flagNoDAD)
	host, host6 := []assigned{on(2, "192.0.2.1/24")}, []assigned{on(2, "2001:db8::1/64")}
	other := []assigned{on(2, "198.51.100.1/24")}
	tests := map[string]struct {
		a    assigned
		host []assigned
		hops []nextHop
		lone bool
		want string
	}{
		"added":                       {a: added, host: host},
		"added, IPv6":                 {a: added6, host: host6},
		"alone":                       {a: on(2, "192.0.2.10/24"), want: "the interface has no other address of its own"},
		"alone, IPv6":                 {a: added6, want: "the interface has no other address of its own"},
		"alone on a macvlan":          {a: on(2, "192.0.2.10/24"), lone: true},
		"in a network of its own":     {a: on(2, "192.0.2.10/24"), host: other, hops: []nextHop{hop(2, "0.0.0.0/0", "198.51.100.254", "")}},
		"single":                      {a: on(2, "192.0.2.10/32"), host: host, hops: []nextHop{hop(2, "0.0.0.0/0", "192.0.2.254", "")}},
		"IPv6 with DAD":               {a: on(2, "2001:db8::10/64"), host: host6, want: "Keepalived's have the flag nodad"},
		"source of the default route": {a: added, host: host, hops: []nextHop{hop(2, "0.0.0.0/0", "192.0.2.254", "192.0.2.10")}, want: "the route to 0.0.0.0/0 needs it"},
		"source on another interface": {a: added, host: host, hops: []nextHop{hop(3, "10.0.0.0/8", "", "192.0.2.10")}, want: "the route to 10.0.0.0/8 needs it"},
		"source, IPv6":                {a: added6, host: host6, hops: []nextHop{hop(2, "::/0", "fe80::1", "2001:db8::10")}, want: "the route to ::/0 needs it"},
		"way to the gateway":          {a: on(2, "192.0.2.10/24"), host: other, hops: []nextHop{hop(2, "0.0.0.0/0", "192.0.2.254", "")}, want: "the route to 0.0.0.0/0 needs it"},
		"a gateway elsewhere":         {a: on(2, "192.0.2.10/24"), host: other, hops: []nextHop{hop(3, "0.0.0.0/0", "192.0.2.254", "")}},
		"the host's own way":          {a: added, host: host, hops: []nextHop{hop(2, "0.0.0.0/0", "192.0.2.254", "192.0.2.1")}},
		"there first":                 {a: on(2, "192.0.2.10/24"), host: []assigned{flagged("192.0.2.1/24", flagSecondary)}, want: "it was there before 192.0.2.1/24"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := needed(tt.a, tt.host, tt.hops, tt.lone); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// TestSpared: what Takeover removes, and why it leaves the rest.
func TestSpared(t *testing.T) {
	marked := func(a assigned, mark uint8, valid time.Duration) assigned {
		a.mark, a.valid = mark, valid
		return a
	}
	plain, kept, unknown := on(2, "192.0.2.10/24"), on(2, "192.0.2.11/24"), on(2, "192.0.2.12/24")
	needs := map[assigned]string{plain: "", kept: "the route to 0.0.0.0/0 needs it"}
	asked := 0
	s := spared(nil).weigh([]assigned{plain, kept, unknown}, func(a assigned) (string, error) {
		asked++
		if why, ok := needs[a]; ok {
			return why, nil
		}
		return "", errors.New("no memory")
	})
	for name, tt := range map[string]struct {
		a     assigned
		takes bool
		why   string
	}{
		"an addition":                {plain, true, ""},
		"what a route needs":         {kept, false, "the route to 0.0.0.0/0 needs it"},
		"not decided":                {unknown, false, "it is not known yet what needs it"},
		"Keepalived's":               {marked(kept, markKeepalived, 0), true, ""},
		"with a lifetime":            {marked(plain, 0, time.Hour), false, "it has a lifetime"},
		"another's mark":             {marked(plain, 3, 0), false, "it has the mark 3"},
		"Keepalived's with lifetime": {marked(plain, markKeepalived, time.Hour), false, "it has a lifetime"},
	} {
		if got := s.keeps(tt.a) == ""; got != tt.takes {
			t.Errorf("%s: takes %v, want %v", name, got, tt.takes)
		}
		if got := s.keeps(tt.a); !tt.takes && got != tt.why {
			t.Errorf("%s: refusal %q, want %q", name, got, tt.why)
		}
	}
	again := s.weigh([]assigned{kept, marked(plain, 3, 0)}, func(assigned) (string, error) { t.Error("a decision is made twice"); return "", nil })
	if len(again) != 1 || again.keeps(kept) == "" || asked != 3 {
		t.Errorf("%v after %d decisions, want the one about what is there still", again, asked)
	}
}

// TestTakeoverDecidesOnce: the host's only address stays the host's when there is a
// second one, and until the routes are known nothing is taken. What is put there
// after a first one was taken is looked at anew.
func TestTakeoverDecidesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		k.put(on(2, "192.0.2.10/24"), true)
		k.failing("nextHops", errors.New("no memory"))
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24"), Takeover: true})
		wantFault(t, m, true)
		const why = "another program's, which takeover leaves (it is not known yet what needs it), "
		if problem := strings.Join(m.faults.list, ", "); !strings.Contains(problem, why) {
			t.Errorf("faults %q, want %q", problem, why)
		}
		k.hooked(nil)
		wantFault(t, m, true)
		k.put(on(2, "198.51.100.1/24"), true)
		time.Sleep(2 * patrol)
		wantFault(t, m, true)
		if got := removed(m.Removals().Requests); !k.has("192.0.2.10") || got != "" {
			t.Errorf("addresses %v, a guard would %s", k.list, got)
		}

		k.remove(on(2, "192.0.2.10/24"))
		wantFault(t, m, false)
		k.put(on(2, "192.0.2.10/24"), true)
		wantFault(t, m, false)
		if k.has("192.0.2.10") {
			t.Error("what was added is not taken over")
		}
		k.remove(on(2, "198.51.100.1/24"))
		k.put(on(2, "192.0.2.10/24"), true)
		wantFault(t, m, true)
		if !k.has("192.0.2.10") {
			t.Error("what was decided of one address is done to another")
		}
	})
}

// TestReconfigureToHostAddress: with Takeover, too, an address that the host lives on
// is not taken into a configuration that is held.
func TestReconfigureToHostAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel()
		k.put(on(2, "192.0.2.1/24"), true)
		m := start(t, k, Config{Addresses: addrs(t, "192.0.2.10/24"), Takeover: true})
		acquire(t, m)
		err := m.Reconfigure(t.Context(), Config{Interface: "eth0", Addresses: addrs(t, "192.0.2.10/24", "192.0.2.1/24"), Takeover: true})
		if !errors.Is(err, ErrInUse) || !m.Status().Held || !k.has("192.0.2.1") {
			t.Errorf("Reconfigure: %v, held %v, addresses %v", err, m.Status().Held, k.list)
		}
	})
}
