package inet

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
)

// TestHeader: golden bytes. The kernel and tshark agree with the same headers in the
// tests of vrrp and vip.
func TestHeader(t *testing.T) {
	a := netip.MustParseAddr
	for want, h := range map[string]Header{
		// RFC 791 §3.1: TOS 0xc0, 36 bytes, DF, TTL 255, protocol 112.
		"45c00024 00004000 ff70d79b c00002fb e0000012":  {Source: a("192.0.2.251"), Destination: a("224.0.0.18"), Protocol: 112, TTL: 255, Class: NetworkControl, DontFragment: true},
		"45000024 12340000 0733 0000 c0000201 c0000202": {Source: a("192.0.2.1"), Destination: a("192.0.2.2"), Protocol: 51, TTL: 7, ID: 0x1234},
		// RFC 8200 §3.
		"6c000000 0010 70 ff fe8000000000000000000000000000c8 ff020000000000000000000000000012": {Source: a("fe80::c8%eth0"), Destination: a("ff02::12"), Protocol: 112, TTL: 255, Class: NetworkControl},
	} {
		want := strings.ReplaceAll(want, " ", "")
		got := h.Append([]byte("before"), 16)
		if string(got[:6]) != "before" {
			t.Errorf("what was before became %q", got[:6])
		}
		if got = got[6:]; h.Source.Is4() {
			if Checksum(Sum(0, got)) != 0 {
				t.Errorf("%v: the checksum is wrong", h)
			}
			if h.ID != 0 { // not written down above
				got[IPv4Checksum], got[IPv4Checksum+1] = 0, 0
			}
		}
		if text := hex.EncodeToString(got); text != want {
			t.Errorf("got  %s\nwant %s", text, want)
		}
	}
}

// TestChecksum: four bytes at a time give what RFC 1071 §4.1 computes with two.
func TestChecksum(t *testing.T) {
	for range 1000 {
		b := make([]byte, 2*rand.IntN(100))
		for i := range b {
			b[i] = byte(rand.Uint32())
		}
		slow := uint32(0)
		for i := 0; i < len(b); i += 2 {
			slow += uint32(b[i])<<8 | uint32(b[i+1])
		}
		for slow > 0xffff {
			slow = slow>>16 + slow&0xffff
		}
		if got := Checksum(Sum(0, b)); got != ^uint16(slow) {
			t.Fatalf("checksum of %x: %#x, want %#x", b, got, ^uint16(slow))
		}
	}
	// The pseudo-header counts as bytes before the message.
	src, dst, message := netip.MustParseAddr("fe80::c8"), netip.MustParseAddr("ff02::12"), []byte{1, 2, 3, 4}
	before := append(append(src.AsSlice(), dst.AsSlice()...), 0, 0, 0, 4, 0, 0, 0, 112)
	if got, want := SumPseudoHeader(Sum(0, message), src, dst, 112, 4), Sum(Sum(0, before), message); Checksum(got) != Checksum(want) {
		t.Errorf("with the pseudo-header %#x, want %#x", Checksum(got), Checksum(want))
	}
}

func TestHardwareAddresses(t *testing.T) {
	for group, want := range map[string]string{
		"224.0.0.18": "01005e000012", "239.255.1.2": "01005e7f0102", "ff02::12": "333300000012", "ff02::1:ff00:abcd": "3333ff00abcd",
	} {
		if got := GroupMAC(netip.MustParseAddr(group)); fmt.Sprintf("%x", got) != want {
			t.Errorf("%s: %x, want %s", group, got, want)
		}
	}
	if got := fmt.Sprint(VirtualMAC(51, false), " ", VirtualMAC(255, true)); got != "00:00:5e:00:01:33 00:00:5e:00:02:ff" {
		t.Errorf("virtual addresses %s", got)
	}
}

// addressless is a connection through a tunnel, such as SSH, whose ends have no addresses.
type addressless struct{ net.Conn }

func (addressless) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4zero} }
func (addressless) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4zero} }

// TestIsSelfConnected: a connection to itself, and none that is not: not even one whose ends
// have the same name, as those of Unix sockets without one.
func TestIsSelfConnected(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer free.Close()
	other, err := net.Dial("tcp", free.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if IsSelfConnected(other) {
		t.Error("a connection to somebody else")
	}
	for range 10 { // another program may be faster with the port
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ln.Close()
		self, err := (&net.Dialer{LocalAddr: ln.Addr()}).Dial("tcp", ln.Addr().String())
		if err != nil {
			continue
		}
		defer self.Close()
		if !IsSelfConnected(self) {
			t.Errorf("a connection from %v to %v", self.LocalAddr(), self.RemoteAddr())
		}
		break
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if IsSelfConnected(a) {
		t.Error("a pipe")
	}
	if IsSelfConnected(addressless{a}) {
		t.Error("a connection without addresses")
	}
}
