package vrrp_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/vrrp"
)

// TestConnVirtualMAC: two routers that share a virtual MAC hear one another, and
// nothing that they send comes from another address, priority 0 included. It
// goes on when the interface was deleted and has come back.
func TestConnVirtualMAC(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	lan, err := l.Segment("lan")
	if err != nil {
		t.Fatal(err)
	}
	hosts := []*lab.Host{
		l.MustHost("lb-01", "192.0.2.1/24", "2001:db8::1/64"),
		l.MustHost("lb-02", "192.0.2.2/24", "2001:db8::2/64"),
	}
	physical := make(map[string]string)
	for _, h := range hosts {
		link, err := h.Netlink().LinkByName("eth0")
		if err != nil {
			t.Fatal(err)
		}
		physical[string(link.Attrs().HardwareAddr)] = h.Name()
	}
	var many []netip.Addr // 4088 bytes
	for i := range 255 {
		many = append(many, netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 14: 1, 15: byte(i)}))
	}
	for i, test := range []struct {
		name      string
		cfg       vrrp.Config
		protocol  uint8
		fragments bool
	}{
		{"v2", vrrp.Config{Version: 2, Addresses: parse("192.0.2.250")}, 112, false},
		{"v2 AH", vrrp.Config{Version: 2, Addresses: parse("192.0.2.250"), Auth: vrrp.Auth{Type: vrrp.AuthAH, Password: "d0cker"}}, 51, false},
		{"v3", vrrp.Config{Addresses: parse("192.0.2.250"), Interval: 100 * time.Millisecond}, 112, false},
		{"v3 IPv6", vrrp.Config{Addresses: parse("fe80::250", "2001:db8::250"), Interval: 100 * time.Millisecond}, 112, false},
		{"v3 IPv6, 255 addresses", vrrp.Config{Addresses: many, Interval: 100 * time.Millisecond}, 44, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			vrid, v6 := uint8(61+i), test.cfg.Addresses[0].Is6()
			mac := net.HardwareAddr{0, 0, 0x5e, 0, 1, vrid}
			if v6 {
				mac[4] = 2
			}
			wire, err := lan.Capture(lab.Protocol(test.protocol))
			if err != nil {
				t.Fatal(err)
			}
			var routers []*vrrp.Router
			var stops []func()
			for k, h := range hosts {
				cfg := test.cfg
				cfg.Name, cfg.VRID, cfg.Priority, cfg.VirtualMAC = h.Name(), vrid, uint8(120-10*k), true
				r, stop := start(t, openConn(t, h, vrrp.ListenConfig{Interface: "eth0", IPv6: v6}), cfg)
				routers, stops = append(routers, r), append(stops, stop)
			}
			a, b := routers[0], routers[1]
			until(t, vrrp.Active, a)
			heard := b.Status().Counters.Received
			lab.Until(t, patience, "the Backup hears the Active router", func() bool { return b.Status().Counters.Received > heard+1 })
			until(t, vrrp.Backup, b)
			stops[0]()
			until(t, vrrp.Active, b)
			for _, r := range routers {
				if s := r.Status(); len(s.Counters.Dropped) > 0 || s.Counters.SendErrors > 0 {
					t.Errorf("%s: %+v", s.Name, s.Counters)
				}
			}
			seen, farewells := 0, 0
			for _, f := range wire.Packets() {
				src, dst, _, payload, _ := f.IP()
				source := net.HardwareAddr(f.Data[6:12])
				if test.fragments {
					if physical[string(source)] != "" {
						seen++
					}
					continue
				}
				adv, _, err := vrrp.ParsePacket(&vrrp.Packet{Data: payload, Source: src, Destination: dst, Protocol: test.protocol})
				if err != nil {
					t.Fatal(err)
				}
				if adv.VRID != vrid || src.Is6() != v6 {
					continue
				}
				if seen++; adv.Priority == 0 {
					farewells++
				}
				if source.String() != mac.String() {
					t.Errorf("priority %d from %v comes from %v, want %v", adv.Priority, src, source, mac)
				}
			}
			if seen < 3 || farewells != 1 && !test.fragments {
				t.Errorf("%d advertisements on the wire, %d of them with priority 0", seen, farewells)
			}
		})
	}
}

// TestConnVirtualMACReopen: the interface is deleted and made anew.
func TestConnVirtualMACReopen(t *testing.T) {
	l := lab.New(t)
	h := l.MustHost("a")
	lan, err := l.Segment("lan")
	if err != nil {
		t.Fatal(err)
	}
	wire, err := lan.Capture(lab.Protocol(112))
	if err != nil {
		t.Fatal(err)
	}
	attach := func() {
		t.Helper()
		if err := h.Attach("eth9", lan, netip.MustParsePrefix("192.0.2.1/24")); err != nil {
			t.Fatal(err)
		}
	}
	attach()
	r, _ := start(t, openConn(t, h, vrrp.ListenConfig{Interface: "eth9"}), vrrp.Config{
		VRID: 51, Addresses: parse("192.0.2.250"), Interval: 100 * time.Millisecond, VirtualMAC: true,
	})
	until(t, vrrp.Active, r)
	link, err := h.Netlink().LinkByName("eth9")
	if err == nil {
		err = h.Netlink().LinkDel(link)
	}
	if err != nil {
		t.Fatal(err)
	}
	until(t, vrrp.Initialize, r)
	attach()
	until(t, vrrp.Active, r)
	from := time.Now()
	lab.Eventually(t, patience, "advertisements come from the virtual MAC again", func() error {
		for _, f := range wire.Packets() {
			if f.Time.After(from) && string(f.Data[6:12]) == string([]byte{0, 0, 0x5e, 0, 1, 51}) {
				return nil
			}
		}
		return fmt.Errorf("%+v", r.Status().Counters)
	})
}
