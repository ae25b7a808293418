package vip

import (
	"encoding/hex"
	"net"
	"net/netip"
	"strings"
	"testing"
)

var testMAC = net.HardwareAddr{0x02, 0x00, 0x00, 0xaa, 0xbb, 0xcc}

// The expected bytes are written out field by field from the RFCs.
func TestAnnouncement(t *testing.T) {
	const padding = "000000000000000000000000000000000000"
	tests := map[string]struct {
		addr          string
		reply, router bool
		want          string
	}{
		"gratuitous ARP request": {
			addr: "192.0.2.10",
			want: "ffffffffffff 020000aabbcc 0806" + // to everybody
				"0001 0800 06 04 0001" + // Ethernet, IPv4, request
				"020000aabbcc c000020a" + // sender
				"ffffffffffff c000020a" + padding, // target
		},
		"gratuitous ARP reply": {
			addr: "192.0.2.10", reply: true,
			want: "ffffffffffff 020000aabbcc 0806" +
				"0001 0800 06 04 0002" +
				"020000aabbcc c000020a" +
				"020000aabbcc c000020a" + padding,
		},
		"neighbour advertisement of a host": {
			addr: "2001:db8::10",
			want: "333300000001 020000aabbcc 86dd" +
				"60000000 0020 3a ff" + // 32 bytes of ICMPv6, hop limit 255
				"20010db8000000000000000000000010 ff020000000000000000000000000001" +
				"88 00 3c97 20000000" + // override
				"20010db8000000000000000000000010" +
				"02 01 020000aabbcc", // target link-layer address
		},
		"neighbour advertisement of a router": {
			addr: "2001:db8::10", router: true,
			want: "333300000001 020000aabbcc 86dd" +
				"60000000 0020 3a ff" +
				"20010db8000000000000000000000010 ff020000000000000000000000000001" +
				"88 00 bc96 a0000000" + // router, override
				"20010db8000000000000000000000010" +
				"02 01 020000aabbcc",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := announcement(netip.MustParseAddr(tt.addr), testMAC, tt.reply, tt.router)
			if want := strings.ReplaceAll(tt.want, " ", ""); hex.EncodeToString(got) != want {
				t.Errorf("frame\n got %x\nwant %s", got, want)
			}
		})
	}
}

func TestProbeFrame(t *testing.T) {
	const padding = "000000000000000000000000000000000000"
	for addr, want := range map[string]string{
		"192.0.2.10": "ffffffffffff 020000aabbcc 0806" +
			"0001 0800 06 04 0001" +
			"020000aabbcc 00000000" + // a sender without an address
			"000000000000 c000020a" + padding,
		"2001:db8::12:3456": "3333ff123456 020000aabbcc 86dd" +
			"60000000 0018 3a ff" +
			"00000000000000000000000000000000 ff0200000000000000000001ff123456" +
			"87 00 e41e 00000000" +
			"20010db8000000000000000000123456",
	} {
		got := probeFrame(netip.MustParseAddr(addr), testMAC)
		if want := strings.ReplaceAll(want, " ", ""); hex.EncodeToString(got) != want {
			t.Errorf("probe for %s\n got %x\nwant %s", addr, got, want)
		}
	}
}

func TestParseARP(t *testing.T) {
	const sender = "020000aabbcc c000020a"
	for name, tt := range map[string]struct {
		packet    string
		ok, probe bool
	}{
		"request":        {"0001 0800 06 04 0001" + sender + "000000000000 c0000201", true, false},
		"reply":          {"0001 0800 06 04 0002" + sender + "020000000001 c0000201", true, false},
		"padded":         {"0001 0800 06 04 0002" + sender + "020000000001 c0000201 0000000000", true, false},
		"probe":          {"0001 0800 06 04 0001 020000aabbcc 00000000 000000000000 c000020a", true, true},
		"short":          {"0001 0800 06 04 0001" + sender + "000000000000 c00002", false, false},
		"empty":          {"", false, false},
		"token ring":     {"0006 0800 06 04 0001" + sender + "000000000000 c0000201", false, false},
		"long addresses": {"0001 0800 08 04 0001" + sender + "000000000000 c0000201", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := hex.DecodeString(strings.ReplaceAll(tt.packet, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			s, ok := parseARP(b)
			if ok != tt.ok || ok && (s.addr.String() != "192.0.2.10" || s.mac.String() != testMAC.String() || s.probe != tt.probe) {
				t.Errorf("got %+v, %v; want %v", s, ok, tt.ok)
			}
		})
	}
}

func TestParseAdvertisement(t *testing.T) {
	const head, target = "88 00 0000 20000000", "20010db8000000000000000000000010"
	for name, tt := range map[string]struct {
		packet string
		mac    string
		ok     bool
	}{
		"with address":         {head + target + "02 01 020000aabbcc", testMAC.String(), true},
		"without options":      {head + target, "", true},
		"other option first":   {head + target + "0e 01 000000000000 02 01 020000aabbcc", testMAC.String(), true},
		"solicitation":         {"87 00 0000 00000000" + target, "", false},
		"short":                {head + target[:30], "", false},
		"option of length 0":   {head + target + "02 00 020000aabbcc", "", false},
		"option beyond end":    {head + target + "02 02 020000aabbcc", "", false},
		"address of 14 octets": {head + target + "02 02 020000aabbcc 0000000000000000", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := hex.DecodeString(strings.ReplaceAll(tt.packet, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			addr, mac, ok := parseAdvertisement(b)
			if ok != tt.ok || mac.String() != tt.mac || ok && addr.String() != "2001:db8::10" {
				t.Errorf("got %v at %v, %v; want %q, %v", addr, mac, ok, tt.mac, tt.ok)
			}
		})
	}
}

func FuzzParseFrames(f *testing.F) {
	for _, addr := range []string{"192.0.2.10", "2001:db8::10"} {
		b := announcement(netip.MustParseAddr(addr), testMAC, true, true)
		f.Add(b[14:]) // what follows the Ethernet header
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, ok := parseARP(b); ok && (!s.addr.Is4() || len(s.mac) != 6) {
			t.Errorf("ARP: %v at %v", s.addr, s.mac)
		}
		if addr, mac, ok := parseAdvertisement(b); ok && (!addr.Is6() || mac != nil && len(mac) != 6) {
			t.Errorf("advertisement: %v at %v", addr, mac)
		}
	})
}
