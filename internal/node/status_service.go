package node

import (
	"slices"
	"strconv"
	"strings"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/internal/daemon"
	"github.com/havip/havip/internal/report"
	"github.com/havip/havip/lb"
)

// checkStatus is what a check has found.
func checkStatus(v daemon.CheckView) report.Check {
	s := v.Status()
	c := report.Check{
		Name: s.Name, Target: v.Target(), State: s.State.String(), Since: s.Since, Paused: s.Paused, Checked: s.Checked, Latency: report.Seconds(s.Latency),
		Interval: report.Seconds(v.Config.Interval), Probes: s.Probes, Failed: s.Failed, Changes: s.Changes,
	}
	if s.Err != nil {
		c.Error = s.Err.Error()
	}
	return c
}

// serviceStatus is what a service is and does.
func serviceStatus(v daemon.ServiceView) report.Service {
	stats, tally := v.Stats(), v.Tally()
	durations := histogram(tally)
	s := report.Service{
		Pools: []report.Pool{},
		Name:  v.Config.Name, Listen: v.Listen(), Mode: v.Config.Mode, Serving: v.Serving(), Balance: string(v.Config.Pool.Balance),
		Unlogged: v.Unlogged(), Maintenance: v.Maintenance(),
		Traffic: report.Traffic{
			Active: stats.Active, Accepted: stats.Accepted, Refused: stats.Refused, Failed: stats.Failed, Retries: stats.Retries,
			Received: stats.Received, Sent: stats.Sent,
			Statuses: statuses(v.Config.Mode, tally), Routes: routeRequests(v.Routes()), Ended: durations.Total(), Took: report.Seconds(durations.Sum),
			Latency: report.Quantiles{P50: durations.Quantile(0.5), P99: durations.Quantile(0.99)}, Durations: durations,
		},
	}
	if err := v.Trouble(); err != nil {
		s.Problem = err.Error()
	}
	if err := v.LogTrouble(); err != nil {
		s.LogProblem = strings.TrimPrefix(err.Error(), "lb: ")
	}
	for _, c := range v.Certificates() {
		s.TLSUntil = append(s.TLSUntil, report.Until{Names: c.Names, File: c.Cert, End: c.NotAfter})
	}
	for _, p := range v.Pools {
		pool := poolStatus(p)
		if c := v.Check(p.Route); c != nil {
			pool.Check = c.Name
		}
		s.Pools = append(s.Pools, pool)
	}
	return s
}

// statuses are the responses by class. Only HTTP has them.
func statuses(mode string, t daemon.Tally) map[string]uint64 {
	if mode != "http" {
		return nil
	}
	classes := map[string]uint64{}
	for class, n := range t.Statuses {
		if class > 0 {
			classes[strconv.Itoa(class)+"xx"] = n
		}
	}
	return classes
}

// routeRequests are the requests of routes by class.
func routeRequests(routes map[string]daemon.RouteTally) map[string]map[string]uint64 {
	if routes == nil {
		return nil
	}
	all := make(map[string]map[string]uint64, len(routes))
	for name, of := range routes {
		classes := map[string]uint64{"none": of[0]}
		for class, n := range of[1:] {
			classes[strconv.Itoa(class+1)+"xx"] = n
		}
		all[name] = classes
	}
	return all
}

// histogram has how long requests, connections or sessions took.
func histogram(t daemon.Tally) report.Histogram {
	return report.Histogram{Bounds: daemon.TallyBounds(), Counts: t.Durations[:], Sum: t.Sum}
}

// poolStatus is what a pool knows about its backends, and what their checks do.
func poolStatus(v daemon.PoolView) report.Pool {
	s := v.Status()
	p := report.Pool{Backends: make([]report.Backend, 0, len(s.Backends)), Route: v.Route, Quorum: s.Quorum, Panic: s.Panic, Queued: s.Queued, Waits: s.Waits, Overflow: s.Overflow, Unresolved: s.Unresolved}
	monitors := v.Monitors()
	checks := make(map[string]healthcheck.Status, len(monitors))
	for _, m := range monitors {
		checks[m.Backend] = m.Status()
	}
	for _, b := range s.Backends {
		check, checked := checks[b.Name]
		out := backendStatus(b, check, checked)
		if slices.Contains(p.Unresolved, b.Name) {
			out.State = "unresolved"
		}
		p.Backends = append(p.Backends, out)
	}
	return p
}

func backendStatus(b lb.BackendStatus, check healthcheck.Status, checked bool) report.Backend {
	out := report.Backend{
		Name: b.Name, Address: b.Resolved, State: backendState(b), Since: b.Since, InUse: b.InUse,
		Weight: max(b.Weight, 0), ConfiguredWeight: max(b.ConfiguredWeight, 0), Backup: b.Backup, Draining: b.Draining, Ejected: b.Ejected,
		Checked: checked, CheckLatency: report.Seconds(check.Latency), CheckPaused: check.Paused, Probed: check.Checked,
		Active: b.Active, Picks: b.Picks, Failures: b.Failures, Ejects: b.Ejects, Received: b.Received, Sent: b.Sent,
		Connects: b.Connects, ConnectTime: report.Seconds(b.ConnectTime), Ended: b.Ended, Took: report.Seconds(b.Lasted),
	}
	if checked && out.Since.IsZero() {
		out.Since = check.Since // it has been like that from the beginning
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
