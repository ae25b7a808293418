package report

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/vrrp"
)

const (
	second = time.Second
	minute = time.Minute
)

// event is a line of the router VI_1 at a time before now.
func event(before time.Duration, kind, message, cause string, pairs ...string) Event {
	e := Event{Time: ago(before), Level: "warn", Kind: kind, Message: message, Router: "VI_1", Cause: cause}
	for i := 0; i < len(pairs); i += 2 {
		e.Attributes = append(e.Attributes, Attribute{pairs[i], pairs[i+1]})
	}
	return e
}

// drop is an advertisement of the peer that was discarded just now.
func drop(reason, text string) func(*Status) {
	return func(s *Status) {
		s.Routers[0].Drops = []Drop{{Reason: reason, Count: 214, From: peer, Text: text, Last: ago(300 * time.Millisecond)}}
	}
}

// backup makes LB-02 of the healthy node.
func backup(s *Status) {
	s.Node.Host = "LB-02"
	r := &s.Routers[0]
	r.State, r.Held, r.Cause, r.CausePeer, r.Source, r.Unicast = "Backup", false, "start", "", peer, []string{"192.168.31.240"}
	r.Priority, r.Configured = 110, 110
	r.Peers = []Peer{{Address: "192.168.31.240", Version: 2, Priority: 120, Interval: Seconds(time.Second), LastHeard: ago(400 * time.Millisecond)}}
}

// faulty makes a router that stays out.
func faulty(faults ...string) func(*Status) {
	return func(s *Status) {
		r := &s.Routers[0]
		r.State, r.Held, r.Cause, r.CausePeer, r.Faults = "Initialize", false, "fault", "", faults
		r.Peers = []Peer{{Address: peer, Version: 2, Priority: 110, Interval: Seconds(time.Second), LastHeard: ago(400 * time.Millisecond)}}
	}
}

func allOf(changes ...func(*Status)) func(*Status) {
	return func(s *Status) {
		for _, change := range changes {
			change(s)
		}
	}
}

func router(change func(*Router)) func(*Status) {
	return func(s *Status) { change(&s.Routers[0]) }
}

// claim is another host's word for the address.
func claim(before time.Duration) func(*Status) {
	return router(func(r *Router) {
		r.Claim = &Claim{Address: "192.168.31.250", MAC: "02:00:00:00:00:02", Interface: "eth0", Last: ago(before)}
	})
}

func claimEvent(host string) []Event {
	return []Event{event(40*second, KindConflict, "another host claims an address that is held here", "",
		"address", "192.168.31.250", "mac", "02:00:00:00:00:02", "interface", "eth0", "host", host)}
}

