package healthcheck

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"

	"github.com/havip/havip/internal/lab"
)

// behindRouter returns a host whose router has no route to the targets, or does not let
// packets pass.
func behindRouter(t *testing.T) *lab.Host {
	l := lab.New(t)
	a := l.MustHost("a", "192.0.2.1/24", "2001:db8::1/64")
	router := l.MustHost("router", "192.0.2.254/24", "2001:db8::254/64")
	for setting, value := range map[string]string{
		"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1",
		// Each packet is answered: of the kinds of messages whose rate is limited
		// none is about unreachability (3, 1).
		"net.ipv4.icmp_ratemask": "0", "net.ipv6.icmp.ratemask": "2",
	} {
		if err := router.Sysctl(setting, value); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		h    *lab.Host
		args []string
	}{
		{a, []string{"route", "add", "198.51.100.0/24", "via", "192.0.2.254"}},
		{a, []string{"route", "add", "2001:db8:100::/64", "via", "2001:db8::254"}},
		{router, []string{"route", "add", "prohibit", "198.51.100.1"}},
		{router, []string{"route", "add", "prohibit", "2001:db8:100::1"}},
	} {
		if err := c.h.Command("ip", c.args...).Run(); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "IPv6", func() bool { return checkIn(t, a, ICMP{Address: "2001:db8::254"}, time.Second) == nil })
	return a
}

func TestGatewayInLab(t *testing.T) {
	l := lab.New(t)
	a := l.MustHost("a", "192.0.2.1/24", "2001:db8::1/64")
	gw := l.MustHost("gw", "192.0.2.254/24", "2001:db8::254/64")
	bare := l.MustHost("bare") // an interface without an IPv4 address
	v4 := Gateway{Interface: "eth0", Address: netip.MustParseAddr("192.0.2.254")}
	v6 := Gateway{Interface: "eth0", Address: netip.MustParseAddr("2001:db8::254")}
	both := func() bool { return checkIn(t, a, v4, time.Second) == nil && checkIn(t, a, v6, time.Second) == nil }
	waitFor(t, "IPv6", both)

	wantUp(t, a, v4)
	wantUp(t, a, v6)
	wantUp(t, bare, v4)
	if err := gw.Sysctl("net.ipv4.icmp_echo_ignore_all", "1"); err != nil { // does not matter to ARP
		t.Fatal(err)
	}
	wantUp(t, a, v4)
	wantDown(t, a, Gateway{Interface: "eth0", Address: netip.MustParseAddr("192.0.2.77")}, isTimeout)
	wantDown(t, a, Gateway{Interface: "eth0", Address: netip.MustParseAddr("2001:db8::77")}, isTimeout)
	wantDown(t, a, Gateway{Interface: "eth9", Address: v4.Address}, nil)
	// Our own address is no proof of a neighbour.
	wantDown(t, a, Gateway{Interface: "eth0", Address: netip.MustParseAddr("192.0.2.1")}, isTimeout)

	if err := gw.Isolate(); err != nil { // our own carrier stays
		t.Fatal(err)
	}
	wantDown(t, a, v4, isTimeout)
	wantDown(t, a, v6, isTimeout)
	if err := gw.Rejoin(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the gateway's return", both)

	if err := a.Cut(); err != nil {
		t.Fatal(err)
	}
	wantDown(t, a, v4, nil)
	wantDown(t, a, v6, nil)
}

// TestGatewayAnswers: every answer is examined, however late it comes.
func TestGatewayAnswers(t *testing.T) {
	l := lab.New(t)
	a := l.MustHost("a", "192.0.2.1/24")
	gw := l.MustHost("gw") // its kernel has no address to answer for
	target, other := netip.MustParseAddr("192.0.2.254"), netip.MustParseAddr("192.0.2.253")
	c := Gateway{Interface: "eth0", Address: target}
	reply := func(of netip.Addr) func(from, to net.HardwareAddr) []byte {
		return func(from, to net.HardwareAddr) []byte {
			return marshalARP(arpReply, from, of, to, netip.MustParseAddr("192.0.2.1"))
		}
	}
	good := reply(target)
	for _, test := range []struct {
		name  string
		delay time.Duration
		reply func(from, to net.HardwareAddr) []byte
		up    bool
	}{
		{"slow", 300 * time.Millisecond, good, true},
		{"oversized", 0, func(from, to net.HardwareAddr) []byte { return append(good(from, to), make([]byte, 1400)...) }, true},
		{"for another", 0, reply(other), false},
		{"cut", 0, func(from, to net.HardwareAddr) []byte { return good(from, to)[:20] }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			stop := answerARP(t, gw, target, test.delay, test.reply)
			defer stop()
			if test.up {
				wantUp(t, a, c)
			} else {
				wantDown(t, a, c, isTimeout)
			}
		})
	}
}

