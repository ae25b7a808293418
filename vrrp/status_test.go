package vrrp

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/havip/havip/internal/lab/labtest"
)

// lockedBuffer is a log that a test reads.
type lockedBuffer struct{ labtest.Log }

func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a, b := lan.node(t, 1, Config{Priority: 120, Name: "VI_1"}), lan.node(t, 2, Config{Priority: 110})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		took := lan.start.Add(3*time.Second + skew3(120))
		want := Status{
			Name: "VI_1", VRID: 51, State: Active, Priority: 120, Interval: time.Second, Source: a.addr, Since: took,
			Counters:   Counters{Sent: 7, Transitions: 2, Causes: causes(CauseStart, CauseTimeout), Dropped: map[DropReason]uint64{}},
			LastChange: Transition{From: Backup, To: Active, Cause: CauseTimeout, Priority: 120, Time: took},
		}
		ignore := cmpopts.IgnoreUnexported(Counters{})
		addr := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
		if diff := cmp.Diff(want, a.Status(), ignore, addr, cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
		want = Status{
			Name: "51/IPv4", VRID: 51, State: Backup, Priority: 110, Interval: time.Second, Source: b.addr, Since: lan.start,
			Counters: Counters{Received: 7, Transitions: 1, Causes: causes(CauseStart)},
			Peers:    []Peer{{Address: a.addr, Version: 3, Priority: 120, Interval: time.Second, LastHeard: took.Add(6 * time.Second)}},

			LastChange: Transition{From: Initialize, To: Backup, Cause: CauseStart, Priority: 110, Time: lan.start},
		}
		if diff := cmp.Diff(want, b.Status(), ignore, addr, cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
		a.stop()
		synctest.Wait()
		if got := b.Status().Peers[0].Priority; got != 0 {
			t.Errorf("the peer that left has priority %d, want 0", got)
		}
	})
}

// causes are Counters.Causes of a router that had transitions for these.
func causes(had ...Cause) map[Cause]uint64 {
	all := map[Cause]uint64{}
	for c := range numCauses - 1 {
		all[c+1] = 0
	}
	for _, c := range had {
		all[c]++
	}
	return all
}

// TestForeignSender: another sender uses our VRID with other parameters. It is counted each
// time, logged once in a while, and changes nothing.
func TestForeignSender(t *testing.T) {
	hmac := func(secret byte) Auth {
		key := bytes.Repeat([]byte{secret}, 32)
		return Auth{Type: AuthHMAC, HMAC: HMACConfig{Keys: []Key{{ID: 1, Secret: key}}}}
	}
	for _, test := range []struct {
		name    string
		own     Config
		foreign Config
		log     string
		count   func(Counters) uint64
	}{
		{"version", Config{}, Config{Version: 2}, "version 2, want 3",
			func(c Counters) uint64 { return c.Dropped[DropVersion] }},
		{"password", Config{Version: 2, Auth: Auth{Type: AuthPass, Password: "one"}},
			Config{Version: 2, Auth: Auth{Type: AuthPass, Password: "two"}}, "the passwords differ",
			func(c Counters) uint64 { return c.Dropped[DropAuth] }},
		{"no password", Config{Version: 2, Auth: Auth{Type: AuthPass, Password: "one"}},
			Config{Version: 2}, "authentication",
			func(c Counters) uint64 { return c.Dropped[DropAuthType] }},
		{"key", Config{Auth: hmac(1)}, Config{Auth: hmac(2)}, "authentication",
			func(c Counters) uint64 { return c.Dropped[DropAuth] }},
		{"version 2 interval", Config{Version: 2}, Config{Version: 2, Interval: 2 * time.Second}, "interval in seconds 2, want 1",
			func(c Counters) uint64 { return c.Dropped[DropInterval] }},
		{"version 3 interval", Config{}, Config{Interval: 2 * time.Second, Priority: 100}, "another interval",
			func(c Counters) uint64 { return c.Mismatched }},
		{"addresses", Config{}, Config{Addresses: addrs("192.0.2.251", "192.0.2.250"), Priority: 100}, "other virtual addresses",
			func(c Counters) uint64 { return c.Mismatched }},
		{"none of the addresses", Config{}, Config{Addresses: addrs("192.0.2.251", "192.0.2.252")}, "no address in common, it has 2, the first is 192.0.2.251",
			func(c Counters) uint64 { return c.Dropped[DropAddresses] }},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lan := newFakeLAN()
				var log lockedBuffer
				test.own.Logger = slog.New(slog.NewTextHandler(&log, nil))
				test.own.Priority = 110
				a := lan.node(t, 1, test.own)
				time.Sleep(5 * time.Second)
				a.is(Active)
				if test.foreign.Priority == 0 {
					test.foreign.Priority = 255
				}
				other := lan.node(t, 2, test.foreign)
				other.SetPriority(90)
				if test.foreign.Priority != 255 {
					// A router that would listen first is made to send.
					lan.cut(other.addr, true)
					time.Sleep(10 * time.Second)
					other.is(Active)
					lan.cut(other.addr, false)
					lan.Mu.Lock()
					a.port().Refuse = func(Packet) error { return io.ErrClosedPipe }
					lan.Mu.Unlock()
				}
				time.Sleep(20 * time.Second)
				a.is(Active)
				if got := test.count(a.Status().Counters); got < 10 {
					t.Errorf("%d counted, want each of them", got)
				}
				if s := a.Status(); s.Counters.Mismatched == 0 {
					at := s.LastDropAt.Sub(lan.start)
					if s.LastDrop == nil || s.LastDrop.Source != other.addr || !strings.Contains(s.LastDrop.Error(), test.log) || lan.now()-at > 2*time.Second {
						t.Errorf("the last advertisement discarded is said to be %q at %v", s.LastDrop, at)
					}
					want := []Drop{{Count: test.count(s.Counters), Last: *s.LastDrop, At: s.LastDropAt}}
					if !slices.Equal(s.Drops, want) {
						t.Errorf("discarded by reason: %+v, want %+v", s.Drops, want)
					}
				}
				if got := log.Lines(test.log); len(got) != 1 {
					t.Errorf("%d log lines, want 1: %q", len(got), got)
				}
				time.Sleep(noteInterval)
				if got := log.Lines(test.log); len(got) != 2 || strings.Contains(got[1], "times=1\n") {
					t.Errorf("%d log lines after %v, want 2, with the number of times: %q", len(got), noteInterval, got)
				}
			})
		})
	}
}

