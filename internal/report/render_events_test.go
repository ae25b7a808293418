package report

import (
	"strings"
	"testing"
	"time"
)

// TestEventText is one line for each kind of event.
func TestEventText(t *testing.T) {
	out := &strings.Builder{}
	for _, e := range []Event{
		{Level: "info", Kind: KindDaemon, Message: "running", Attributes: []Attribute{{"pid", "812"}, {"routers", "1"}}},
		{Level: "warn", Kind: KindTransition, Message: "state", Router: "VI_1", Cause: "no advertisement in time",
			Attributes: []Attribute{{"from", "Backup"}, {"to", "Active"}, {"priority", "120"}, {"warning", "192.168.31.240 is alive: both may have the addresses now"}}},
		{Level: "info", Kind: KindTransition, Message: "state", Router: "VI_1", Group: "G1", Cause: "fault", Attributes: []Attribute{{"from", "Initialize"}, {"to", "Initialize"}}},
		{Level: "warn", Kind: KindCheck, Message: "check is down", Service: "web", Check: "web/192.168.31.242:8080", Cause: "connect: connection refused\x1b[2J"},
		{Level: "error", Kind: KindPool, Message: "pool has no working backends", Service: "web", Attributes: []Attribute{{"down", "2"}}},
		{Level: "info", Kind: KindBackend, Message: "backend is up", Service: "web", Backend: "192.168.31.242:8080"},
		{Level: "info", Kind: KindControl, Message: "steered", Attributes: []Attribute{{"what", "maintenance on"}, {"reason", `the "kernel"`}, {"by", "root"}, {"none", ""}}},
		{Level: "notice", Kind: "of a later version", Message: "unknown"},
	} {
		e.Time = now.Add(123 * time.Millisecond)
		out.WriteString(RenderEvent(e, Layout{Width: 80, Zone: time.FixedZone("CET", 3600)}) + "\n")
	}
	golden(t, "events", out.String())
}

func TestExplanationText(t *testing.T) {
	x := Explanation{Address: "192.168.31.250", Router: "VI_1", Sentences: []string{
		"LB-02 has 192.168.31.250, and LB-01 is very likely to have it as well: split, because the passwords differ.",
		"VI_1 is Active since 3m12s, because it had heard nothing valid for three intervals.",
		"It has discarded 41 advertisements of 192.168.31.240, the last 0.7s ago: authentication failed: the passwords differ.",
	}, Next: []string{
		"compare 'auth' of VI_1 in the files of both nodes: 'havip validate --config FILE' does not show passwords, and a test of equality is enough",
		"havip monitor -i eth0",
	}}
	golden(t, "explain-60", RenderExplanation(x, Layout{Width: 60}))
	golden(t, "explain-0", RenderExplanation(x, Layout{}))
}

func TestChangeText(t *testing.T) {
	c := Change{DryRun: true, Kept: 3, Parts: []PartChange{
		{Kind: "router", Name: "VI_1", Fate: "starts anew", Moves: true, Cost: "hands over to a peer, for the skew time of 609ms nobody answers",
			Keys: []KeyChange{{Key: "vrid", From: "51", To: "52", Moves: true}, {Key: "priority", From: "120", To: "130"}}},
		{Kind: "check", Name: "balancer", Fate: "changes in place", Keys: []KeyChange{{Key: "fall", To: "3"}}},
		{Kind: "service", Name: "api", Fate: "is new"},
		{Kind: "service", Name: "old", Fate: "ends", Cost: "12 connections are cut after 10s"},
		{Kind: "log", Fate: "changes in place", Keys: []KeyChange{{Key: "level", From: "info", To: "debug"}}},
	}, Dropped: []RuntimeChange{{Kind: "priority", Name: "VI_1", Value: "90", File: "120"}}, Warnings: []string{"a line that is long enough to be broken in two"}}
	golden(t, "change-dry", RenderChange(c, Layout{Width: 72}))
	c.DryRun, c.Parts = false, c.Parts[1:3]
	golden(t, "change-done", RenderChange(c, Layout{}))
	golden(t, "change-nothing", RenderChange(Change{Kept: 1}, Layout{}))
}
