package lab

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

func TestFrameIP(t *testing.T) {
	const (
		macs = "01005e000012020000000001"
		ip4  = "0800" + "45c0001c00000000ff700000" + "c0000201" + "e0000012" // 28 bytes in all
		ip6  = "86dd" + "60000000000870ff" + "fe800000000000000000000000000001" + "ff020000000000000000000000000012"
	)
	tests := []struct {
		name, frame string
		ethertype   uint16
		src, dst    string
		proto       uint8
		payload     string
		ok          bool
	}{
		{"IPv4", macs + ip4 + "2133640101018a2c", 0x0800, "192.0.2.1", "224.0.0.18", 112, "2133640101018a2c", true},
		{"IPv4, padded to 60 bytes", macs + ip4 + "2133640101018a2c" + strings.Repeat("00", 18), 0x0800,
			"192.0.2.1", "224.0.0.18", 112, "2133640101018a2c", true},
		{"IPv4, shorter than it says", macs + ip4 + "213364", 0x0800, "", "", 0, "", false},
		{"IPv6", macs + ip6 + "3133640100643f5d", 0x86dd, "fe80::1", "ff02::12", 112, "3133640100643f5d", true},
		{"IPv6, shorter than it says", macs + ip6 + "31", 0x86dd, "", "", 0, "", false},
		{"ARP", macs + "0806" + strings.Repeat("00", 46), 0x0806, "", "", 0, "", false},
		{"no whole header", macs, 0, "", "", 0, "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			data, err := hex.DecodeString(tt.frame)
			if err != nil {
				t.Fatal(err)
			}
			f := Frame{Data: data}
			if f.EtherType() != tt.ethertype {
				t.Errorf("EtherType %#x, want %#x", f.EtherType(), tt.ethertype)
			}
			src, dst, proto, payload, ok := f.IP()
			if ok != tt.ok || proto != tt.proto || hex.EncodeToString(payload) != tt.payload || src != addr(tt.src) || dst != addr(tt.dst) {
				t.Errorf("IP() = %v, %v, %d, %x, %v", src, dst, proto, payload, ok)
			}
			if got := Protocol(112)(f); got != tt.ok {
				t.Errorf("Protocol(112) keeps it: %v", got)
			}
		})
	}
}

func FuzzFrameIP(f *testing.F) {
	f.Add([]byte("\x01\x00\x5e\x00\x00\x12\x02\x00\x00\x00\x00\x01\x08\x00" + // to 224.0.0.18, IPv4
		"\x45\xc0\x00\x14\x00\x00\x00\x00\xff\x70\x00\x00\xc0\x00\x02\x01\xe0\x00\x00\x12")) // a header alone
	f.Add([]byte("\x01\x00\x5e\x00\x00\x12\x02\x00\x00\x00\x00\x01\x86\xdd" + // IPv6
		"\x60\x00\x00\x00\xff\xff\x70\xff")) // longer than the frame
	f.Fuzz(func(t *testing.T, data []byte) {
		src, dst, _, payload, ok := Frame{Data: data}.IP()
		if ok != src.IsValid() || ok != dst.IsValid() || len(payload) > len(data) {
			t.Errorf("%v, %v, %d bytes, %v", src, dst, len(payload), ok)
		}
	})
}

// addr parses an address; "" is the zero one.
func addr(s string) netip.Addr {
	a, _ := netip.ParseAddr(s)
	return a
}