// explanations are what a person may ask at night. first has what the first two sentences
// must have: the cause.
var explanations = []struct {
	name   string
	change func(*Status)
	events []Event
	first  []string
}{
	{"active, nobody else was there", router(func(r *Router) { r.CausePeer, r.Peers = "", nil }), nil, []string{"LB-01 has 192.168.31.250 (for 3 min 12 s, since 03:09:33)", "no other router was heard"}},
	{"active, the peer died", nil, []Event{event(192*second, KindTransition, "state", "no advertisement in time", "from", "Backup", "to", "Active", "last_heard", "3.609s ago")},
		[]string{"took over at 03:09:33", peer, "not heard in time", "3.609s"}},
	{"active, the peer left", router(func(r *Router) { r.Cause, r.Peers[0].Priority = "active router left", 0 }), nil, []string{peer + " left", "killed", "check"}},
	{"active, took it back after a freeze", router(func(r *Router) { r.Cause, r.Since = "preempting a lower priority", ago(4*second) }),
		[]Event{event(6*second, KindTransition, "state", "did not run for too long", "from", "Active", "to", "Backup")},
		[]string{"its own priority is higher", "did not run for too long", "03:12:39"}},
	{"active, nobody took over", router(func(r *Router) { r.Cause, r.CausePeer = "nobody took over", "" }), nil, []string{"handed over", "nobody else took it"}},
	{"active, the owner", router(func(r *Router) {
		r.Cause, r.CausePeer, r.Priority, r.Configured = "address owner", "", 255, 255
	}), nil, []string{"owns the address"}},
	{"active, hands over for maintenance", func(s *Status) {
		s.Node.Maintenance = &Maintenance{Since: ago(50 * time.Millisecond), Reason: "kernel update"}
		s.Routers[0].HandingOver, s.Routers[0].Faults = true, []string{"maintenance: kernel update"}
	}, nil, []string{"LB-01 has 192.168.31.250", "handing over"}},
	{"active, the address is not there", router(func(r *Router) { r.Held, r.Problem = false, "vip: VI_1: add 192.168.31.250/24: permission denied" }), nil,
		[]string{"should have 192.168.31.250 and does not", "permission denied"}},
	{"active, the address is not there for long", router(func(r *Router) { r.Held = false }), nil,
		[]string{"should have 192.168.31.250 and does not", "should have been put there by now"}},
	{"active, moved with a group of before", router(func(r *Router) { r.Cause, r.CausePeer, r.Group, r.Reason = "moved with its group", "", "", "" }), nil,
		[]string{"LB-01 has", "together with the group that it was in."}},
	{"backup, the address is still there", allOf(backup, router(func(r *Router) { r.Held, r.Problem = true, "vip: VI_1: remove 192.168.31.250/24: permission denied" })), nil,
		[]string{"still has 192.168.31.250 on eth0, although its router VI_1 is Backup", "remove 192.168.31.250/24: permission denied"}},
	{"backup, the address is about to go", allOf(backup, router(func(r *Router) { r.Held, r.Since = true, ago(time.Second) })), nil,
		[]string{"still has 192.168.31.250", "about to be removed"}},
	{"fault, the address is still there", allOf(faulty("check balancer is down"), router(func(r *Router) { r.Held = true })), nil,
		[]string{"still has 192.168.31.250", "should have been removed by now"}},
	{"second daemon, and the address is still there", router(func(r *Router) {
		r.State, r.Held, r.NotRunning = "Initialize", true, "vrrp: VI_1: interface eth0: multicast is off"
	}), nil, []string{"still has 192.168.31.250", "is not running"}},
	{"backup, lower priority", backup, nil, []string{"192.168.31.240 has it", "0.4 s ago", "priority 110 is lower than 120"}},
	{"backup, does not preempt", allOf(backup, router(func(r *Router) { r.Priority, r.Configured, r.Peers[0].Priority = 120, 120, 110 })), nil,
		[]string{"192.168.31.240 has it", "preempt is false"}},
	{"backup, is about to preempt", allOf(backup, router(func(r *Router) { r.Preempt, r.Priority, r.Configured, r.Peers[0].Priority = true, 120, 120, 110 })), nil, []string{"about to take the address"}},
	{"backup, the same priority", allOf(backup, router(func(r *Router) { r.Peers[0].Priority = 110 })), nil, []string{"both have priority 110"}},
	{"backup, a check has lowered the priority", allOf(backup, func(s *Status) {
		s.Routers[0].Configured, s.Routers[0].Tracks = 140, []Track{{Check: "balancer", Weight: -30}}
		s.Checks[0].State, s.Checks[0].Error = "down", "healthcheck: tcp 127.0.0.1:8080: connect: connection refused"
	}), nil, []string{"priority 110 is lower than 120"}},
	{"backup, the priority was changed", allOf(backup, func(s *Status) {
		s.Routers[0].Configured = 130
		s.Node.Changes = []RuntimeChange{{Kind: "priority", Name: "VI_1", Value: "110", File: "130", Since: ago(12 * minute)}}
	}), nil, []string{"priority 110 is lower than 120"}},
	{"backup, was frozen", allOf(backup, router(func(r *Router) { r.Cause = "did not run for too long" })), nil, []string{"did not run for too long", "03:09:33"}},
	{"backup, resigned", allOf(backup, router(func(r *Router) { r.Cause = "resigned" })), nil, []string{"asked to hand over"}},
	{"backup, hears nobody yet", allOf(backup, router(func(r *Router) { r.Peers, r.Since = nil, ago(2*second) })), nil, []string{"hears nobody"}},
	{"backup, with its group", allOf(backup, router(func(r *Router) { r.Cause, r.Group, r.Reason = "moved with its group", "G1", "member VI_2" })), nil, []string{"group G1", "VI_2"}},
	{"check is down", allOf(faulty("check balancer is down"), func(s *Status) {
		s.Checks[0].State, s.Checks[0].Since, s.Checks[0].Error = "down", ago(91*second), "healthcheck: tcp 127.0.0.1:8080: connect: connection refused"
	}), nil, []string{"LB-01 does not have", "check balancer is down", "1 min 31 s", "connection refused"}},
	{"check has no result yet", allOf(faulty("check balancer has no result yet"), func(s *Status) {
		s.Routers[0].Waiting, s.Checks[0].State, s.Checks[0].Error = true, "unknown", "healthcheck: tcp 127.0.0.1:8080: timed out"
	}), nil, []string{"waits", "not succeeded yet", "timed out"}},
	{"check is paused", allOf(faulty("check balancer has no result yet"), func(s *Status) {
		s.Routers[0].Waiting, s.Checks[0].State, s.Checks[0].Paused = true, "unknown", true
	}), nil, []string{"waits for the first result"}},
	{"maintenance", func(s *Status) { *s = *maintained() }, nil, []string{"in maintenance", "12 min", "kernel update"}},
	{"link is down", faulty("link eth0 down"), nil, []string{"Interface eth0 is down", "cable"}},
	{"link is missing", faulty("link eth9 missing"), nil, []string{"no interface eth9"}},
	{"address of another program", allOf(faulty(`vip: 192.168.31.250/24 on eth0 is another program's, "ip addr del 192.168.31.250/24 dev eth0" removes it: address in use`),
		router(func(r *Router) { r.Peers = nil })), nil, []string{"another program's", "ip addr del"}},
	{"fault of the group", faulty("group G1: member VI_2: check balancer is down"), nil, []string{"group G1", "VI_2", "check balancer is down"}},
	{"second daemon", router(func(r *Router) {
		r.State, r.Held, r.NotRunning = "Initialize", false, "vrrp: VI_1: interface eth0: VRID 51 (IPv4) is taken by process 812 (/usr/bin/havip run -c /etc/havip/havip.yaml)"
	}), nil, []string{"does not run", "VRID 51", "process 812", "second daemon"}},
	{"cannot run", router(func(r *Router) {
		r.State, r.Held, r.NotRunning = "Initialize", false, "vrrp: VI_1: interface eth0: multicast is off"
	}), nil, []string{"does not run", "multicast is off"}},

	{"split, wrong password", drop("auth", "authentication failed: the passwords differ"), nil, []string{"split brain", peer, "wrong password", "the passwords differ"}},
	{"split, other authentication", drop("auth_type", "authentication none, want pass"), nil, []string{"split brain", "kind of authentication", "authentication none, want pass"}},
	{"split, version", drop("version", "version 3, want 2"), nil, []string{"split brain", "different versions", "version 3, want 2"}},
	{"split, not a peer", allOf(drop("stranger", "unicast, and not from a peer"), router(func(r *Router) { r.Unicast = []string{"192.168.31.249"} })), nil,
		[]string{"split brain", "list of peers", "192.168.31.249"}},
	{"split, multicast and unicast", drop("destination", "sent by multicast, but this router has peers and uses unicast"), nil, []string{"split brain", "multicast", "unicast"}},
	{"split, interval", drop("interval", "interval in seconds 2, want 1"), nil, []string{"split brain", "interval in seconds 2, want 1"}},
	{"split, ttl", drop("ttl", "TTL 64, want 255"), nil, []string{"split brain", "routed", "TTL 64"}},
	{"split, checksum", drop("checksum", "checksum 0x1234, want 0x4321"), nil, []string{"split brain", "damaged"}},
	{"split, clock", drop("replay", "replayed: outside the window, or the clocks differ"), nil, []string{"split brain", "too old", "clocks differ"}},
	{"split, two owners", allOf(drop("owner", "another router is Active, but this one owns the addresses"), router(func(r *Router) { r.Cause, r.Priority = "address owner", 255 })), nil,
		[]string{"split brain", "owns"}},
	{"split, an old discard is none", allOf(drop("auth", "authentication failed: the passwords differ"), router(func(r *Router) { r.Drops[0].Last = ago(minute) })), nil,
		[]string{"is Active", "not heard in time"}},
	{"split, the other one is deaf", router(func(r *Router) {
		r.Rival = &Peer{Address: peer, Version: 2, Priority: 110, LastHeard: ago(300 * time.Millisecond)}
		r.Deaf = "what this one sends does not arrive there, or is discarded: look for a firewall that drops IP protocol 112, and at what that router says about it"
	}), nil, []string{"split brain", peer, "one-way firewall"}},
	{"split, the other one is deaf to the virtual MAC", router(func(r *Router) {
		r.Rival = &Peer{Address: peer, Version: 2, Priority: 110, LastHeard: ago(300 * time.Millisecond)}
		r.Deaf = "this one advertises from the virtual hardware address, which a Keepalived with vmac_xmit_base does not hear: set xmit_base here as well, or take it out there"
	}), nil, []string{"split brain", "xmit_base"}},
	{"split, just now", router(func(r *Router) {
		r.Rival = &Peer{Address: peer, Version: 2, Priority: 110, LastHeard: ago(300 * time.Millisecond)}
	}), nil, []string{"split brain", "steps down within an interval"}},
	{"split, other VRID", router(func(r *Router) { r.Foreign = &Foreign{From: peer, VRID: 52, Last: ago(second)} }), nil,
		[]string{"split brain", peer, "VRID 52", "VRID is 51"}},
	{"split, this one is deaf to its peer", claim(30 * second), claimEvent("[192.168.31.241]"), []string{"split brain", peer, "firewall", "list of peers"}},
	{"split, this one is deaf to multicast", allOf(claim(30*second), router(func(r *Router) { r.Unicast = nil })), claimEvent("[192.168.31.241]"),
		[]string{"split brain", peer, "firewall", "IGMP snooping"}},
	{"split, this one is deaf to a host without a name", claim(30 * second), nil, []string{"split brain", peer, "firewall"}},
	{"split, this one is deaf, IPv6 and AH", allOf(claim(30*second), router(func(r *Router) {
		r.Unicast, r.IPv6, r.Auth = []string{"192.168.31.240", peer}, true, "ah"
	})), claimEvent(""), []string{"split brain", peer, "IP protocol 51"}},
	{"split, a stranger has the address", claim(30 * second), claimEvent("[192.168.31.77]"), []string{"split brain", "192.168.31.77", "02:00:00:00:00:02", "by hand"}},
	{"an old claim is no split", allOf(claim(3*time.Hour), router(func(r *Router) { r.Since, r.Cause, r.CausePeer = ago(2*day), "no advertisement in time", "" })), nil,
		[]string{"is Active", "no other router was heard"}},
	{"two pairs with one VRID", drop("addresses", "another virtual router: no address in common, it has 1, the first is 10.0.0.1"), nil,
		[]string{"LB-01 has 192.168.31.250", "Two pairs", "VRID 51", "10.0.0.1"}},

	{"all backends are down", func(s *Status) {
		for i := range s.Services[0].Pools[0].Backends {
			b := &s.Services[0].Pools[0].Backends[i]
			b.State, b.InUse, b.Since, b.Error = "down", false, ago(45*second), "healthcheck: tcp "+b.Name+": connect: connection refused"
		}
	}, nil, []string{"LB-01 has 192.168.31.250", "service web has no working backend", "3 down", "connection refused"}},
	{"all backends are down and all are tried", func(s *Status) {
		s.Services[0].Pools[0].Panic = true
		for i := range s.Services[0].Pools[0].Backends {
			b := &s.Services[0].Pools[0].Backends[i]
			b.State, b.InUse, b.Since, b.Error = "down", true, ago(45*second), "healthcheck: tcp "+b.Name+": connect: connection refused"
		}
	}, nil, []string{"LB-01 has 192.168.31.250", "service web has no working backend", "3 down", "panic threshold", "connection refused"}},
	{"service does not listen", func(s *Status) {
		s.Services[0].Serving, s.Services[0].Problem = false, "listen tcp :8080: bind: address already in use"
	}, nil, []string{"LB-01 has 192.168.31.250", "service web does not listen on :8080", "address already in use"}},
	{"service in maintenance", func(s *Status) { s.Services[0].Maintenance = true }, nil,
		[]string{"LB-01 has 192.168.31.250", "service web is in maintenance", "503"}},
	{"service of another address", func(s *Status) {
		s.Services[0].Listen, s.Services[0].Serving = "192.168.31.251:8080", false
	}, nil, []string{"is Active", "not heard in time"}},
	{"two routers have the address", func(s *Status) {
		other := s.Routers[0]
		other.Name, other.State, other.Held = "VI_0", "Backup", false
		s.Routers = append([]Router{other}, s.Routers...)
	}, nil, []string{"its router VI_1 is Active"}},
}

