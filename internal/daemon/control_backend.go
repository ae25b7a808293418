package daemon

import (
	"fmt"
	"slices"
	"strings"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/report"
	"github.com/havip/havip/lb"
)

// BackendChange is what becomes different about a backend.
type BackendChange struct {
	// Drain keeps new connections away, or not, whatever the file says; those that there
	// are go on, until the pool's drain_timeout. False brings the backend into use: one
	// without a weight gets one. Nil: as it is.
	Drain *bool
	// Weight takes the place of the file's, 0 to 65535; 0 drains; -1: the file's again.
	// Nil: as it is.
	Weight *int
	// Cut ends the connections, requests and sessions that the backend has now. A backend
	// that is disabled drains, and is cut.
	Cut bool
	// AsFile takes everything back that was said before.
	AsFile bool
}

// SetBackend changes a backend of a service at run time. The backend is called by its name,
// by its address, or, if that is a name, by NAME/ADDRESS or one of its addresses. All
// backends of the service that are called so change, those of its routes included, as
// one server may stand in several; SERVICE/ROUTE in the place of the service is for those of
// that route alone. What is said lasts until the file says another weight, or drain, of
// the backend, or has the backend no more.
func (d *Daemon) SetBackend(service, backend string, c BackendChange) error {
	if c.Weight != nil && (*c.Weight < -1 || *c.Weight > lb.MaxWeight) {
		return fmt.Errorf("weight %d is %w: want 0 to %d, or -1 for that of the file", *c.Weight, report.ErrInvalid, lb.MaxWeight)
	}
	pools, err := d.poolsOf(service)
	if err != nil {
		return err
	}
	var names []string
	found := false
	for _, p := range pools {
		for _, name := range p.named(backend) {
			found = p.change(name, c) || found
		}
		for _, b := range p.backends {
			names = append(names, b.Name)
		}
	}
	if !found {
		return unknown("backend of service "+service, backend, names)
	}
	return nil
}

// poolsOf returns the pools of a service, or that of SERVICE/ROUTE.
func (d *Daemon) poolsOf(service string) ([]PoolView, error) {
	var names []string
	name, route, routed := strings.Cut(service, "/")
	for _, s := range d.View().Services {
		names = append(names, s.Config.Name)
		if s.Config.Name != name {
			continue
		}
		pools := s.Pools
		if routed {
			pools = slices.DeleteFunc(slices.Clone(pools), func(p PoolView) bool { return p.Route != route })
		}
		if len(pools) > 0 {
			return pools, nil
		}
		if slices.ContainsFunc(s.Config.Routes, func(r config.ServiceRoute) bool { return r.Name == route }) {
			return nil, fmt.Errorf("route %s of service %s is %w here: it has no backends of its own, and those of %s serve it: want %s", route, name, report.ErrInvalid, name, name)
		}
		var routes []string
		for _, p := range s.Pools {
			routes = append(routes, p.name)
		}
		return nil, unknown("route", service, routes)
	}
	return nil, unknown("service", service, names)
}

// named returns what the pool calls the backends of which somebody speaks: a name counts
// first, then what the file has as their address, then where connections go.
func (p PoolView) named(said string) (names []string) {
	for _, b := range p.backends {
		if b.Name == said {
			return []string{said}
		}
	}
	all := p.Status().Backends
	for _, b := range all {
		if b.Name == said {
			return []string{said}
		}
	}
	for _, b := range p.backends {
		if b.Address == said {
			names = append(names, b.Name)
		}
	}
	if names != nil {
		return names
	}
	for _, b := range all {
		if b.Resolved == said {
			names = append(names, b.Name)
		}
	}
	return names
}

// change makes a change of one backend, or of one address of its name. It reports whether
// the pool has it: a reload may just have taken it away.
func (p PoolView) change(name string, c BackendChange) bool {
	file, whole := p.fileOf(name)
	ok := p.upstream.pool.Override(name, func(o *lb.Override) { c.apply(o, file, whole) })
	if ok && whole {
		p.supersede(name, c)
	}
	if ok && !whole && c.Weight == nil && c.Drain != nil && !*c.Drain {
		p.bringIntoUse(name, file)
	}
	if ok && c.Cut {
		p.upstream.pool.Cut(name)
	}
	return ok
}

// fileOf is what the file says of a backend. whole is false for one address of its name.
func (p PoolView) fileOf(name string) (file lb.Backend, whole bool) {
	origin := name
	for _, b := range p.Status().Backends {
		if b.Name == name {
			origin = b.Origin
		}
	}
	for _, b := range p.backends {
		if b.Name == origin {
			return b, origin == name
		}
	}
	return file, false
}

// apply puts the change into an override. What is the same as in the file is no override,
// unless o is about one address, whose name may have one of its own.
func (c BackendChange) apply(o *lb.Override, file lb.Backend, whole bool) {
	if c.AsFile {
		o.Drain, o.Weight = nil, nil
	}
	if c.Weight != nil {
		if o.Weight = c.Weight; *c.Weight < 0 || whole && *c.Weight == max(file.Weight, 0) {
			o.Weight = nil
		}
	}
	if c.Drain == nil {
		return
	}
	if o.Drain = c.Drain; whole && *c.Drain == file.Drain {
		o.Drain = nil
	}
	if *c.Drain || c.Weight != nil || o.Weight != nil && *o.Weight > 0 {
		return
	}
	o.Weight = nil
	if file.Weight < 0 { // which would keep it out of use
		o.Weight = new(1)
	}
}

// bringIntoUse gives an address a weight whose name has lost its own by a command.
func (p PoolView) bringIntoUse(name string, file lb.Backend) {
	for _, b := range p.Status().Backends {
		if b.Name == name && b.Weight < 0 {
			p.upstream.pool.Override(name, func(o *lb.Override) { o.Weight = new(max(file.Weight, 1)) })
		}
	}
}

// supersede ends what was said before of single addresses of a name: the latest word counts.
func (p PoolView) supersede(name string, c BackendChange) {
	for _, o := range p.upstream.pool.Overrides() {
		if o.Backend == name || !strings.HasPrefix(o.Backend, name+"/") {
			continue
		}
		p.upstream.pool.Override(o.Backend, func(o *lb.Override) {
			if c.Drain != nil || c.AsFile {
				o.Drain = nil
			}
			if c.Weight != nil || c.AsFile {
				o.Weight = nil
			}
		})
	}
}

// changes are the values that are in the place of the file's, and the checks that are paused.
func (p PoolView) changes() (all []report.RuntimeChange) {
	name := p.name + "/"
	for _, o := range p.upstream.pool.Overrides() {
		file, _ := p.fileOf(o.Backend)
		if o.Drain != nil {
			all = append(all, runtimeChange("drain", name+o.Backend, *o.Drain, file.Drain, o.Since))
		}
		if o.Weight != nil {
			all = append(all, runtimeChange("weight", name+o.Backend, *o.Weight, max(file.Weight, 0), o.Since))
		}
	}
	return append(all, p.upstream.probes.changes(name)...)
}
