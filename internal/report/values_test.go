package report

import (
	"fmt"
	"time"
)

// now is the moment at which the values of these tests are said.
var now = time.Date(2026, 11, 27, 3, 12, 45, 0, time.UTC)

func ago(d time.Duration) time.Time { return now.Add(-d) }

const (
	ms   = Seconds(time.Millisecond)
	day  = 24 * time.Hour
	peer = "192.168.31.241"
)

// healthy is the Active node of the reference scenario.
func healthy() *Status {
	return &Status{
		Node: Node{Host: "LB-01", Version: "v0.9.0", PID: 812, Time: now, Started: ago(2*day + 4*time.Hour), File: "/etc/havip/havip.yaml",
			Loaded: ago(3*time.Hour + 12*time.Minute), LogLevel: "info"},
		Routers: []Router{{
			Name: "VI_1", Interface: "eth0", VRID: 51, Version: 2, State: "Active", Since: ago(3*time.Minute + 12*time.Second),
			Cause: "no advertisement in time", CausePeer: peer, Priority: 120, Configured: 120, Interval: Seconds(time.Second), Own: Seconds(time.Second),
			Source: "192.168.31.240", Auth: "pass", Unicast: []string{peer}, Addresses: []Address{{Address: "192.168.31.250/24"}}, Held: true,
			Peers:  []Peer{{Address: peer, Version: 2, Priority: 110, Interval: Seconds(time.Second), LastHeard: ago(215 * time.Second)}},
			Tracks: []Track{{Check: "balancer"}},
		}},
		Checks: []Check{{Name: "balancer", Target: "tcp 127.0.0.1:8080", State: "up", Since: ago(2 * day), Checked: ago(400 * time.Millisecond),
			Latency: Seconds(310 * time.Microsecond), Interval: Seconds(time.Second), Probes: 187200, Failed: 3}},
		Services: []Service{{
			Name: "web", Listen: ":8080", Mode: "http", Serving: true, Balance: "round-robin",
			Traffic: Traffic{Active: 12, Accepted: 1_234_567, Failed: 34, Retries: 5, Received: 912_345_678, Sent: 48_123_456_789,
				Statuses: map[string]uint64{"2xx": 1_234_500, "5xx": 12}, Latency: Quantiles{P50: 4 * ms, P99: 85 * ms}},
			Pools: []Pool{{Quorum: true, Backends: []Backend{backend(242), backend(243), backend(244)}}},
		}},
	}
}

// backend is one that works, by the last part of its address.
func backend(host int) Backend {
	name := fmt.Sprintf("192.168.31.%d:8080", host)
	return Backend{Name: name, Address: name, State: "up", Since: ago(2 * day), InUse: true, Weight: 1, ConfiguredWeight: 1, Checked: true,
		CheckLatency: ms, Active: 4, Picks: 411_522, Failures: 2, Received: 16_041_152_263, Sent: 304_115_226, Connects: 1000, ConnectTime: 850 * ms}
}

