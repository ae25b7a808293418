package monitor

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/gopacket/gopacket/layers"
	"golang.org/x/net/bpf"
)

// tagged puts VLAN tags into an Ethernet frame.
func tagged(f Frame, tags ...byte) Frame {
	for _, id := range tags {
		f.Data = slices.Concat(f.Data[:12], []byte{0x81, 0, 0, id}, f.Data[12:])
	}
	f.Length = len(f.Data)
	return f
}

// as gives a packet the header of another link type.
func as(link layers.LinkType, head, packet []byte) Frame {
	data := slices.Concat(head, packet)
	return Frame{Time: epoch, Link: link, Data: data, Length: len(data)}
}

// TestFrames: an advertisement is found in all kinds of frames.
func TestFrames(t *testing.T) {
	v4, v6 := newRouter(a1, 120), newRouter("fe80::1", 120)
	with := func(f Frame, name string) Frame { f.Interface = name; return f }
	// behind a hop-by-hop and a destination header of 8 bytes each (RFC 8200 §4.3, §4.6)
	extended := func(next byte) []byte {
		p := v6.packet(t)
		p[5] += 16
		p[6] = 0
		return slices.Concat(p[:40], []byte{60, 0, 1, 4, 0, 0, 0, 0}, []byte{next, 0, 1, 4, 0, 0, 0, 0}, p[40:])
	}
	for _, tc := range []struct {
		name  string
		frame Frame
		link  string
		mac   string
	}{
		{"Ethernet, IPv4", v4.frame(t, 0), "", "02:00:00:00:00:01"},
		{"Ethernet, IPv6", v6.frame(t, 0), "", "02:00:00:00:00:01"},
		{"padded to Ethernet's least length", func() Frame {
			f := v4.frame(t, 0)
			f.Data = append(f.Data, make([]byte, 30)...)
			f.Length = len(f.Data)
			return f
		}(), "", "02:00:00:00:00:01"},
		{"of a known interface", with(v4.frame(t, 0), "eth0"), "eth0", "02:00:00:00:00:01"},
		{"a VLAN", with(tagged(v4.frame(t, 0), 10), "eth0"), "eth0.10", "02:00:00:00:00:01"},
		{"a VLAN in another", with(tagged(v6.frame(t, 0), 10, 20), "eth0"), "eth0.20.10", "02:00:00:00:00:01"},
		{"Linux cooked", as(layers.LinkTypeLinuxSLL, []byte{0, 2, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 8, 0}, v4.packet(t)), "", "02:00:00:00:00:01"},
		{"Linux cooked, version 2", as(layers.LinkTypeLinuxSLL2, []byte{8, 0, 0, 0, 0, 0, 0, 3, 0, 1, 2, 6, 2, 0, 0, 0, 0, 1, 0, 0}, v4.packet(t)), "#3", "02:00:00:00:00:01"},
		{"raw IPv4", as(layers.LinkTypeRaw, nil, v4.packet(t)), "", ""},
		{"raw IPv6", as(layers.LinkTypeRaw, nil, v6.packet(t)), "", ""},
		{"raw IP of BSD", as(rawBSD, nil, v6.packet(t)), "", ""},
		{"IPv4 options", newRouter(a1, 120, func(r *router) { r.options = []byte{148, 4, 0, 0, 1, 1, 1, 0} }).frame(t, 0), "", "02:00:00:00:00:01"},
		{"IPv6 extension headers", as(layers.LinkTypeIPv6, nil, extended(112)), "", ""},
		{"AH", newRouter(a1, 120, version2(""), func(r *router) { r.ah = true; r.AuthType = 2 }).frame(t, 0), "", "02:00:00:00:00:01"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			events := NewWatcher().Observe(tc.frame)
			if len(events) == 0 || events[0].Kind != KindAdvertisement {
				t.Fatalf("no advertisement: %+v", events)
			}
			a := events[0].Advertisement
			if mac, _ := a.MAC.MarshalText(); string(mac) != tc.mac || events[0].Link != tc.link {
				t.Errorf("link %q, hardware address %v", events[0].Link, a.MAC)
			}
			if a.Error != "" || a.Priority != 120 || a.TTL != 255 || events[0].VRID != 51 || len(a.Addresses) == 0 ||
				!slices.Contains([]netip.Addr{v4.Source, v6.Source}, a.Source) {
				t.Errorf("%+v", a)
			}
		})
	}
}