// TestChecksumFormsCounted: each unusual form of the checksum is accepted, and counted by
// itself. The log names it: its sender may accept no other form.
func TestChecksumFormsCounted(t *testing.T) {
	for pair, want := range map[[2]ChecksumForm][2]bool{
		{ChecksumPseudoHeader, ChecksumPseudoHeader}: {}, {ChecksumPseudoHeader, ChecksumMessage}: {}, {ChecksumPseudoHeader, ChecksumOldUnicast}: {},
		{ChecksumMessage, ChecksumPseudoHeader}: {true, false}, {ChecksumMessage, ChecksumMessage}: {true, false},
		{ChecksumOldUnicast, ChecksumPseudoHeader}: {false, true}, {ChecksumOldUnicast, ChecksumOldUnicast}: {false, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			lan := newFakeLAN()
			form, own := pair[0], pair[1]
			lan.node(t, 1, Config{Priority: 120, Checksum: form, Peers: addrs("192.0.2.2")})
			var log lockedBuffer
			b := lan.node(t, 2, Config{Priority: 110, Checksum: own, Peers: addrs("192.0.2.1"), Logger: slog.New(slog.NewTextHandler(&log, nil))})
			time.Sleep(10 * time.Second)
			b.is(Backup)
			said := log.Lines(fmt.Sprintf("level=WARN msg=\"another form of checksum\" router=51/IPv4 from=192.0.2.1 got=%v want=%v times=1\n", form, own))
			if (len(said) == 1) != (form != own) {
				t.Errorf("%v heard by %v: said %q", form, own, said)
			}
			c := b.Status().Counters
			got := [2]bool{c.MessageChecksums == c.Received, c.OldUnicastChecksums == c.Received}
			if c.Received == 0 || got != want || c.MessageChecksums+c.OldUnicastChecksums > c.Received {
				t.Errorf("form %d: %+v", form, c)
			}
		})
	}
}