// troubled is a node on which much is wrong at once.
func troubled() *Status {
	s := healthy()
	s.Node.ReloadError, s.Node.ReloadFailed = "/etc/havip/havip.yaml:12:5: vrrp[0].vrid: 300: want 1 to 255", ago(4*time.Minute)
	s.Node.Changes = []RuntimeChange{
		{Kind: "priority", Name: "VI_1", Value: "90", File: "120", Since: ago(12 * time.Minute)},
		{Kind: "drain", Name: "web/192.168.31.244:8080", Value: "true", File: "false", Since: ago(time.Hour)},
		{Kind: "drain", Name: "web/192.168.31.245:8080", Value: "false", File: "true", Since: ago(time.Hour)},
		{Kind: "check", Name: "balancer", Value: "paused", Since: ago(time.Minute)},
		{Kind: "log", Name: "level", Value: "debug", File: "info", Since: ago(2 * day)},
	}
	s.Node.Warnings = []string{"/etc/havip/havip.yaml:3:1: vrrp[0].auth: a password of version 2 can be read by anybody on the link"}
	r := &s.Routers[0]
	r.Priority, r.Reason = 90, ""
	r.Rival = &Peer{Address: peer, Version: 2, Priority: 110, LastHeard: ago(300 * time.Millisecond)}
	r.Deaf = "what this one sends does not arrive there, or is discarded: look for a firewall that drops IP protocol 112"
	r.Drops = []Drop{{Reason: "auth", Count: 41, From: "192.168.31.9", Text: "authentication failed: the passwords differ", Last: ago(700 * time.Millisecond)},
		{Reason: "ttl", Count: 1, From: "192.168.31.7", Text: "TTL 64, want 255", Last: ago(time.Hour)}}
	r.Conflicts = 1
	for i := range 6 {
		r.Peers = append(r.Peers, Peer{Address: fmt.Sprintf("192.168.31.%d", 20+i), Priority: uint8(i), LastHeard: ago(time.Duration(i) * time.Minute)})
	}
	s.Routers = append(s.Routers,
		Router{Name: "VI_2", Group: "G1", VRID: 52, State: "Initialize", Since: ago(90 * time.Second), Cause: "fault", Reason: "check balancer is down",
			Faults: []string{"check balancer is down"}, Priority: 100, Configured: 100, Interval: Seconds(time.Second),
			Addresses: []Address{{Address: "192.168.31.251/24"}, {Address: "192.168.31.252/24", Excluded: true}}},
		Router{Name: "an-interface-that-is-not-there", VRID: 7, State: "Initialize", NotRunning: "interface eth9: no such network interface",
			Priority: 100, Configured: 100, Addresses: []Address{{Address: "10.0.0.1/24"}}},
		Router{Name: "late", VRID: 8, State: "Initialize", Since: ago(2 * time.Second), Cause: "start", Faults: []string{"check slow is not known yet"},
			Waiting: true, Priority: 100, Configured: 100, Foreign: &Foreign{From: peer, VRID: 9, Last: ago(time.Second)}})
	s.Groups = []Group{{Name: "G1", State: "FAULT", Routers: []string{"VI_2"}}}
	c := &s.Checks[0]
	c.State, c.Since, c.Error = "down", ago(91*time.Second), "healthcheck: tcp 127.0.0.1:8080: connect: connection refused\x1b]0;mine\a"
	v := &s.Services[0]
	b := v.Pools[0].Backends
	b[0].State, b[0].InUse, b[0].Error = "down", false, "healthcheck: http http://192.168.31.242:8080/: status 503, want 200 to 399"
	b[1].State, b[1].InUse, b[1].Ejected = "ejected", false, true
	b[2].State, b[2].InUse, b[2].Draining, b[2].Weight = "draining", false, true, 3
	v.Pools[0].Quorum = false
	v.TLSUntil = []Until{{Names: []string{"www.example.org"}, File: "/etc/havip/www.pem", End: now.Add(5*day + time.Hour)}}
	s.Services = append(s.Services, Service{Name: "dns", Listen: "192.168.31.250:53", Mode: "udp", Problem: "listen udp 192.168.31.250:53: bind: address already in use",
		Pools: []Pool{{Quorum: true, Backends: []Backend{backend(245)}, Unresolved: []string{"ns.example.org:53"}}}})
	return s
}

// maintained is a node that stays away because somebody wants so.
func maintained() *Status {
	s := healthy()
	s.Node.Maintenance = &Maintenance{Since: ago(12 * time.Minute), Reason: "kernel update", Lasting: true}
	s.Services[0].Pools[0].Backends[0].CheckPaused = true
	r := &s.Routers[0]
	r.State, r.Held, r.Faults, r.Cause, r.Reason, r.CausePeer = "Initialize", false, []string{"maintenance: kernel update"}, "fault", "maintenance: kernel update", ""
	return s
}

// large has a pool of so many backends, each hundredth of them down.
func large(n int) *Status {
	s := healthy()
	p := &s.Services[0].Pools[0]
	p.Backends = nil
	for i := range n {
		b := backend(1)
		b.Name = fmt.Sprintf("10.0.%d.%d:8080", i/250, i%250+1)
		b.Address = b.Name
		if i%100 == 0 {
			b.State, b.InUse, b.Error = "down", false, "connect: connection refused"
		}
		p.Backends = append(p.Backends, b)
	}
	return s
}
