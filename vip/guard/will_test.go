package guard

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var compare = cmp.AllowUnexported(shot{})

func TestCompilePacket(t *testing.T) {
	payload := unhex(t, "2133 0001 0000 dead")
	tests := map[string]struct {
		packet Packet
		want   shot
	}{
		"IPv4 multicast": {
			Packet{Interface: 2, Source: ip("192.0.2.1"), Destination: ip("224.0.0.18"), Protocol: 112, TTL: 255, Payload: payload},
			shot{socketIPv4, 2, unhex(t,
				"45 c0 001c 0000 0000 ff 70 189e c0000201 e0000012"+"2133 0001 0000 dead")},
		},
		"IPv6 multicast": {
			Packet{Interface: 3, Source: ip("fe80::1%eth0"), Destination: ip("ff02::12"), Protocol: 112, TTL: 255, Payload: payload},
			shot{socketIPv6, 3, unhex(t,
				"6c 00 0000 0008 70 ff fe800000000000000000000000000001 ff020000000000000000000000000012"+"2133 0001 0000 dead")},
		},
		"an empty header is none": {
			Packet{Source: ip("192.0.2.1"), Destination: ip("192.0.2.2"), Protocol: 112, TTL: 255, Header: []byte{}, Payload: payload},
			shot{socketIPv4, 0, unhex(t,
				"45 c0 001c 0000 0000 ff 70 36ae c0000201 c0000202"+"2133 0001 0000 dead")},
		},
		"a header that is given": {
			Packet{Interface: 2, Source: ip("192.0.2.1"), Destination: ip("192.0.2.2"), Protocol: 51, TTL: 255,
				Header: unhex(t, "45 c0 001c 1234 0000 ff 33 0000 c0000201 c0000202"), Payload: payload},
			shot{socketIPv4, 2, unhex(t,
				"45 c0 001c 1234 0000 ff 33 0000 c0000201 c0000202"+"2133 0001 0000 dead")},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if err := (Will{Packets: []Packet{tt.packet}}).Validate(); err != nil {
				t.Error(err)
			}
			got := tt.packet.compile()
			if diff := cmp.Diff(tt.want, got, compare); diff != "" {
				t.Errorf("shot (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEncoding(t *testing.T) {
	want := []shot{
		{socket: socketNetlink, data: []byte("request")},
		{socketIPv4, 2, []byte("packet")},
		{socketIPv6, 1 << 30, make([]byte, 60)},
		{socket: socketNetlink, data: []byte{}},
	}
	if diff := cmp.Diff(want, decode(encode(want)), compare); diff != "" {
		t.Errorf("decoded (-want +got):\n%s", diff)
	}
	if b := encode(nil); len(b) > 0 {
		t.Errorf("a will of nothing takes %d bytes: want none, which withdraws the former will", len(b))
	}
}
