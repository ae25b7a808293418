package daemon

import (
	"slices"
	"strings"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/report"
	"github.com/havip/havip/lb"
	"github.com/havip/havip/vrrp"
)

// Plan says what Reconfigure with cfg would make of what runs now, key by key, and what
// that would cost. It compares as a reload does, changes nothing, opens nothing, and waits
// for no reload.
func (d *Daemon) Plan(cfg *config.Config) report.Change {
	v := d.View()
	p := planner{before: v.Config, next: cfg, change: report.Change{Parts: []report.PartChange{}}}
	for _, r := range v.Routers {
		p.routers = append(p.routers, plannedRouter{
			runningRouter{r.Config, r.Group, r.node.Reserved()}, r.Status().State == vrrp.Active,
		})
	}
	for _, s := range v.Services {
		p.services = append(p.services, plannedService{s.Config, s.service.isEquipped()})
	}
	p.compare()
	p.change.Dropped = d.dropped(&p)
	return p.change
}

// planner compares two configurations, and what runs of the first.
type planner struct {
	before, next *config.Config
	routers      []plannedRouter
	services     []plannedService

	change report.Change
	// succeeds is, by the name of a service that runs, the service that goes on with its
	// pools.
	succeeds map[string]config.Service
}

type plannedRouter struct {
	runningRouter
	active bool
}

type plannedService struct {
	cfg      config.Service
	equipped bool
}

func (p *planner) compare() {
	p.compareRouters()
	p.compareGroups()
	p.compareChecks()
	p.compareServices()
	p.compareAlarms()
	p.section("admin", p.before.Admin.Changes(p.next.Admin), "")
	cost := ""
	if p.before.Log.Format != p.next.Log.Format {
		cost = "the format changes with the next start"
	}
	p.section("log", p.before.Log.Changes(p.next.Log), cost)
}

// add takes in the fate of a part.
func (p *planner) add(f fate, part report.PartChange) {
	if f == keep {
		p.change.Kept++
		return
	}
	part.Fate = f.String()
	p.change.Parts = append(p.change.Parts, part)
}

// section is a part of the file that there is once.
func (p *planner) section(kind string, differences []config.Difference, cost string) {
	if len(differences) > 0 {
		p.add(update, report.PartChange{Kind: kind, Cost: cost, Keys: keyChanges(differences, nil)})
	}
}

// keyChanges are differences, with a mark at those whose first key is among moving.
func keyChanges(differences []config.Difference, moving []string) (keys []report.KeyChange) {
	for _, d := range differences {
		first := d.Key
		if i := strings.IndexAny(first, ".["); i >= 0 {
			first = first[:i]
		}
		keys = append(keys, report.KeyChange{Key: d.Key, From: d.From, To: d.To, Moves: slices.Contains(moving, first)})
	}
	return keys
}

func (p *planner) compareRouters() {
	running := map[string]plannedRouter{}
	for _, r := range p.routers {
		running[r.cfg.Name] = r
	}
	judge := func(old plannedRouter, next *routerPlan) fate {
		return judgeRouter(old.runningRouter, next, p.next.VRRP)
	}
	for _, s := range diff(running, routerPlans(p.next), func(r *routerPlan) string { return r.cfg.Name }, judge) {
		part := report.PartChange{Kind: "router", Name: s.key}
		switch s.fate {
		case update, replace:
			moving := strings.Split(s.cfg.fixed, ", ")
			part.Keys = keyChanges(s.old.cfg.Changes(s.cfg.cfg), moving)
			if s.old.group != s.cfg.group {
				part.Keys = append(part.Keys, report.KeyChange{Key: "groups", From: s.old.group, To: s.cfg.group, Moves: true})
			}
			part.Moves = s.cfg.fixed != "" && s.old.active
			part.Cost = routerCost(s.old, s.cfg, s.fate)
		case remove:
			if part.Moves = s.old.active; part.Moves {
				part.Cost = handsOver
			}
		}
		p.add(s.fate, part)
	}
}

func (p *planner) compareGroups() {
	running := map[string]config.Group{}
	for _, g := range p.before.Groups {
		running[g.Name] = g
	}
	for _, s := range diff(running, p.next.Groups, func(g config.Group) string { return g.Name },
		func(old, next config.Group) fate { return keepIf(old.Equal(next), update) }) {
		part := report.PartChange{Kind: "group", Name: s.key}
		if s.fate == update {
			part.Keys = keyChanges(s.old.Changes(s.cfg), nil)
		}
		p.add(s.fate, part)
	}
}

