package monitor

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"

	"github.com/havip/havip/internal/inet"
	"github.com/havip/havip/vrrp"
)

// epoch is when the tests' frames begin.
var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// at returns a time of the tests.
func at(seconds float64) time.Time { return epoch.Add(time.Duration(seconds * float64(time.Second))) }

// router makes the frames of one router.
type router struct {
	vrrp.Advertisement
	mac     [6]byte
	ttl     uint8
	trailer []byte // behind the message
	options []byte // of the IPv4 header
	ah      bool
	damage  int // added to the checksum
}

// newRouter returns one that advertises by multicast every second, version 3.
func newRouter(host string, priority uint8, change ...func(r *router)) *router {
	src := netip.MustParseAddr(host)
	r := &router{ttl: 255, mac: [6]byte{2, 0, 0, 0, 0, src.AsSlice()[src.BitLen()/8-1]}}
	r.Advertisement = vrrp.Advertisement{
		Source: src, Destination: netip.MustParseAddr("224.0.0.18"), Version: 3, VRID: 51, Priority: priority,
		Interval: time.Second, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.100")},
	}
	if src.Is6() {
		r.Destination = netip.MustParseAddr("ff02::12")
		r.Addresses = []netip.Addr{netip.MustParseAddr("fe80::100"), netip.MustParseAddr("2001:db8::100")}
	}
	for _, f := range change {
		f(r)
	}
	return r
}

func version2(password string) func(r *router) {
	return func(r *router) {
		if r.Version = 2; password != "" {
			r.AuthType = uint8(vrrp.AuthPass)
			copy(r.AuthData[:], password)
		}
	}
}

func addresses(list ...string) func(r *router) {
	return func(r *router) {
		r.Addresses = nil
		for _, a := range list {
			r.Addresses = append(r.Addresses, netip.MustParseAddr(a))
		}
	}
}

func every(d time.Duration) func(r *router) { return func(r *router) { r.Interval = d } }

// message returns the VRRP message with what follows it.
func (r *router) message(t testing.TB) []byte {
	t.Helper()
	b, err := r.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	binary.BigEndian.PutUint16(b[6:], binary.BigEndian.Uint16(b[6:])+uint16(r.damage))
	return append(b, r.trailer...)
}

// packet returns the IP packet.
func (r *router) packet(t testing.TB) []byte {
	t.Helper()
	protocol, payload := uint8(protocolVRRP), r.message(t)
	if r.ah {
		head := append([]byte{protocolVRRP, 4, 0, 0}, r.Source.AsSlice()...)
		protocol, payload = protocolAH, append(append(head, make([]byte, 16)...), payload...)
	}
	return r.wrap(protocol, payload)
}

// packetWith returns an IP packet of protocol 112 with another message.
func (r *router) packetWith(message []byte) []byte { return r.wrap(protocolVRRP, message) }

func (r *router) wrap(protocol uint8, payload []byte) []byte {
	h := inet.Header{Source: r.Source, Destination: r.Destination, Protocol: protocol, TTL: r.ttl, Class: inet.NetworkControl}
	b := h.Append(nil, len(payload)+len(r.options))
	if len(r.options) > 0 {
		b[0] += byte(len(r.options) / 4)
	}
	return slices.Concat(b, r.options, payload)
}

// frame returns the Ethernet frame at a time.
func (r *router) frame(t testing.TB, seconds float64) Frame {
	t.Helper()
	group := inet.GroupMAC(r.Destination)
	typ := []byte{8, 0}
	if r.Source.Is6() {
		typ = []byte{0x86, 0xdd}
	}
	return ethernet(seconds, slices.Concat(group[:], r.mac[:], typ, r.packet(t)))
}

func ethernet(seconds float64, data []byte) Frame {
	return Frame{Time: at(seconds), Link: layers.LinkTypeEthernet, Data: data, Length: len(data)}
}

// arp returns an ARP packet in which mac claims an address.
func arp(seconds float64, operation byte, mac [6]byte, sender, target string) Frame {
	s, d := netip.MustParseAddr(sender).As4(), netip.MustParseAddr(target).As4()
	return ethernet(seconds, slices.Concat([]byte{255, 255, 255, 255, 255, 255}, mac[:], []byte{8, 6, 0, 1, 8, 0, 6, 4, 0, operation},
		mac[:], s[:], make([]byte, 6), d[:]))
}

// advertise sends the router's advertisements from one time to another, an interval apart.
func (r *router) advertise(t testing.TB, from, to float64) (frames []Frame) {
	t.Helper()
	for s := from; s <= to+1e-9; s += r.Interval.Seconds() {
		frames = append(frames, r.frame(t, s))
	}
	return frames
}

// leave returns the router's last advertisement.
func (r *router) leave(t testing.TB, seconds float64) Frame {
	gone := *r
	gone.Priority = 0
	return gone.frame(t, seconds)
}

// show gives the frames to a Watcher in the order of their times and lets time pass until
// the end.
func show(t testing.TB, until float64, frames ...Frame) (*Watcher, []Event) {
	t.Helper()
	slices.SortStableFunc(frames, func(a, b Frame) int { return a.Time.Compare(b.Time) })
	w := NewWatcher()
	var all []Event
	for _, f := range frames {
		all = append(all, w.Observe(f)...)
	}
	all = append(all, w.Tick(at(until))...)
	return w, append(all, w.Finish()...)
}