// TestOwnerConflict: the owner of the addresses hears another Active router, and says
// so.
func TestOwnerConflict(t *testing.T) {
	for version, test := range map[uint8]struct {
		log   string
		count func(Counters) uint64
	}{
		2: {"discarded", func(c Counters) uint64 { return c.Dropped[DropOwner] }},
		3: {"split: another router is Active as well", func(c Counters) uint64 { return c.Conflicts }},
	} {
		synctest.Test(t, func(t *testing.T) {
			lan := newFakeLAN()
			var log lockedBuffer
			a := lan.node(t, 1, Config{Version: version, Priority: 255, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			b := lan.node(t, 2, Config{Version: version, Priority: 110})
			lan.cut(b.addr, true)
			time.Sleep(10 * time.Second)
			b.is(Active)
			lan.Mu.Lock()
			a.port().Refuse = func(Packet) error { return io.ErrClosedPipe } // b hears nothing
			lan.Mu.Unlock()
			lan.cut(b.addr, false)
			before := a.handler.log()
			time.Sleep(20 * time.Second)
			a.is(Active)
			s := a.Status()
			if got := test.count(s.Counters); got < 19 || got > 21 || s.Counters.Received > got || len(s.Counters.Dropped) > 1 {
				t.Errorf("version %d: %d conflicts, want 20; %+v", version, got, s.Counters)
			}
			if len(s.Peers) != 1 || s.Peers[0].Address != b.addr || s.Peers[0].Priority != 110 {
				t.Errorf("version %d: peers %v", version, s.Peers)
			}
			if got := log.Lines(test.log); len(got) != 1 {
				t.Errorf("version %d: %d log lines, want 1: %q", version, len(got), got)
			}
			// The neighbours are told each 5 s, and once more when the other has gone.
			told := len(a.handler.log()) - len(before)
			b.stop()
			time.Sleep(5 * time.Second)
			synctest.Wait()
			if got := len(a.handler.log()) - len(before) - told; told < 4 || told > 5 || got < 1 || got > 2 {
				t.Errorf("version %d: %d calls of the Handler and then %d, want 4 or 5 announces and one or two", version, told, got)
			}
		})
	}
}

// TestPeersBounded: strangers cannot fill the memory.
func TestPeersBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newFakeLAN().node(t, 1, Config{})
		for i := range 1000 {
			a.noteHeard(&Advertisement{Source: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), Priority: 1}, time.Now())
		}
		peers := a.Status().Peers
		if len(peers) != maxPeers {
			t.Errorf("%d peers, want %d", len(peers), maxPeers)
		}
		if want := netip.MustParseAddr("10.0.3.231"); peers[0].Address != want {
			t.Errorf("the first peer is %v, want %v, heard last", peers[0].Address, want)
		}
	})
}

// TestFaultIsAWarning: who looks for warnings in the log finds a router that is
// out of the election.
func TestFaultIsAWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lockedBuffer
		n := newFakeLAN().node(t, 1, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		time.Sleep(10 * time.Second)
		release := n.Hold("check web")
		time.Sleep(time.Second)
		release()
		time.Sleep(time.Second)
		for cause, level := range map[string]string{"cause=fault ": "WARN", `cause="fault cleared"`: "INFO", "cause=start": "INFO"} {
			if got := log.Lines(cause); len(got) != 1 || !strings.Contains(got[0], "level="+level) {
				t.Errorf("said %q, want one line of level %s", got, level)
			}
		}
	})
}

// TestDropsByReason: what was discarded last is told for each reason, the latest first, and
// the router's own advertisements are left out.
func TestDropsByReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a := lan.node(t, 1, Config{Version: 2, Auth: Auth{Type: AuthPass, Password: "one"}})
		time.Sleep(5 * time.Second)
		began := lan.now()
		send := func(host byte, password string, interval time.Duration) {
			a.conn.mu.Lock()
			defer a.conn.mu.Unlock()
			adv := Advertisement{
				Source: netip.AddrFrom4([4]byte{192, 0, 2, host}), Destination: groupIPv4, Version: 2, VRID: 51, Priority: 90,
				Interval: interval, Addresses: addrs("192.0.2.250"), AuthType: uint8(AuthPass),
			}
			copy(adv.AuthData[:], password)
			a.loop.receivePacket(packetOf(t, adv), time.Now())
		}
		send(2, "two", time.Second)
		send(3, "two", time.Second)
		time.Sleep(time.Second)
		send(4, "one", 2*time.Second)
		got := a.Status().Drops
		if len(got) != 2 || got[0].Last.Reason != DropInterval || got[1].Last.Reason != DropAuth {
			t.Fatalf("discarded by reason: %+v, want an interval and then a password", got)
		}
		if d := got[1]; d.Count != 2 || d.Last.Source != netip.MustParseAddr("192.0.2.3") || d.At.Sub(lan.start) != began {
			t.Errorf("discarded for the password: %+v, want 2 of which 192.0.2.3 sent the last after %v", d, began)
		}
		if d := got[0]; d.Count != 1 || d.At.Sub(lan.start) != began+time.Second {
			t.Errorf("discarded for the interval: %+v, want one after %v", d, began+time.Second)
		}
	})
}