// answerARP answers requests for addr at a host until stop is called.
func answerARP(t *testing.T, h *lab.Host, addr netip.Addr, delay time.Duration, reply func(from, to net.HardwareAddr) []byte) (stop func()) {
	t.Helper()
	var conn *packet.Conn
	var us net.HardwareAddr
	if err := h.Do(func() error {
		ifi, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		us = ifi.HardwareAddr
		conn, err = packet.Listen(ifi, packet.Raw, int(ethernet.EtherTypeARP), nil)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 2048)
		for {
			n, _, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var f ethernet.Frame
			if f.UnmarshalBinary(buf[:n]) != nil || len(f.Payload) < arpSize || !bytes.Equal(f.Payload[24:28], addr.AsSlice()) {
				continue
			}
			time.Sleep(delay)
			b, err := (&ethernet.Frame{Destination: f.Source, Source: us, EtherType: ethernet.EtherTypeARP, Payload: reply(us, f.Source)}).MarshalBinary()
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(b, &packet.Addr{HardwareAddr: f.Source})
		}
	}()
	return func() {
		conn.Close()
		<-done
	}
}

func TestARPAnswer(t *testing.T) {
	us, them := net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	ours, gw := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.254")
	reply := marshalARP(arpReply, them, gw, us, ours)
	tests := []struct {
		name string
		b    []byte
		want bool
	}{
		{"reply", reply, true},
		{"padded", append(append([]byte(nil), reply...), make([]byte, 18)...), true},
		{"cut", reply[:27], false},
		{"request", marshalARP(arpRequest, them, gw, us, ours), false},
		{"from another", marshalARP(arpReply, them, ours, us, ours), false},
		{"to another", marshalARP(arpReply, them, gw, them, gw), false},
		{"not Ethernet", append([]byte{0, 7}, reply[2:]...), false},
	}
	for _, test := range tests {
		if got := isARPAnswer(test.b, gw, us); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
	// RFC 826, with Ethernet's and IPv4's sizes.
	want := "\x00\x01\x08\x00\x06\x04\x00\x02\x02\x00\x00\x00\x00\x02\xc0\x00\x02\xfe\x02\x00\x00\x00\x00\x01\xc0\x00\x02\x01"
	if string(reply) != want {
		t.Errorf("reply is %x, want %x", reply, want)
	}
}

func TestSolicitation(t *testing.T) {
	target := netip.MustParseAddr("2001:db8::1234:5678")
	if got, want := solicitedNode(target), netip.MustParseAddr("ff02::1:ff34:5678"); got != want {
		t.Errorf("solicited-node group is %v, want %v", got, want)
	}
	b := marshalSolicitation(target, net.HardwareAddr{2, 0, 0, 0, 0, 1})
	if len(b) != 32 || b[0] != 135 || b[24] != 1 || b[25] != 1 {
		t.Errorf("solicitation is %x", b)
	}
	answer := append([]byte{136, 0, 0, 0, 0x60, 0, 0, 0}, target.AsSlice()...)
	if !isAdvertisementOf(answer, target) || isAdvertisementOf(answer[:23], target) || isAdvertisementOf(b, target) {
		t.Error("advertisements are not told apart")
	}
}

func FuzzNeighbours(f *testing.F) {
	us := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	v4, v6 := netip.MustParseAddr("192.0.2.254"), netip.MustParseAddr("2001:db8::1")
	f.Add(marshalARP(arpReply, us, v4, us, v4))
	f.Add(append([]byte{136, 0, 0, 0, 0, 0, 0, 0}, v6.AsSlice()...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if isARPAnswer(b, v4, us) && binary.BigEndian.Uint16(b[6:]) != arpReply {
			t.Errorf("%x is taken for a reply", b)
		}
		isAdvertisementOf(b, v6)
	})
}

func TestGatewayValidate(t *testing.T) {
	for _, c := range []Gateway{{}, {Interface: "eth0"}, {Address: netip.MustParseAddr("192.0.2.1")},
		{Interface: "eth0", Address: netip.MustParseAddr("224.0.0.1")}, {Interface: "eth0", Address: netip.MustParseAddr("::")}} {
		if c.Validate() == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
	if (ICMP{}).Validate() == nil || (Interface{}).Validate() == nil {
		t.Error("a check of nothing is accepted")
	}
}
