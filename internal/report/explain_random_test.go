package report

import (
	"math/rand/v2"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"
)

// dice makes statuses that a node may be in, and some that it may not.
type dice struct{ *rand.Rand }

func (d dice) one(words ...string) string { return words[d.IntN(len(words))] }

func (d dice) chance(percent int) bool { return d.IntN(100) < percent }

// time is a time before now, or none, or one of a clock that went back.
func (d dice) time() time.Time {
	switch d.IntN(10) {
	case 0:
		return time.Time{}
	case 1:
		return now.Add(time.Duration(d.IntN(5000)) * time.Millisecond)
	case 2:
		return ago(time.Duration(d.IntN(100)) * 24 * time.Hour)
	}
	return ago(time.Duration(d.IntN(20000)) * time.Millisecond)
}

// known is a time that is never zero.
func (d dice) known() time.Time {
	if t := d.time(); !t.IsZero() {
		return t
	}
	return now
}

func (d dice) peer(address string) Peer {
	return Peer{Address: address, Version: 3, Priority: uint8(d.IntN(256)), Interval: Seconds(time.Second), LastHeard: d.known()}
}

var allCauses = []string{"start", causeOwner, causeTimeout, causeLeft, causePreempt, causeHigher, causeFault, "fault cleared", causeResign,
	causeUnclaimed, causeStalled, "shutdown", causeGroup, "reconfigured"}

func (d dice) router() Router {
	r := healthy().Routers[0]
	r.State = d.one(stateActive, stateActive, stateBackup, stateBackup, "Initialize")
	r.Since, r.Cause = d.known(), d.one(allCauses...)
	switch r.Cause {
	case causeLeft, causePreempt, causeHigher:
		r.CausePeer = peer
	case causeTimeout:
		r.CausePeer = d.one("", peer)
	default:
		r.CausePeer = ""
	}
	if r.State == "Initialize" && r.Cause == "start" { // it has not begun
		r.Since, r.Cause = time.Time{}, ""
	}
	r.Held, r.HandingOver = d.chance(50), r.State == stateActive && d.chance(20)
	r.Priority, r.Configured, r.Preempt = uint8(d.IntN(256)), uint8(d.IntN(256)), d.chance(50)
	r.Source, r.Problem = d.one("", "192.168.31.240"), d.one("", "", "vip: add: permission denied")
	r.Group, r.Reason = d.one("", "G1"), d.one("", "check balancer is down")
	r.Peers, r.Unicast, r.Tracks = nil, nil, nil
	if d.chance(60) {
		r.Peers = append(r.Peers, d.peer(peer))
	}
	if d.chance(20) {
		r.Unicast = []string{peer}
	}
	if r.State == stateActive && d.chance(20) {
		rival := d.peer(peer)
		r.Rival, r.Deaf = &rival, d.one("", "it does not hear this one")
	}
	if d.chance(20) {
		r.Drops = []Drop{{Reason: d.one("auth", "version", "addresses", "count", "own", "stranger", "family"), Count: uint64(d.IntN(3)), From: d.one("", peer), Text: d.one("", "it differs"), Last: d.time()}}
	}
	if d.chance(10) {
		r.Foreign = &Foreign{From: peer, VRID: 52, Last: d.known()}
	}
	if d.chance(10) {
		r.Claim = &Claim{Address: "192.168.31.250", MAC: "02:00:00:00:00:02", Interface: "eth0", Last: d.known()}
	}
	if r.State == "Initialize" || r.HandingOver {
		r.Faults = []string{d.one("maintenance: update", "check balancer is down", "check balancer has no result yet", "link eth0 down", "link eth0 missing", "link eth0: no address",
			"group G1: member VI_2: link eth1 down", "start delay", "check gone is down")}[:d.IntN(2)]
		r.Waiting = d.chance(30)
	}
	if d.chance(10) {
		r.NotRunning = d.one("vrrp: VI_1: interface eth0: VRID 51 (IPv4) is taken by process 812 (havip)", "vrrp: no such device")
	}
	if d.chance(30) {
		r.Tracks = []Track{{Check: "balancer", Weight: d.IntN(61) - 30}}
	}
	return r
}

func (d dice) status() (*Status, []Event) {
	s := healthy()
	s.Routers = []Router{d.router()}
	s.Node.Host = d.one("", "LB-01")
	c := &s.Checks[0]
	c.State, c.Since, c.Error, c.Paused = d.one("up", stateDown, "unknown"), d.time(), d.one("", "connection refused"), d.chance(20)
	if d.chance(20) {
		s.Node.Maintenance = &Maintenance{Since: d.time(), Reason: d.one("", "update")}
	}
	if d.chance(20) {
		s.Node.Changes = []RuntimeChange{{Kind: "priority", Name: "VI_1", Value: "90", File: "100", Since: d.known()}}
	}
	v := &s.Services[0]
	v.Serving, v.Problem = d.chance(80), d.one("", "listen tcp: address already in use")
	for i := range v.Pools[0].Backends {
		b := &v.Pools[0].Backends[i]
		b.InUse, b.State, b.Since = d.chance(50), d.one("up", "down", "ejected"), d.time()
	}
	var events []Event
	for range d.IntN(3) {
		events = append(events, Event{Time: d.known(), Kind: KindTransition, Message: "state", Router: "VI_1", Cause: d.one(allCauses...),
			Attributes: []Attribute{{"from", d.one(stateActive, stateBackup)}, {"to", d.one(stateActive, stateBackup)}}})
	}
	return s, events
}

// malformed is what no sentence has: a hole where a word was expected, a negative time, the
// end of a format, a wrong number.
var malformed = regexp.MustCompile(`  | [.,;]|: ?\.|\(\)|%!|-\d+(\.\d+)? (s|min|h|d)\b|\b1 (advertisements|backends|routers)\b|1 Jan\b.*00:00:00|00:00:00 on 1 Jan`)

// TestExplainAnything: whatever state a node is in, the first sentence says truly whether
// the address is there, nobody is said to be heard who was not, and each sentence is one.
func TestExplainAnything(t *testing.T) {
	seed := rand.Uint64()
	d := dice{rand.New(rand.NewPCG(seed, 0))}
	for i := range 5000 {
		s, events := d.status()
		r := s.Routers[0]
		x, err := Explain(s, events, netip.MustParseAddr("192.168.31.250"))
		if err != nil || len(x.Sentences) == 0 {
			t.Fatalf("seed %d, %d: %q, %v", seed, i, x.Sentences, err)
		}
		fail := func(format string, args ...any) {
			t.Helper()
			t.Errorf("seed %d, %d: "+format+"\n%+v\n%s\nnext %s", append(append([]any{seed, i}, args...), r, strings.Join(x.Sentences, "\n"), strings.Join(x.Next, "\n"))...)
		}
		first := x.Sentences[0]
		if has := !strings.Contains(first, "does not"); has != r.Held || has && !strings.Contains(first, " has 192.168.31.250") {
			fail("held %v, and the first sentence is %q", r.Held, first)
		}
		for _, text := range append(x.Sentences, x.Next...) {
			if bad := malformed.FindString(text); bad != "" {
				fail("%q is in %q", bad, text)
			}
		}
		nobody := len(r.Peers) == 0 && r.CausePeer == "" && r.Rival == nil && r.Foreign == nil && len(r.Drops) == 0 && r.Claim == nil && len(r.Unicast) == 0
		if all := strings.Join(x.Sentences, "\n"); nobody && (strings.Contains(all, peer) || strings.Contains(all, "another router had to")) {
			fail("nobody was heard")
		}
		if t.Failed() {
			return
		}
	}
}
