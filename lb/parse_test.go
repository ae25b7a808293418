package lb

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"net"
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

func TestParseProxy(t *testing.T) {
	v4 := proxyHeader{netip.MustParseAddrPort("192.0.2.1:1000"), netip.MustParseAddrPort("192.0.2.2:80")}
	v6 := proxyHeader{netip.MustParseAddrPort("[2001:db8::1]:1000"), netip.MustParseAddrPort("[2001:db8::2]:80")}
	for _, tt := range []struct {
		name, in string
		want     proxyHeader
		rest     string
		err      string
	}{
		{"v1 IPv4", "PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\nGET", v4, "GET", ""},
		{"v1 IPv6", "PROXY TCP6 2001:db8::1 2001:db8::2 1000 80\r\n", v6, "", ""},
		{"v1 unknown", "PROXY UNKNOWN\r\nx", proxyHeader{}, "x", ""},
		{"v1 unknown with anything", "PROXY UNKNOWN a b c\r\nx", proxyHeader{}, "x", ""},
		{"v1 cut", "PROXY TCP4 192.0.2.1 192.0.2", proxyHeader{}, "", "incomplete"},
		{"v1 cut in the keyword", "PRO", proxyHeader{}, "", "incomplete"},
		{"nothing yet", "", proxyHeader{}, "", "incomplete"},
		{"v1 too long", "PROXY TCP4 " + strings.Repeat("1", 100), proxyHeader{}, "", "107 bytes"},
		{"v1 bare LF", "PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\nGET", proxyHeader{}, "", "CRLF"},
		{"v1 wrong family", "PROXY TCP4 2001:db8::1 2001:db8::2 1000 80\r\n", proxyHeader{}, "", "wrong family"},
		{"v1 zone", "PROXY TCP6 fe80::1%eth0 2001:db8::2 1000 80\r\n", proxyHeader{}, "", "wrong family"},
		{"v1 name", "PROXY TCP4 localhost 192.0.2.2 1000 80\r\n", proxyHeader{}, "", "wrong family"},
		{"v1 port too large", "PROXY TCP4 192.0.2.1 192.0.2.2 65536 80\r\n", proxyHeader{}, "", `port "65536"`},
		{"v1 signed port", "PROXY TCP4 192.0.2.1 192.0.2.2 +1 80\r\n", proxyHeader{}, "", `port "+1"`},
		{"v1 leading zero", "PROXY TCP4 192.0.2.1 192.0.2.2 01 80\r\n", proxyHeader{}, "", `port "01"`},
		{"v1 missing field", "PROXY TCP4 192.0.2.1 192.0.2.2 1000\r\n", proxyHeader{}, "", "want PROXY"},
		{"v1 double space", "PROXY  TCP4 192.0.2.1 192.0.2.2 1000 80\r\n", proxyHeader{}, "", "want PROXY"},
		{"v1 UDP", "PROXY UDP4 192.0.2.1 192.0.2.2 1000 80\r\n", proxyHeader{}, "", "want PROXY"},
		{"no header", "GET / HTTP/1.1\r\n", proxyHeader{}, "", "neither"},
		{"v2 IPv4", unhex(v2TCP4) + "GET", v4, "GET", ""},
		{"v2 IPv6", unhex(v2Signature+"21 21 0024 20010db8000000000000000000000001 20010db8000000000000000000000002 03e8 0050") + "x", v6, "x", ""},
		{"v2 with a TLV", unhex(v2Signature+"21 11 0010 c0000201 c0000202 03e8 0050 04 0001 00") + "x", v4, "x", ""},
		{"v2 local", unhex(v2Signature+"20 00 0000") + "x", proxyHeader{}, "x", ""},
		{"v2 unix", unhex(v2Signature+"21 31 0002 0000") + "x", proxyHeader{}, "x", ""},
		{"v2 cut in the signature", unhex("0d0a0d0a00"), proxyHeader{}, "", "incomplete"},
		{"v2 cut in the addresses", unhex(v2TCP4)[:20], proxyHeader{}, "", "incomplete"},
		{"v2 of version 1", unhex(v2Signature + "11 11 000c c0000201 c0000202 03e8 0050"), proxyHeader{}, "", "0x11"},
		{"v2 unknown command", unhex(v2Signature + "22 11 000c c0000201 c0000202 03e8 0050"), proxyHeader{}, "", "0x22"},
		{"v2 too short for its family", unhex(v2Signature + "21 21 000c c0000201 c0000202 03e8 0050"), proxyHeader{}, "", "two addresses"},
		{"v2 enormous", unhex(v2Signature + "21 11 ffff"), proxyHeader{}, "", "at most 4096"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, n, err := parseProxy([]byte(tt.in))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || errors.Is(err, errShort) != (tt.err == "incomplete") {
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

func TestAppendProxy(t *testing.T) {
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
		{2, src, netip.AddrPort{}, unhex(v2Signature + "20 00 0000")},
	} {
		if got := string(appendProxy(nil, tt.version, tt.src, tt.dst)); got != tt.want {
			t.Errorf("version %d, %v to %v: %q, want %q", tt.version, tt.src, tt.dst, got, tt.want)
		}
	}
}

func FuzzParseProxy(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\nGET"))
	f.Add([]byte("PROXY TCP6 2001:db8::1 ::ffff:192.0.2.2 1000 80\r\n"))
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add([]byte(unhex(v2TCP4)))                                                    // TCP over IPv4
	f.Add([]byte(unhex(v2Signature + "20 00 0000")))                                // LOCAL
	f.Add([]byte(unhex(v2Signature + "21 11 0010 c0000201 c0000202 03e8 0050 04"))) // a TLV cut
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := parseProxy(b)
		if err != nil {
			if n != 0 || h != (proxyHeader{}) {
				t.Errorf("error %v with a result", err)
			}
			if errors.Is(err, errShort) && len(b) >= proxyV2Max {
				t.Error("asks for more although the limit is reached")
			}
			return
		}
		if n < 15 || n > len(b) {
			t.Fatalf("length %d of %d", n, len(b))
		}
		// Every proper prefix is incomplete, whatever it is.
		for i := range n {
			if _, _, err := parseProxy(b[:i]); !errors.Is(err, errShort) {
				t.Fatalf("the first %d bytes: %v", i, err)
			}
		}
		// What we would send for it, we would understand.
		for version := 1; version <= 2; version++ {
			again, _, err := parseProxy(appendProxy(nil, version, h.src, h.dst))
			if err != nil || h.src.Addr().Is4() == h.dst.Addr().Is4() && again != h {
				t.Fatalf("version %d: %+v became %+v, %v", version, h, again, err)
			}
		}
	})
}

// hello is what crypto/tls sends for that name.
func hello(t testing.TB, name string, versions ...uint16) []byte {
	t.Helper()
	client, server := net.Pipe()
	cfg := &tls.Config{ServerName: name, InsecureSkipVerify: true}
	if len(versions) > 0 {
		cfg.MinVersion, cfg.MaxVersion = versions[0], versions[0]
	}
	go func() {
		tls.Client(client, cfg).Handshake()
		client.Close()
	}()
	defer server.Close()
	head := make([]byte, 5)
	if _, err := io.ReadFull(server, head); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, int(head[3])<<8|int(head[4]))
	if _, err := io.ReadFull(server, b); err != nil {
		t.Fatal(err)
	}
	return append(head, b...)
}