// TestExplain: the first two sentences have the answer and its cause, whatever happened.
// Each file in testdata/explain is to be read as by somebody who was woken by it.
func TestExplain(t *testing.T) {
	for _, test := range explanations {
		t.Run(test.name, func(t *testing.T) {
			s := healthy()
			if test.change != nil {
				test.change(s)
			}
			x, err := Explain(s, test.events, netip.MustParseAddr("192.168.31.250"))
			if err != nil {
				t.Fatal(err)
			}
			first := strings.Join(x.Sentences[:min(2, len(x.Sentences))], " ")
			for _, want := range test.first {
				if !strings.Contains(first, want) {
					t.Errorf("the first two sentences are %q, want %q in them", first, want)
				}
			}
			golden(t, "explain/"+strings.NewReplacer(" ", "-", ",", "").Replace(test.name), RenderExplanation(x, Layout{Width: 110}))
			if _, err := json.Marshal(x); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestExplainUnknown: an address that no router has is an error, which says what to do.
func TestExplainUnknown(t *testing.T) {
	for _, s := range []*Status{healthy(), {}} {
		_, err := Explain(s, nil, netip.MustParseAddr("192.0.2.1"))
		if !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "192.0.2.1") {
			t.Errorf("got %v", err)
		}
	}
}

// TestEverySplitHasItsCause: a reason for which the package vrrp discards advertisements is
// known here, or is listed as no sign of another holder.
func TestEverySplitHasItsCause(t *testing.T) {
	if last := (vrrp.DropAddresses + 1).String(); !strings.Contains(last, "24") && !strings.Contains(last, "23") {
		t.Errorf("DropAddresses is not the last reason any more: %s comes after it", last)
	}
	none := map[string]string{"family": "never from a router of this kind", "own": "looped back", "vrid": "see Foreign", "addresses": "see findClash", "count": "see findClash"}
	for reason := vrrp.DropFamily; reason <= vrrp.DropAddresses; reason++ {
		word := reason.String()
		_, known := splitCauses[word]
		if _, listed := none[word]; known == listed {
			t.Errorf("reason %q: in splitCauses %v, listed as no sign of a split %v", word, known, listed)
		}
	}
}
