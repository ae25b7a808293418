package monitor

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/inet"
)

const a1, a2, a3 = "192.0.2.1", "192.0.2.2", "192.0.2.3"

// TestWatcher: what is said of the frames, in this order and nothing else, but for the
// advertisements themselves. Each line begins with the kind or the code, and all of its
// words are in the event.
func TestWatcher(t *testing.T) {
	better, worse := newRouter(a1, 120), newRouter(a2, 110)
	foreign := [6]byte{2, 0, 0, 0, 0, 0x99}
	for _, tc := range []struct {
		name   string
		frames []Frame
		until  float64
		want   []string
	}{
		{"one router", better.advertise(t, 0, 5), 10, []string{"state|192.0.2.1 is Active: priority 120, every 1s, version 3"}},
		{"a router that falls silent is gone after its longest skew", better.advertise(t, 0, 5), 10.1, []string{
			"state|is Active", "no-active|192.0.2.1 fell silent 5.05s ago and none took over",
		}},
		{"one that comes back ends that", slices.Concat(better.advertise(t, 0, 1), better.advertise(t, 9, 10)), 11, []string{
			"state|is Active", "no-active|192.0.2.1 fell silent", "state|192.0.2.1 is Active again, 8s after its last advertisement", "over|there is an Active router again: 192.0.2.1",
		}},
		{"a takeover names the gap", slices.Concat(better.advertise(t, 0, 5), worse.advertise(t, 8.6, 12)), 13, []string{
			"state|192.0.2.1 is Active", "state|192.0.2.2 is Active, 3.6s after the last advertisement of 192.0.2.1",
		}},
		{"a hand-over", slices.Concat(better.advertise(t, 0, 2), []Frame{better.leave(t, 2.5)}, worse.advertise(t, 3.07, 6)), 7, []string{
			"state|192.0.2.1 is Active", "state|192.0.2.1 leaves: priority 0", "state|192.0.2.2 is Active, 570ms after 192.0.2.1 left",
		}},
		{"a router that leaves and has no successor", slices.Concat(better.advertise(t, 0, 2), []Frame{better.leave(t, 2.5)}), 5, []string{
			"state|192.0.2.1 is Active", "state|leaves", "no-active|192.0.2.1 left 2.05s ago and none took over",
		}},
		{"preemption", slices.Concat(worse.advertise(t, 0, 2), better.advertise(t, 2.4, 5)), 6, []string{
			"state|192.0.2.2 is Active", "state|192.0.2.1 is Active: it outranks 192.0.2.2 (priority 120 over 110)",
		}},
		{"advertisements that cross are no conflict", slices.Concat(worse.advertise(t, 0, 2), better.advertise(t, 1.99, 5)), 6, []string{
			"state|192.0.2.2 is Active", "state|192.0.2.1 is Active: it outranks",
		}},
		{"a worse one that begins beside a better one", slices.Concat(better.advertise(t, 0, 9), worse.advertise(t, 4.5, 4.6)), 10, []string{
			"state|192.0.2.1 is Active", "two-active|192.0.2.1 (priority 120) and 192.0.2.2 (priority 110): 192.0.2.2 does not hear 192.0.2.1|a firewall that drops IP protocol 112|224.0.0.18",
			"over|192.0.2.2 no longer advertises beside the other",
		}},
		{"both begin together and go on", slices.Concat(better.advertise(t, 0, 5), worse.advertise(t, 0.5, 5)), 6, []string{
			"state|192.0.2.1 is Active", "two-active|192.0.2.2 does not hear 192.0.2.1",
		}},
		{"a worse one that gives up when it hears the better one", slices.Concat(better.advertise(t, 0, 5), worse.advertise(t, 0.5, 0.6)), 6, []string{
			"state|192.0.2.1 is Active",
		}},
		{"of equal priorities the greater address wins", slices.Concat(newRouter(a1, 100).advertise(t, 0.5, 3.6), newRouter(a2, 100).advertise(t, 0, 3)), 4, []string{
			"state|192.0.2.2 is Active", "two-active|192.0.2.2 (priority 100) and 192.0.2.1 (priority 100): 192.0.2.1 does not hear",
		}},
		{"at 10 ms as well", slices.Concat(
			newRouter(a1, 120, every(10*time.Millisecond)).advertise(t, 0, 1), newRouter(a2, 110, every(10*time.Millisecond)).advertise(t, 0.505, 1)), 1.01, []string{
			"state|every 10ms", "two-active|",
		}},
		{"the other version", slices.Concat(better.advertise(t, 0, 6), newRouter(a2, 110, version2("")).advertise(t, 4.5, 6)), 7, []string{
			"state|", "version|192.0.2.1 speaks version 3, 192.0.2.2 version 2", "two-active|the versions differ",
		}},
		{"a router that was set right ends the mismatch", slices.Concat(
			newRouter(a1, 120, version2("")).advertise(t, 0, 2), worse.advertise(t, 5.6, 5.7), newRouter(a2, 110, version2("")).advertise(t, 6.6, 7)), 8, []string{
			"state|192.0.2.1", "version|", "state|192.0.2.2 is Active", "over|no longer differ in this: version",
		}},
		{"other passwords", slices.Concat(newRouter(a1, 120, version2("one")).advertise(t, 0, 6), newRouter(a2, 110, version2("two")).advertise(t, 4.5, 6)), 7, []string{
			"state|", "password|the passwords of 192.0.2.1 and 192.0.2.2 differ", "two-active|the passwords",
		}},
		{"a password and none", slices.Concat(newRouter(a1, 120, version2("one")).advertise(t, 0, 1), newRouter(a2, 110, version2("")).advertise(t, 4.5, 6)), 7, []string{
			"state|", "auth-type|192.0.2.1 uses pass, 192.0.2.2 none", "state|",
		}},
		{"an authentication that nobody knows", newRouter(a1, 120, version2(""), func(r *router) { r.AuthType = 9 }).advertise(t, 0, 2), 3, []string{
			"unknown-auth|192.0.2.1 authenticates by unknown type 9", "state|",
		}},
		{"another interval in version 2", slices.Concat(
			newRouter(a1, 120, version2("")).advertise(t, 0, 1), newRouter(a2, 110, version2(""), every(2*time.Second)).advertise(t, 4.5, 5)), 6, []string{
			"state|", "interval|192.0.2.1 advertises every 1s, 192.0.2.2 every 2s", "state|",
		}},
		{"another interval in version 3 is learned", slices.Concat(better.advertise(t, 0, 1), newRouter(a2, 110, every(500*time.Millisecond)).advertise(t, 4.6, 5)), 6, []string{
			"state|", "note|192.0.2.1 advertises every 1s, 192.0.2.2 every 500ms", "state|",
		}},
		{"another pair's VRID", slices.Concat(better.advertise(t, 0, 6), newRouter(a2, 110, addresses("192.0.2.200")).advertise(t, 4.5, 6)), 7, []string{
			"state|", "vrid-clash|that of 192.0.2.1 has 192.0.2.100, that of 192.0.2.2 has 192.0.2.200", "two-active|",
		}},
		{"one address more", slices.Concat(better.advertise(t, 0, 1), newRouter(a2, 110, addresses("192.0.2.100", "192.0.2.101")).advertise(t, 4.6, 5)), 6, []string{
			"state|", "note|the addresses differ: 192.0.2.1 has 192.0.2.100, 192.0.2.2 has 192.0.2.100, 192.0.2.101", "state|",
		}},
		{"the same addresses in another order", slices.Concat(
			newRouter(a1, 120, addresses("192.0.2.100", "192.0.2.101")).advertise(t, 0, 1), newRouter(a2, 110, addresses("192.0.2.101", "192.0.2.100")).advertise(t, 4.6, 5)), 6, []string{
			"state|", "state|",
		}},
		{"unicast beside multicast", slices.Concat(better.advertise(t, 0, 1), newRouter(a2, 110, func(r *router) { r.Destination = netip.MustParseAddr(a1) }).advertise(t, 4.6, 5)), 6, []string{
			"state|", "unicast-multicast|192.0.2.1 sends to the multicast group, 192.0.2.2 by unicast", "state|",
		}},
		{"another form of the checksum", slices.Concat(better.advertise(t, 0, 1), newRouter(a2, 110, func(r *router) { r.Checksum = 1 }).advertise(t, 4.6, 5)), 6, []string{
			"state|", "note|192.0.2.1 uses pseudo-header, 192.0.2.2 message-only", "state|",
		}},
		{"a TTL that receivers discard", newRouter(a1, 120, func(r *router) { r.ttl = 64 }).advertise(t, 0, 2), 3, []string{
			"ttl|192.0.2.1 sends to the group with TTL 64, want 255", "state|",
		}},
		{"a checksum that receivers discard", newRouter(a1, 120, func(r *router) { r.damage = 1 }).advertise(t, 0, 2), 3, []string{
			"malformed|192.0.2.1 sends what receivers discard: checksum", "state|",
		}},
		{"HMAC with a clock that is wrong", newRouter(a1, 120, signed(7, epoch.Add(-time.Minute))).advertise(t, 0, 2), 3, []string{
			"state|", "clock|the clock of 192.0.2.1, which signs, is off by -1m0s",
		}},
		{"HMAC in packets without a total length, as a sender's own host may capture them", func() (list []Frame) {
			for _, f := range newRouter(a1, 120, signed(7, epoch.Add(-time.Minute))).advertise(t, 0, 1) {
				clear(f.Data[14+inet.IPv4Total:][:2]) // behind the Ethernet header
				list = append(list, f)
			}
			return list
		}(), 2, []string{"state|", "clock|is off by -1m0s"}},
		{"HMAC with other keys", slices.Concat(newRouter(a1, 120, signed(7, epoch)).advertise(t, 0, 1), newRouter(a2, 110, signed(8, epoch)).advertise(t, 4.6, 5)), 6, []string{
			"state|", "note|192.0.2.1 signs with key 7, 192.0.2.2 with key 8", "state|",
		}},
		{"a trailer of an unknown type", newRouter(a1, 120, func(r *router) { r.trailer = append([]byte{9}, make([]byte, 27)...) }).advertise(t, 0, 1), 2, []string{
			"unknown-auth|192.0.2.1 authenticates by unknown trailer type 9", "state|",
		}},
		{"version 2's password behind version 3", newRouter(a1, 120, func(r *router) { r.trailer = make([]byte, 8) }).advertise(t, 0, 0), 2, []string{
			"other|192.0.2.1 > 224.0.0.18 protocol 112, 20 bytes: unknown authentication: 8 bytes follow its message", "unknown-auth|unknown authentication",
		}},
		{"what cannot be read is a problem once", newRouter(a1, 120, func(r *router) { r.trailer = make([]byte, 5) }).advertise(t, 0, 1), 2, []string{
			"other|17 bytes", "unknown-auth|192.0.2.1 sends what receivers discard: unknown authentication: 5 bytes", "other|17 bytes",
		}},
		{"a router that sends more often than it says", func() (list []Frame) {
			for i := range 20 {
				list = append(list, better.frame(t, float64(i)*0.3))
			}
			return list
		}(), 7, []string{"state|", "pace|192.0.2.1 says that it advertises every 1s, but does so every 300ms"}},
		{"a priority that changes", slices.Concat(better.advertise(t, 0, 1), newRouter(a1, 90).advertise(t, 2, 3)), 4, []string{
			"state|", "state|192.0.2.1: priority 90, was 120",
		}},
		{"two hosts with one address", func() (list []Frame) {
			twin := newRouter(a1, 120, func(r *router) { r.mac[4] = 7 })
			return slices.Concat(better.advertise(t, 0, 3), twin.advertise(t, 0.9, 3))
		}(), 4, []string{"state|", "duplicate-source|two hosts advertise from 192.0.2.1: 02:00:00:00:00:01 and 02:00:00:00:07:01"}},
		{"a virtual hardware address is nobody's twin", func() (list []Frame) {
			virtual := newRouter(a1, 120, func(r *router) { r.mac = [6]byte{0, 0, 0x5e, 0, 1, 51} })
			return slices.Concat(better.advertise(t, 0, 3), virtual.advertise(t, 0.9, 3))
		}(), 4, []string{"state|"}},
		{"a foreign ARP for the address", slices.Concat(better.advertise(t, 0, 3), []Frame{arp(1.5, 1, foreign, "192.0.2.100", "192.0.2.100"), arp(1.6, 1, foreign, "192.0.2.100", "192.0.2.100")}), 4, []string{
			"state|", "foreign-claim|a gratuitous ARP by 02:00:00:00:00:99 claims 192.0.2.100: the Active router is 192.0.2.1 at 02:00:00:00:00:01",
		}},
		{"a Backup that answers for the address", slices.Concat(worse.advertise(t, 0, 1), better.advertise(t, 1.5, 9), []Frame{arp(8.5, 2, worse.mac, "192.0.2.100", a3)}), 9.9, []string{
			"state|", "state|outranks", "foreign-claim|an ARP reply by 02:00:00:00:00:02 (192.0.2.2, which does not advertise) claims 192.0.2.100|left behind",
		}},
		{"ARP of those who may", slices.Concat(better.advertise(t, 0, 3), []Frame{
			arp(0.1, 1, better.mac, "192.0.2.100", "192.0.2.100"), arp(1.1, 2, [6]byte{0, 0, 0x5e, 0, 1, 51}, "192.0.2.100", a3),
			arp(1.2, 1, foreign, "0.0.0.0", "192.0.2.100"), arp(1.3, 1, foreign, a3, "192.0.2.100"), // a probe and a question
		}), 4, []string{"state|"}},
		{"a successor that announces before it advertises", slices.Concat(better.advertise(t, 0, 1), []Frame{arp(4.59, 1, worse.mac, "192.0.2.100", "192.0.2.100")}, worse.advertise(t, 4.6, 8)), 8.5, []string{
			"state|", "state|192.0.2.2 is Active, 3.6s",
		}},
		{"a foreign neighbour advertisement", slices.Concat(newRouter("fe80::1", 120).advertise(t, 0, 3), []Frame{neighbor(1.5, foreign, "2001:db8::100")}), 4, []string{
			"state|", "foreign-claim|a neighbour advertisement by 02:00:00:00:00:99 claims 2001:db8::100",
		}},
		{"CARP is named, and what it shares with VRRP", slices.Concat(better.advertise(t, 0, 1), []Frame{carp(0.5, a3, 51)}), 2, []string{
			"state|", "other|192.0.2.3 > 224.0.0.18 CARP, not VRRP: VHID 51, base 1s, skew 100, demotion 0", "carp|CARP of 192.0.2.3 uses this number, too|00:00:5e:00:01:33",
		}},
		{"CARP alone is no problem", []Frame{carp(0.5, a3, 51), carp(1.5, a3, 51)}, 2, []string{"other|CARP", "other|CARP"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, events := show(t, tc.until, tc.frames...)
			var got []string
			for _, e := range events {
				if e.Kind != KindAdvertisement {
					got = append(got, fmt.Sprintf("%v %v %s / %s", e.Kind, e.Code, e.Text, e.Next))
				}
			}
			fits := len(got) == len(tc.want)
			for i := 0; fits && i < len(got); i++ {
				kind, words, _ := strings.Cut(tc.want[i], "|")
				head := strings.SplitN(got[i], " ", 3)
				fits = head[0] == kind || head[1] == kind && head[0] != "over"
				for word := range strings.SplitSeq(words, "|") {
					fits = fits && strings.Contains(got[i], word)
				}
			}
			if !fits {
				t.Errorf("it says\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(tc.want, "\n  "))
			}
		})
	}
}

// signed puts an HMAC trailer with a key and a time behind the message.
func signed(key byte, clock time.Time) func(r *router) {
	return func(r *router) {
		r.trailer = binary.BigEndian.AppendUint32([]byte{1, key, 0, 0}, uint32(clock.Unix()))
		r.trailer = append(r.trailer, make([]byte, 20)...)
	}
}

// neighbor returns an unsolicited neighbour advertisement (RFC 4861 §4.4) by mac.
func neighbor(seconds float64, mac [6]byte, target string) Frame {
	src, all := netip.MustParseAddr("fe80::99").As16(), netip.MustParseAddr("ff02::1").As16()
	tgt := netip.MustParseAddr(target).As16()
	icmp := slices.Concat([]byte{136, 0, 0, 0, 0x20, 0, 0, 0}, tgt[:], []byte{2, 1}, mac[:])
	ip := slices.Concat([]byte{0x60, 0, 0, 0, 0, byte(len(icmp)), 58, 255}, src[:], all[:], icmp)
	return ethernet(seconds, slices.Concat([]byte{0x33, 0x33, 0, 0, 0, 1}, mac[:], []byte{0x86, 0xdd}, ip))
}

// carp returns CARP's hello (OpenBSD, struct carp_header).
func carp(seconds float64, host string, vhid byte) Frame {
	r := newRouter(host, 100)
	b := r.packetWith(append([]byte{0x21, vhid, 100, 7, 0, 1, 0x12, 0x34}, make([]byte, 28)...))
	return ethernet(seconds, slices.Concat([]byte{1, 0, 0x5e, 0, 0, 0x12}, r.mac[:], []byte{8, 0}, b))
}

// TestSummary: what was counted and measured of a router.
func TestSummary(t *testing.T) {
	r := newRouter(a1, 120)
	var frames []Frame
	for _, s := range []float64{0, 1, 2.1, 3.1, 5.1, 5.2, 6.2} { // the one at 4.1 is lost, that at 5.2 is an answer
		frames = append(frames, r.frame(t, s))
	}
	w, _ := show(t, 7, frames...)
	s := w.Summary()
	if s.Advertisements != 7 || len(s.Routers) != 1 || len(s.Findings) != 0 {
		t.Fatalf("%+v", s)
	}
	got := s.Routers[0]
	mean := time.Duration(got.Mean).Round(time.Millisecond)
	if got.State != "Active" || !got.Since.Equal(at(0)) || got.Count != 7 || got.Lost != 1 || mean != 1025*time.Millisecond ||
		time.Duration(got.Deviation).Round(time.Millisecond) != 50*time.Millisecond || time.Duration(got.Longest) != 2*time.Second || time.Duration(got.Percentile99) != 1100*time.Millisecond {
		t.Errorf("%+v", got)
	}
	if w, _ := show(t, 11.3, frames...); w.Summary().Routers[0].State != "silent" {
		t.Errorf("%+v", w.Summary().Routers[0])
	}
}

// TestBounds: hostile frames take no more memory than is set aside.
func TestBounds(t *testing.T) {
	w := NewWatcher()
	for i := range 3000 {
		src := netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)})
		r := newRouter(src.String(), 100, func(r *router) { r.VRID = byte(i%255) + 1 }, addresses(src.Next().String()))
		if i%3 == 0 {
			r.ttl = 3
		}
		w.Observe(r.frame(t, float64(i)/1000))
		w.Observe(arp(float64(i)/1000, 1, [6]byte{4, 1, 2, 3, byte(i >> 8), byte(i)}, src.Next().String(), a1))
	}
	for i := range 400 {
		w.Observe(newRouter(netip.AddrFrom4([4]byte{10, 8, byte(i >> 8), byte(i)}).String(), 100).frame(t, 4))
	}
	if n := len(w.groups[groupKey{"", false, 51}].senders); n > maxSenders {
		t.Errorf("%d senders of one group", n)
	}
	if len(w.claims) > maxClaims || len(w.findings) > maxFindings {
		t.Errorf("%d claims, %d findings", len(w.claims), len(w.findings))
	}
}

// TestSecrets: a password is a number, unless it is asked for.
func TestSecrets(t *testing.T) {
	for _, tc := range []struct {
		show bool
		want string
	}{{false, "pass#1"}, {true, `pass "d0cker"`}} {
		w := NewWatcher()
		w.ShowSecrets = tc.show
		events := w.Observe(newRouter(a1, 120, version2("d0cker")).frame(t, 0))
		if got := events[0].Advertisement.Auth; got != tc.want || w.Summary().Routers[0].Auth != tc.want {
			t.Errorf("ShowSecrets %v: %q, want %q", tc.show, got, tc.want)
		}
	}
}
