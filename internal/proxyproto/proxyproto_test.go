package proxyproto

import (
	"encoding/hex"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
)

func unhex(s string) string {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return string(b)
}

const (
	v2Signature = "0d0a0d0a000d0a515549540a"
	v2TCP4      = v2Signature + "21 11 000c c0000201 c0000202 03e8 0050"
)

func TestParse(t *testing.T) {
	v4 := Header{netip.MustParseAddrPort("192.0.2.1:1000"), netip.MustParseAddrPort("192.0.2.2:80")}
	v6 := Header{netip.MustParseAddrPort("[2001:db8::1]:1000"), netip.MustParseAddrPort("[2001:db8::2]:80")}
	for _, tt := range []struct {
		name, in string
		want     Header
		rest     string
		err      string
	}{
		{"v1 IPv4", "PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\nGET", v4, "GET", ""},
		{"v1 IPv6", "PROXY TCP6 2001:db8::1 2001:db8::2 1000 80\r\n", v6, "", ""},
		{"v1 unknown", "PROXY UNKNOWN\r\nx", Header{}, "x", ""},
		{"v1 unknown with anything", "PROXY UNKNOWN a b c\r\nx", Header{}, "x", ""},
		{"v1 cut", "PROXY TCP4 192.0.2.1 192.0.2", Header{}, "", "unexpected EOF"},
		{"v1 cut in the keyword", "PRO", Header{}, "", "unexpected EOF"},
		{"nothing yet", "", Header{}, "", "unexpected EOF"},
		{"v1 too long", "PROXY TCP4 " + strings.Repeat("1", 100), Header{}, "", "107 bytes"},
		{"v1 bare LF", "PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\nGET", Header{}, "", "CRLF"},
		{"v1 wrong family", "PROXY TCP4 2001:db8::1 2001:db8::2 1000 80\r\n", Header{}, "", "wrong family"},
		{"v1 zone", "PROXY TCP6 fe80::1%eth0 2001:db8::2 1000 80\r\n", Header{}, "", "wrong family"},
		{"v1 name", "PROXY TCP4 localhost 192.0.2.2 1000 80\r\n", Header{}, "", "wrong family"},
		{"v1 port too large", "PROXY TCP4 192.0.2.1 192.0.2.2 65536 80\r\n", Header{}, "", `port "65536"`},
		{"v1 signed port", "PROXY TCP4 192.0.2.1 192.0.2.2 +1 80\r\n", Header{}, "", `port "+1"`},
		{"v1 leading zero", "PROXY TCP4 192.0.2.1 192.0.2.2 01 80\r\n", Header{}, "", `port "01"`},
		{"v1 missing field", "PROXY TCP4 192.0.2.1 192.0.2.2 1000\r\n", Header{}, "", "want PROXY"},
		{"v1 double space", "PROXY  TCP4 192.0.2.1 192.0.2.2 1000 80\r\n", Header{}, "", "want PROXY"},
		{"v1 UDP", "PROXY UDP4 192.0.2.1 192.0.2.2 1000 80\r\n", Header{}, "", "want PROXY"},
		{"no header", "GET / HTTP/1.1\r\n", Header{}, "", "neither"},
		{"v2 IPv4", unhex(v2TCP4) + "GET", v4, "GET", ""},
		{"v2 IPv6", unhex(v2Signature+"21 21 0024 20010db8000000000000000000000001 20010db8000000000000000000000002 03e8 0050") + "x", v6, "x", ""},
		{"v2 with a TLV", unhex(v2Signature+"21 11 0010 c0000201 c0000202 03e8 0050 04 0001 00") + "x", v4, "x", ""},
		{"v2 local", unhex(v2Signature+"20 00 0000") + "x", Header{}, "x", ""},
		{"v2 unix", unhex(v2Signature+"21 31 0002 0000") + "x", Header{}, "x", ""},
		{"v2 cut in the signature", unhex("0d0a0d0a00"), Header{}, "", "unexpected EOF"},
		{"v2 cut in the addresses", unhex(v2TCP4)[:20], Header{}, "", "unexpected EOF"},
		{"v2 of version 1", unhex(v2Signature + "11 11 000c c0000201 c0000202 03e8 0050"), Header{}, "", "0x11"},
		{"v2 unknown command", unhex(v2Signature + "22 11 000c c0000201 c0000202 03e8 0050"), Header{}, "", "0x22"},
		{"v2 too short for its family", unhex(v2Signature + "21 21 000c c0000201 c0000202 03e8 0050"), Header{}, "", "two addresses"},
		{"v2 IPv4 without ports", unhex(v2Signature + "21 11 0008 c0000201 c0000202"), Header{}, "", "two addresses"},
		{"v2 IPv6 without ports", unhex(v2Signature + "21 21 0020 20010db8000000000000000000000001 20010db8000000000000000000000002"), Header{}, "", "two addresses"},
		{"v2 IPv6 with half a port", unhex(v2Signature + "21 21 0023 20010db8000000000000000000000001 20010db8000000000000000000000002 03e8 00"), Header{}, "", "two addresses"},
		{"v2 enormous", unhex(v2Signature + "21 11 ffff"), Header{}, "", "at most 4096"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, n, err := Parse([]byte(tt.in))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || errors.Is(err, io.ErrUnexpectedEOF) != (tt.err == "unexpected EOF") {
					t.Fatalf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || got != tt.want || tt.in[n:] != tt.rest {
				t.Errorf("%+v, rest %q, %v; want %+v, %q", got, tt.in[n:], err, tt.want, tt.rest)
			}
		})
	}
}

