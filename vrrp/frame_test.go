package vrrp

import (
	"encoding/hex"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/havip/havip/internal/inet"
)

// TestFrame: whole frames, byte by byte.
func TestFrame(t *testing.T) {
	for _, tc := range []struct {
		name                string
		message             string
		vrid                uint8
		source, destination netip.Addr
		ethernet, ip        string
	}{
		{
			"v3 IPv4", "310ac802 0064 defb c0000201 c0000202", 10, host4, groupIPv4,
			"01005e000012 00005e00010a 0800",
			// TOS 0xc0, 36 bytes, DF, TTL 255, protocol 112.
			"45c00024 00004000 ff70d79b c00002fb e0000012",
		},
		{
			"v3 IPv6", vectorV3IPv6, 10, host6, groupIPv6,
			"333300000012 00005e00020a 86dd",
			"6c000000 0028 70 ff fe8000000000000000000000000000c8 ff020000000000000000000000000012",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fam := familyIPv4
			if tc.source.Is6() {
				fam = familyIPv6
			}
			p := Packet{
				Data: unhex(t, tc.message), Source: tc.source, Destination: tc.destination,
				TTL: 255, Protocol: protocolVRRP, HardwareSource: inet.VirtualMAC(tc.vrid, fam == familyIPv6),
			}
			var b [frameHeaderMax]byte
			for i := range b {
				b[i] = 0xee // an earlier frame's
			}
			got := append(slices.Clone(frameHeader(&b, &p)), p.Data...)
			want := unhex(t, tc.ethernet+tc.ip+tc.message)
			if !slices.Equal(got, want) {
				t.Errorf("got  %x\nwant %x", got, want)
			}
			if _, _, err := ParsePacket(&p); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestFrameAH: the IP header is sent exactly as it was signed.
func TestFrameAH(t *testing.T) {
	cfg := configFor(t, advV2, func(c *Config) { c.Auth = Auth{Type: AuthAH, Password: "d0cker"} })
	p := send(t, wireFor(t, cfg), 100, host4, groupIPv4, epoch)
	p.HardwareSource = inet.VirtualMAC(51, false)
	var b [frameHeaderMax]byte
	got := hex.EncodeToString(frameHeader(&b, p))
	if want := "01005e00001200005e0001330800" + hex.EncodeToString(p.Header); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if ip := b[ethernetLen : ethernetLen+inet.IPv4Len]; inet.Checksum(inet.Sum(0, ip)) != 0 {
		t.Errorf("checksum of the IP header %x", ip)
	}
}

// TestVirtualMACPackets: every advertisement of an Active router carries the
// virtual address, priority 0 included; those that the kernel has to fragment
// do not, and a farewell does not.
func TestVirtualMACPackets(t *testing.T) {
	for _, tc := range []struct {
		name string
		cfg  Config
		mtu  int
		want net.HardwareAddr
	}{
		{"off", Config{}, 1500, nil},
		{"IPv4", Config{VirtualMAC: true}, 28 + 4, inet.VirtualMAC(51, false)},
		{"IPv4, too long", Config{VirtualMAC: true}, 28 + 3, nil},
		{"AH", Config{VirtualMAC: true, Version: 2, Auth: Auth{Type: AuthAH, Password: "d0cker"}}, 28 + 4 + 8 + 24, inet.VirtualMAC(51, false)},
		{"AH, too long", Config{VirtualMAC: true, Version: 2, Auth: Auth{Type: AuthAH, Password: "d0cker"}}, 28 + 4 + 8 + 23, nil},
		{"IPv6", Config{VirtualMAC: true, Addresses: addrs("fe80::250")}, 48 + 16, inet.VirtualMAC(51, true)},
		{"IPv6, too long", Config{VirtualMAC: true, Addresses: addrs("fe80::250")}, 48 + 15, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newFakeLAN().prepare(t, 1, tc.cfg)
				n.net.nif.ethernet, n.net.nif.mtu = true, tc.mtu
				n.run()
				time.Sleep(10 * time.Second)
				n.is(Active)
				n.conn.mu.Lock()
				for _, priority := range []uint8{100, 0} {
					p, _, err := n.packet(nil, priority, n.wire.group, time.Now())
					if err != nil || p.HardwareSource.String() != tc.want.String() {
						t.Errorf("priority %d comes from %q, error %v; want %q", priority, p.HardwareSource, err, tc.want)
					}
				}
				n.conn.mu.Unlock()
				will, _, err := n.Farewell()
				if err != nil || will[0].HardwareSource != nil {
					t.Errorf("farewell %+v, error %v", will, err)
				}
			})
		})
	}
}

// TestVirtualMACNeedsEthernet: there is no such address on other links.
func TestVirtualMACNeedsEthernet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeLAN().node(t, 1, Config{VirtualMAC: true, Priority: 255})
		n.hasFault("interface eth0 is no Ethernet one: a virtual MAC needs one")
		n.net.change(linkEvent{index: 1, name: "eth0"}, func(nif *netif) { nif.ethernet = true })
		n.is(Active)
	})
}
