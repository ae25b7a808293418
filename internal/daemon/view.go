package daemon

import (
	"time"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/lb"
	"github.com/havip/havip/vip"
	"github.com/havip/havip/vip/failover"
	"github.com/havip/havip/vrrp"
)

// View is what the daemon consists of, for whoever reports: a complete
// configuration with its objects. A View never changes. The daemon publishes
// another View when it has begun, at the end of a reload, and when it has ended.
//
// The methods of a View's parts report what holds at the moment of the call. They
// take no lock that a reload holds for long: who reports never waits for a reload.
type View struct {
	// Config is the configuration in force. What could not follow it says so itself.
	Config *config.Config
	// Since is when Config came into force; zero: the daemon does not run.
	Since time.Time

	// All have the order of the file. A part that Config names is missing if it
	// could not be made.
	Routers  []RouterView
	Checks   []CheckView
	Groups   []GroupView
	Services []ServiceView
}

// RouterView is one virtual router.
type RouterView struct {
	// Config is what the router goes by: Config of the View, but with the addresses
	// and routes of before if it could not get the new ones.
	Config config.Router
	Group  string // its name; empty: none

	node   *failover.Node
	totals *totals
	teller *teller
}

// Status is the router's, from the protocol's side. Its Counters, as those of Addresses,
// are of all routers that had the name.
func (r RouterView) Status() vrrp.Status {
	s := r.node.Router().Status()
	s.Counters = r.totals.routers.total(r.Config.Name).vrrp
	return s
}

// Addresses is the status of the router's addresses.
func (r RouterView) Addresses() vip.Status {
	s, sum := r.node.Manager().Status(), r.totals.routers.total(r.Config.Name).vip
	s.Reinstated, s.Removed, s.Lost, s.Conflicts = sum.Reinstated, sum.Removed, sum.Lost, sum.Conflicts
	return s
}

// NotRunning is why the router cannot take part in the election at all, as while another
// process of this host has its VRID; empty: it can. The router is tried again.
func (r RouterView) NotRunning() string {
	if why := r.teller.broken.Load(); why != nil {
		return *why
	}
	return ""
}

// CheckView is a check that routers may track.
type CheckView struct {
	Config  config.Check
	monitor *healthcheck.Monitor
	totals  *totals
}

// Status is what the check has found. Its counts are of all checks that had the name.
func (c CheckView) Status() healthcheck.Status {
	s, sum := c.monitor.Status(), c.totals.checks.total(c.Config.Name)
	s.Probes, s.Failed, s.Changes = sum.probes, sum.failed, sum.changes
	return s
}

// Target says what is probed, as the log does.
func (c CheckView) Target() string { return c.monitor.Target() }

// GroupView is a group of routers.
type GroupView struct {
	Config config.Group
	group  *group
}

// State is the state of the members together, in Keepalived's words; empty while it
// is not known yet.
func (g GroupView) State() string { return g.group.lastState() }

// ServiceView is one load-balanced address.
type ServiceView struct {
	Config config.Service
	// Pools are the service's own backends, if any, and then those of its routes, in the
	// order of the file.
	Pools []PoolView

	service *service
}

// Serving reports whether the service has its socket.
func (s ServiceView) Serving() bool {
	_, socket := s.service.opened()
	return socket != nil
}

// Trouble is why the service does not serve; nil: it does, or is only about to.
func (s ServiceView) Trouble() error { return s.service.trouble() }

// Maintenance reports whether the service answers all requests with 503, but those of routes
// with another word on it.
func (s ServiceView) Maintenance() bool { return s.service.said.maintenance() }

// Listen is the address of the service, as the log has it.
func (s ServiceView) Listen() string { return listenAddress(s.Config.Listen) }

// Certificates are those that clients get.
func (s ServiceView) Certificates() []lb.CertificateInfo {
	if c := s.service.certificates(); c != nil {
		return c.List()
	}
	return nil
}

// Stats are those of the service since it began, whatever its configurations were
// meanwhile. Services that had its name before count as well.
func (s ServiceView) Stats() lb.Stats {
	stats := s.service.totals.services.total(s.Config.Name).stats
	if p, _ := s.service.opened(); p != nil {
		stats.Active = p.Stats().Active
	}
	return stats
}

// Tally is what has ended of the service, over the same time as Stats.
func (s ServiceView) Tally() Tally { return s.service.totals.services.total(s.Config.Name).tally }

// Unlogged is how many lines the access log has lost, over the same time as Stats.
func (s ServiceView) Unlogged() uint64 {
	return s.service.totals.services.total(s.Config.Name).unlogged
}

// LogTrouble is why lines of the access log are lost now, or go to a file that was moved
// away; nil: all is well, or there is no file.
func (s ServiceView) LogTrouble() error { return s.service.lines.trouble() }

// PoolView is the backends of a service or of one of its routes.
type PoolView struct {
	Route string // its name; empty: the service's own backends

	name     string       // of the pool: SERVICE, or SERVICE/ROUTE
	backends []lb.Backend // as configured, with their defaults
	upstream *upstream
}

// Status is the pool's, with that of each backend.
func (p PoolView) Status() lb.PoolStatus { return p.upstream.status() }

// Monitors are those of the backends, which come and go with the addresses of names.
func (p PoolView) Monitors() []MonitorView { return p.upstream.probes.views() }

// MonitorView is what probes one backend.
type MonitorView struct {
	Backend string // its name
	monitor *healthcheck.Monitor
}

// Status is what the monitor has found.
func (m MonitorView) Status() healthcheck.Status { return m.monitor.Status() }

// View returns what the daemon consists of now. It is never nil, and has no parts
// before Run begins and after Run has ended.
func (d *Daemon) View() *View { return d.view.Load() }

// publish makes a View of what there is. d.mu is held.
func (d *Daemon) publish() {
	v := &View{Config: d.cfg, Since: time.Now()}
	for _, cfg := range d.cfg.VRRP {
		if r := d.routers[cfg.Name]; r != nil {
			v.Routers = append(v.Routers, RouterView{r.cfg, r.group, r.node, &d.totals, r.teller})
		}
	}
	for _, cfg := range d.cfg.Checks {
		v.Checks = append(v.Checks, CheckView{cfg, d.checks[cfg.Name].monitor, &d.totals})
	}
	for _, cfg := range d.cfg.Groups {
		v.Groups = append(v.Groups, GroupView{cfg, d.groups[cfg.Name]})
	}
	for _, s := range d.services {
		v.Services = append(v.Services, ServiceView{s.cfg, s.poolViews(), s})
	}
	d.view.Store(v)
	select {
	case d.published <- struct{}{}:
	default:
	}
}

// poolViews are those of a service's upstreams.
func (s *service) poolViews() (pools []PoolView) {
	for _, cfg := range upstreamConfigs(s.cfg, nil) {
		pools = append(pools, PoolView{cfg.route, cfg.pool.Name, cfg.pool.WithDefaults().Backends, s.upstreams[cfg.route]})
	}
	return pools
}