func (p *planner) compareAlarms() {
	running := map[string]config.Alarm{}
	for _, a := range p.before.Alarms {
		running[a.Name] = a
	}
	for _, s := range diff(running, p.next.Alarms, func(a config.Alarm) string { return a.Name },
		func(old, next config.Alarm) fate { return keepIf(old.Equal(next), update) }) {
		part := report.PartChange{Kind: "alarm", Name: s.key}
		if s.fate == update {
			part.Keys = keyChanges(s.old.Changes(s.cfg), nil)
		}
		p.add(s.fate, part)
	}
}

func (p *planner) compareChecks() {
	running := map[string]config.Check{}
	for _, c := range p.before.Checks {
		running[c.Name] = c
	}
	for _, s := range diff(running, p.next.Checks, func(c config.Check) string { return c.Name },
		func(old, next config.Check) fate { return keepIf(old.Equal(&next), replace) }) {
		part := report.PartChange{Kind: "check", Name: s.key}
		if s.fate == replace {
			part.Keys = keyChanges(s.old.Changes(&s.cfg), nil)
			part.Cost = "it goes on from what was found so far: nothing moves for that"
		}
		p.add(s.fate, part)
	}
}

func (p *planner) compareServices() {
	running, configs := map[string]plannedService{}, map[string]config.Service{}
	for _, s := range p.services {
		running[socketKey(s.cfg)], configs[socketKey(s.cfg)] = s, s.cfg
	}
	p.succeeds = map[string]config.Service{}
	key := func(c config.Service) string { return serviceKey(configs, p.next, c) }
	judge := func(old plannedService, next config.Service) fate { return judgeService(old.cfg, old.equipped, next) }
	for _, s := range diff(running, p.next.Services, key, judge) {
		part := report.PartChange{Kind: "service", Name: s.cfg.Name}
		switch s.fate {
		case remove:
			part.Name = s.old.cfg.Name
			part.Cost = ending(s.old.cfg)
		case update, replace:
			part.Keys = keyChanges(s.old.cfg.Changes(s.cfg), serviceKeys(s.old, s.cfg, s.fate))
			part.Cost = serviceCost(s.old.cfg, s.cfg, s.fate)
			fallthrough
		case keep:
			p.succeeds[s.old.cfg.Name] = s.cfg
		}
		p.add(s.fate, part)
	}
}

// dropped are the run-time changes that the next configuration ends.
func (d *Daemon) dropped(p *planner) (all []report.RuntimeChange) {
	priorities := map[string]uint8{}
	for _, r := range p.before.VRRP {
		priorities[r.Name] = r.Priority
	}
	for _, r := range p.next.VRRP {
		if priorities[r.Name] == r.Priority {
			delete(priorities, r.Name)
		}
	}
	checks := map[string]bool{} // those that go on
	for _, c := range p.next.Checks {
		checks[c.Name] = slices.ContainsFunc(p.before.Checks, func(o config.Check) bool { return o.Name == c.Name && o.Equal(&c) })
	}
	for _, c := range d.steering.changes() {
		if _, gone := priorities[c.Name]; c.Kind == "priority" && gone || c.Kind == "check" && !checks[c.Name] {
			all = append(all, c)
		}
	}
	for _, s := range d.View().Services {
		if next := p.succeeds[s.Config.Name]; next.Mode != "http" || next.HTTP.Maintenance != s.Config.HTTP.Maintenance {
			all = append(all, s.service.said.changes(s.Config.Name)...)
		}
		for _, pool := range s.Pools {
			next, check := poolOf(p.succeeds[s.Config.Name], pool.Route)
			same := s.Check(pool.Route).Equal(check)
			for _, c := range pool.changes() {
				name := strings.TrimPrefix(c.Name, pool.name+"/")
				if !pool.keeps(c, name, next, same) {
					all = append(all, c)
				}
			}
		}
	}
	return all
}

// poolOf is the pool of a route, or the service's own, and what probes it.
func poolOf(s config.Service, route string) (lb.PoolConfig, *config.Check) {
	for _, u := range upstreamConfigs(s, nil) {
		if u.route == route {
			return u.pool.WithDefaults(), u.check
		}
	}
	return lb.PoolConfig{}, nil
}

// backendIn finds a backend by its name.
func backendIn(all []lb.Backend, name string) (b lb.Backend, there bool) {
	i := slices.IndexFunc(all, func(b lb.Backend) bool { return b.Name == name })
	if i < 0 {
		return b, false
	}
	return all[i], true
}

// keeps reports whether a change of a backend outlives the pool's next configuration.
func (p PoolView) keeps(c report.RuntimeChange, name string, next lb.PoolConfig, sameCheck bool) bool {
	was, _ := p.fileOf(name)
	is, there := backendIn(next.Backends, was.Name)
	if !there {
		return false
	}
	switch c.Kind {
	case "drain":
		return is.Address == was.Address && is.Drain == was.Drain
	case "weight":
		return is.Address == was.Address && is.Weight == was.Weight
	}
	return sameCheck
}
