package lb

import (
	"net/netip"
	"strings"
	"testing"
)

// TestAccessRules: the first rule that has the client counts; whom none has is allowed.
func TestAccessRules(t *testing.T) {
	for _, c := range []struct {
		rules  []string
		client string
		want   bool
	}{
		{nil, "192.0.2.1", true},
		{[]string{"allow 192.0.2.0/24", "deny all"}, "192.0.2.1", true},
		{[]string{"allow 192.0.2.0/24", "deny all"}, "192.0.3.1", false},
		{[]string{"deny 192.0.2.7", "allow 192.0.2.0/24", "deny all"}, "192.0.2.7", false},
		{[]string{"allow 192.0.2.0/24", "deny 192.0.2.7"}, "192.0.2.7", true},
		{[]string{"deny 192.0.2.7"}, "192.0.2.8", true},
		{[]string{"deny 2001:db8::/32"}, "2001:db8::1", false},
		{[]string{"deny 2001:db8::/32"}, "192.0.2.7", true},
		{[]string{"deny 192.0.2.0/24"}, "::ffff:192.0.2.7", false},
		{[]string{"deny ::ffff:192.0.2.7"}, "192.0.2.7", false},
		{[]string{"deny ::ffff:192.0.2.0/120"}, "::ffff:192.0.2.7", false},
		{[]string{"deny ::ffff:192.0.2.0/120"}, "192.0.3.7", true},
		{[]string{"deny fe80::/10"}, "fe80::1%eth0", false},
		{[]string{"allow 192.0.2.99/24", "deny all"}, "192.0.2.1", true}, // as nginx: host bits do not count
		{[]string{"deny all"}, "", false},
		{[]string{"deny 0.0.0.0/0"}, "", true},
	} {
		var rules []AccessRule
		for _, text := range c.rules {
			var r AccessRule
			if err := r.UnmarshalText([]byte(text)); err != nil {
				t.Fatal(err)
			}
			rules = append(rules, r)
		}
		var client netip.Addr
		if c.client != "" {
			client = netip.MustParseAddr(c.client)
		}
		if got := allows(rules, client); got != c.want {
			t.Errorf("%q: %q allowed: %v, want %v", c.rules, c.client, got, c.want)
		}
	}
	for _, bad := range []string{"", "allow", "deny x", "permit all", "deny 192.0.2.0/33", "allow 192.0.2.0 /24"} {
		if err := new(AccessRule).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is taken for a rule", bad)
		}
	}
}

// TestAccessOfMappedNetworks: a network in which no client ever is, is refused.
func TestAccessOfMappedNetworks(t *testing.T) {
	for text, valid := range map[string]bool{"::ffff:192.0.2.7/128": false, "::ffff:0.0.0.0/90": false, "192.0.2.7/32": true, "::/0": true} {
		cfg := HandlerConfig{Pool: newPool(t, PoolConfig{}), Rules: Rules{Access: []AccessRule{{Deny: true, From: netip.MustParsePrefix(text)}}}}
		if err := cfg.Validate(); (err == nil) != valid || err != nil && !strings.Contains(err.Error(), "Access[0]: "+text+": want an IPv4 network") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
