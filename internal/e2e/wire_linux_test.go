package e2e

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/scenario"
	"github.com/havip/havip/vrrp"
)

var vip = scenario.VIP.Addr()

// advertisements starts one load balancer alone and captures the first
// advertisements that it sends as Active.
func advertisements(t *testing.T, p scenario.Params, program scenario.Program) *lab.Capture {
	t.Helper()
	l := lab.New(t)
	exe := havip(t)
	balancer := scenario.HavipBalancer(exe)
	s, err := scenario.New(l, t.TempDir(), scenario.Config{
		Params: p, Private: true,
		VRRP:     [2]scenario.Program{program, program},
		Balancer: [2]scenario.Program{balancer, balancer},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	lan, err := l.Segment("lan")
	if err != nil {
		t.Fatal(err)
	}
	wire, err := lan.Capture(lab.Protocol(112))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.LB[0].PowerOn(); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 30*time.Second, "three advertisements", func() bool { return len(wire.Packets()) >= 3 })
	return wire
}

// TestForeignDecoders: tcpdump and tshark read what we send without complaint.
func TestForeignDecoders(t *testing.T) {
	lab.Need(t, "tcpdump", "tshark")
	t.Parallel()
	for name, p := range map[string]scenario.Params{
		"v2 unicast PASS": {Interval: time.Second, Version: 2},
		"v2 multicast":    {Interval: time.Second, Version: 2, Multicast: true},
		"v3 unicast":      {Interval: 500 * time.Millisecond, Version: 3},
		"v3 multicast":    {Interval: 500 * time.Millisecond, Version: 3, Multicast: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wire := advertisements(t, p, scenario.Havip(havip(t)))
			dump, err := wire.Decode("tcpdump", "-nvvr")
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(dump, "vrid 51, prio 120") || !strings.Contains(dump, "addrs: 192.168.31.250") || !strings.Contains(dump, "ttl 255") {
				t.Errorf("tcpdump does not see a VRRP advertisement:\n%s", dump)
			}
			for _, bad := range []string{"bad", "invalid", "[|"} {
				if strings.Contains(dump, bad) {
					t.Errorf("tcpdump complains (%q):\n%s", bad, dump)
				}
			}
			expert, err := wire.Decode("tshark", "-o", "ip.check_checksum:TRUE", "-T", "fields", "-e", "vrrp.virt_rtr_id", "-e", "vrrp.prio",
				"-e", "vrrp.checksum.status", "-e", "_ws.expert.message", "-e", "_ws.malformed", "-r")
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(expert) {
				// VRID, priority, checksum "good", and no expert message.
				if f := strings.TrimRight(line, "\n\t "); f != "51\t120\t1" {
					t.Errorf("tshark: %q, want VRID 51, priority 120, checksum status 1 and nothing to say", f)
				}
			}
		})
	}
}

// TestDecodesKeepalived: what keepalived sends is accepted by our codec.
func TestDecodesKeepalived(t *testing.T) {
	lab.Need(t, "keepalived", "bash")
	t.Parallel()
	for name, p := range map[string]scenario.Params{
		"v2 unicast PASS": {Interval: time.Second, Version: 2},
		"v3 multicast":    {Interval: time.Second, Version: 3, Multicast: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wire := advertisements(t, p, keepalived)
			for _, f := range wire.Packets() {
				src, dst, _, payload, _ := f.IP()
				adv, err := vrrp.ParseAdvertisement(payload, src, dst)
				if err != nil {
					t.Fatal(err)
				}
				want := []netip.Addr{vip}
				if adv.Version != p.Version || adv.VRID != 51 || adv.Priority != 120 || adv.Interval != time.Second ||
					len(adv.Addresses) != 1 || adv.Addresses[0] != want[0] {
					t.Errorf("decoded %+v", adv)
				}
				if p.Version == 2 && strings.TrimRight(string(adv.AuthData[:]), "\x00") != "d0cker" {
					t.Errorf("password %q", adv.AuthData)
				}
			}
		})
	}
}