// fragmented spreads the records' content over records of n bytes.
func fragmented(b []byte, n int) []byte {
	var out []byte
	for content := b[5:]; len(content) > 0; {
		k := min(n, len(content))
		out = append(append(out, 22, 3, 1, byte(k>>8), byte(k)), content[:k]...)
		content = content[k:]
	}
	return out
}

func TestServerName(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS12, tls.VersionTLS13} {
		b := hello(t, "WWW.Example.org", version)
		for _, b := range [][]byte{b, fragmented(b, 100), fragmented(b, len(b)/helloRecords+1), append(bytes.Clone(b), "more"...)} {
			if name, _, err := serverName(b); name != "www.example.org" || err != nil {
				t.Errorf("version %#x: %q, %v", version, name, err)
			}
		}
		for i := range b {
			if name, need, err := serverName(b[:i]); err != errShort || need <= i || need > len(b) {
				t.Fatalf("version %#x: the first %d bytes: %q, %d needed, %v", version, i, name, need, err)
			}
		}
	}
	// Who makes it last gets no more of our time than that.
	b := fragmented(hello(t, "a.test"), 1)
	calls, err := 0, error(nil)
	for i, need := 0, 0; i <= len(b) && (err == nil || err == errShort); i++ {
		if i >= need {
			calls++
			_, need, err = serverName(b[:i])
		}
	}
	if err != errNotTLS || calls > 2*helloRecords+1 {
		t.Errorf("a record for each byte: %v after %d attempts", err, calls)
	}
	if name, _, err := serverName(hello(t, "")); name != "" || err != nil {
		t.Errorf("without SNI: %q, %v", name, err)
	}
	for _, b := range []string{"GET / HTTP/1.1\r\n", "\x16\x02", "\x15\x03\x01\x00\x02\x01\x00", "\x16\x03\x01\x00\x01\x02",
		"\x16\x03\x01\x00\x04\x01\xff\xff\xff", "\x16\x03\x01\x00\x06\x01\x00\x00\x02\x03\x03", "\x16\x03\x01\x00\x00"} {
		if name, _, err := serverName([]byte(b)); err == nil || err == errShort {
			t.Errorf("%q: %q, %v; want an error", b, name, err)
		}
	}
}

func FuzzServerName(f *testing.F) {
	f.Add(hello(f, "a.test"))
	f.Add(fragmented(hello(f, "a.test", tls.VersionTLS12), 20))
	f.Add([]byte("\x16\x03\x01\x00\x04\x01\x00\x00\x00")) // an empty ClientHello
	f.Fuzz(func(t *testing.T, b []byte) {
		name, need, err := serverName(b)
		if err != nil && name != "" {
			t.Errorf("%q and %v", name, err)
		}
		if err == errShort && (need <= len(b) || need > 2*(4+helloMax)+5*helloRecords) {
			t.Errorf("asks for %d bytes after %d", need, len(b))
		}
		if err == nil {
			if again, _, err := serverName(append(bytes.Clone(b), 0)); again != name || err != nil {
				t.Errorf("%q, with a byte more %q, %v", name, again, err)
			}
		}
	})
}