// TestBrokenFrames: what cannot be read is said, and why.
func TestBrokenFrames(t *testing.T) {
	whole := newRouter(a1, 120)
	cutTo := func(n, length int) Frame {
		f := whole.frame(t, 0)
		f.Data = f.Data[:n]
		f.Length = length
		return f
	}
	change := func(offset int, b ...byte) Frame {
		f := whole.frame(t, 0)
		copy(f.Data[offset:], b)
		return f
	}
	for _, tc := range []struct {
		name    string
		frame   Frame
		want    string
		problem bool
	}{
		{"cut by the capture", cutTo(40, 46), "the capture kept 40 of its 46 bytes: capture whole frames (tcpdump -s 0)", false},
		{"cut on the wire", cutTo(40, 40), "the frame ends before the IP packet does", true},
		{"no whole IP header", cutTo(30, 30), "its IP header cannot be read", false},
		{"a fragment", change(20, 0x20, 0), "a fragment of an IP packet", true},
		{"version 4", change(34, 0x41), "version 4, want 3", true},
		{"type 2", change(34, 0x32), "type 2, want 1", true},
		{"a byte that was changed", change(35, 7), "checksum", true},
		{"more addresses than bytes", change(37, 9), "too short: 12 bytes, want 44", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := NewWatcher()
			events := w.Observe(tc.frame)
			text := ""
			for _, e := range events {
				text += e.Kind.String() + " " + e.Text + "\n"
			}
			if !strings.Contains(text, tc.want) || (w.Problems() > 0) != tc.problem {
				t.Errorf("%d problems: %s", w.Problems(), text)
			}
		})
	}
}

// TestOtherFrames: other traffic is none of the monitor's business.
func TestOtherFrames(t *testing.T) {
	tcp := newRouter(a1, 120).frame(t, 0)
	tcp.Data[23] = 6
	ipsec := newRouter(a1, 120, version2(""), func(r *router) { r.ah = true; r.AuthType = 2 }).frame(t, 0)
	ipsec.Data[34] = 6
	for name, f := range map[string]Frame{
		"nothing": {Link: layers.LinkTypeEthernet}, "a stub": ethernet(0, []byte{1, 2, 3}), "TCP": tcp, "AH around TCP": ipsec,
		"ARP of nobody's address": arp(0, 2, [6]byte{2}, a1, a2), "another link type": {Link: 42, Data: tcp.Data},
	} {
		if events := NewWatcher().Observe(f); len(events) > 0 {
			t.Errorf("%s: %+v", name, events)
		}
	}
}

// TestFilter: the kernel's filter keeps what the Watcher looks at, of whole frames.
func TestFilter(t *testing.T) {
	vm, err := bpf.NewVM(filter(true))
	if err != nil {
		t.Fatal(err)
	}
	v4, v6 := newRouter(a1, 120).frame(t, 0), newRouter("fe80::1", 120).frame(t, 0)
	change := func(f Frame, offset int, b byte) Frame {
		f.Data = bytes.Clone(f.Data)
		f.Data[offset] = b
		return f
	}
	na := neighbor(0, [6]byte{2}, "2001:db8::1")
	for _, tc := range []struct {
		name  string
		frame Frame
		keep  bool
	}{
		{"IPv4", v4, true}, {"IPv6", v6, true}, {"AH", change(v4, 23, 51), true}, {"AH over IPv6", change(v6, 20, 51), true}, {"ARP", arp(0, 1, [6]byte{2}, a1, a2), true},
		{"neighbour advertisement", na, true}, {"hop-by-hop", change(v6, 20, 0), true}, {"destination options", change(v6, 20, 60), true},
		{"tagged IPv4", tagged(v4, 10), true}, {"tagged IPv6", tagged(v6, 10), true}, {"tagged neighbour advertisement", tagged(na, 10), true},
		{"802.1ad", change(change(tagged(v4, 10), 12, 0x88), 13, 0xa8), true}, {"TCP", change(v4, 23, 6), false}, {"UDP over IPv6", change(v6, 20, 17), false},
		{"echo", change(na, 54, 128), false}, {"tagged TCP", change(tagged(v4, 10), 27, 6), false}, {"LLDP", change(v4, 13, 0xcc), false},
	} {
		n, err := vm.Run(tc.frame.Data)
		if err != nil || (n > 0) != tc.keep {
			t.Errorf("%s: %d, %v, want kept: %v", tc.name, n, err, tc.keep)
		}
	}
	if _, err := bpf.Assemble(filter(false)); err != nil {
		t.Error(err)
	}
}