func TestAppend(t *testing.T) {
	src, dst := netip.MustParseAddrPort("192.0.2.1:1000"), netip.MustParseAddrPort("192.0.2.2:80")
	six := netip.MustParseAddrPort("[2001:db8::1]:1")
	for _, tt := range []struct {
		version  int
		src, dst netip.AddrPort
		want     string
	}{
		{1, src, dst, "PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n"},
		{1, six, six, "PROXY TCP6 2001:db8::1 2001:db8::1 1 1\r\n"},
		{1, src, six, "PROXY UNKNOWN\r\n"},
		{1, netip.AddrPort{}, netip.AddrPort{}, "PROXY UNKNOWN\r\n"},
		{2, src, dst, unhex(v2TCP4)},
		{2, six, six, unhex(v2Signature + "21 21 0024 20010db8000000000000000000000001 20010db8000000000000000000000001 0001 0001")},
		{2, src, netip.AddrPort{}, unhex(v2Signature + "20 00 0000")},
	} {
		if got := string(Append(nil, tt.version, tt.src, tt.dst)); got != tt.want {
			t.Errorf("version %d, %v to %v: %q, want %q", tt.version, tt.src, tt.dst, got, tt.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\nGET"))
	f.Add([]byte("PROXY TCP6 2001:db8::1 ::ffff:192.0.2.2 1000 80\r\n"))
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add([]byte(unhex(v2TCP4)))                                                    // TCP over IPv4
	f.Add([]byte(unhex(v2Signature + "20 00 0000")))                                // LOCAL
	f.Add([]byte(unhex(v2Signature + "21 11 0010 c0000201 c0000202 03e8 0050 04"))) // a TLV cut
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := Parse(b)
		if err != nil {
			if n != 0 || h != (Header{}) {
				t.Errorf("error %v with a result", err)
			}
			if errors.Is(err, io.ErrUnexpectedEOF) && len(b) >= v2Max {
				t.Error("asks for more although the limit is reached")
			}
			return
		}
		if n < 15 || n > len(b) {
			t.Fatalf("length %d of %d", n, len(b))
		}
		// Every proper prefix is incomplete, whatever it is.
		for i := range n {
			if _, _, err := Parse(b[:i]); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("the first %d bytes: %v", i, err)
			}
		}
		// What we would send for it, we would understand.
		for version := 1; version <= 2; version++ {
			again, _, err := Parse(Append(nil, version, h.Source, h.Destination))
			if err != nil || h.Source.Addr().Is4() == h.Destination.Addr().Is4() && again != h {
				t.Fatalf("version %d: %+v became %+v, %v", version, h, again, err)
			}
		}
	})
}
