package node

import (
	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/internal/daemon"
	"github.com/havip/havip/internal/report"
	"github.com/havip/havip/lb"
)

// checkStatus is what a check has found.
func checkStatus(v daemon.CheckView) report.Check {
	s := v.Status()
	c := report.Check{
		Name: s.Name, State: s.State.String(), Since: s.Since, Paused: s.Paused, Checked: s.Checked, Latency: report.Seconds(s.Latency),
		Interval: report.Seconds(v.Config.Interval), Probes: s.Probes, Failed: s.Failed, Changes: s.Changes,
	}
	if s.Err != nil {
		c.Error = s.Err.Error()
	}
	return c
}

// serviceStatus is what a service is and does.
func serviceStatus(v daemon.ServiceView) report.Service {
	stats := v.Stats()
	s := report.Service{
		Name: v.Config.Name, Listen: v.Config.Listen.String(), Mode: v.Config.Mode, Serving: v.Serving(), Balance: string(v.Config.Pool.Balance),
		Traffic: report.Traffic{
			Active: stats.Active, Accepted: stats.Accepted, Refused: stats.Refused, Failed: stats.Failed, Retries: stats.Retries,
			Received: stats.Received, Sent: stats.Sent,
		},
	}
	for _, p := range v.Pools {
		s.Pools = append(s.Pools, poolStatus(p))
	}
	return s
}

// poolStatus is what a pool knows about its backends, and what their checks do.
func poolStatus(v daemon.PoolView) report.Pool {
	s := v.Status()
	p := report.Pool{Route: v.Route, Quorum: s.Quorum, Panic: s.Panic, Queued: s.Queued, Waits: s.Waits, Overflow: s.Overflow, Unresolved: s.Unresolved}
	checks := map[string]healthcheck.Status{}
	for _, m := range v.Monitors() {
		checks[m.Backend] = m.Status()
	}
	for _, b := range s.Backends {
		check, checked := checks[b.Name]
		p.Backends = append(p.Backends, backendStatus(b, check, checked))
	}
	return p
}

func backendStatus(b lb.BackendStatus, check healthcheck.Status, checked bool) report.Backend {
	out := report.Backend{
		Name: b.Name, Address: b.Resolved, State: backendState(b), Since: b.Since, InUse: b.InUse,
		Weight: b.Weight, ConfiguredWeight: b.Weight, Backup: b.Backup, Draining: b.Draining, Ejected: b.Ejected,
		Checked: checked, CheckLatency: report.Seconds(check.Latency),
		Active: b.Active, Picks: b.Picks, Failures: b.Failures, Ejects: b.Ejects, Received: b.Received, Sent: b.Sent,
		Connects: b.Connects, ConnectTime: report.Seconds(b.ConnectTime),
	}
	if check.Err != nil {
		out.Error = check.Err.Error()
	}
	return out
}

// backendState is one word for a person.
func backendState(b lb.BackendStatus) string {
	switch {
	case !b.Up:
		return "down"
	case b.Draining:
		return "draining"
	case b.Ejected:
		return "ejected"
	case b.Backup && !b.InUse:
		return "backup"
	}
	return "up"
}
