package config

import (
	"errors"
	"fmt"
	"slices"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/lb"
)

// validateRouteKeys reports keys of a route that are missing, or that the mode does not use.
func (d *decoder) validateRouteKeys(r *ServiceRoute, mode, path string) {
	if len(r.Backends) == 0 && !d.given(path+".backends") {
		for _, name := range []string{"balance", "pool", "backend_tls"} {
			if d.given(path + "." + name) {
				d.fail(path+"."+name, "is of the route's own backends, and there are none: add backends, or leave this out: the service's has it for its own")
			}
		}
	}
	switch mode {
	case "http":
		if d.given(path + ".server_names") {
			d.fail(path+".server_names", "mode http does not use this: want hosts")
		}
	case "tcp":
		for _, name := range []string{"hosts", "paths", "methods", "headers", "sources", "access_log", "backend_tls", "connect_timeout", "tries", "http"} {
			if d.given(path + "." + name) {
				d.fail(path+"."+name, "mode tcp does not use this: leave it out, or set mode: http")
			}
		}
		if len(r.ServerNames) == 0 && !d.given(path+".server_names") {
			d.fail(path+".server_names", "missing: add `server_names: [mail.example.org]`")
		}
		if len(r.Backends) == 0 && !d.given(path+".backends") {
			d.fail(path+".backends", "missing: add `backends: [192.168.31.243:8443]`")
		}
	}
}

func (d *decoder) validateRoutes(s *Service, path string) {
	names, servers := make(map[string]string), make(map[string]string)
	for i := range s.Routes {
		r, path := &s.Routes[i], fmt.Sprintf("%s.routes[%d]", path, i)
		d.unique(names, r.Name, path+".name")
		d.validateRouteKeys(r, s.Mode, path)
		for j, n := range r.ServerNames {
			d.unique(servers, n, fmt.Sprintf("%s.server_names[%d]", path, j))
		}
		d.validateBackends(r.Backends, path)
		d.validateServiceCheck(s, &r.Check, path)
		if r.Check == nil && len(r.Backends) > 0 {
			r.Check = s.Check
		}
	}
}

// validatePool checks the pools of a service: its own and those of its routes, which
// have its settings where they do not say others.
func (d *decoder) validatePool(s *Service, path string, keys []key) {
	s.Pool.Name = s.Name
	d.report(s.Pool.Validate(), path, keys)
	all := []lb.PoolConfig{s.Pool}
	for i, r := range s.Routes {
		d.validatePoolOf(s, i, path, keys)
		if len(r.Backends) > 0 {
			own := s.PoolOf(r)
			all = append(all, own)
			d.warnPool(fmt.Sprintf("%s.routes[%d].pool", path, i), own, []lb.PoolConfig{own})
		}
	}
	d.warnPool(path+".pool", s.Pool, all)
}

// validatePoolOf checks the pool of a route. What would be wrong without keys of its own is the
// service's fault.
func (d *decoder) validatePoolOf(s *Service, route int, path string, keys []key) {
	r := s.Routes[route]
	same := r
	same.Pool, same.OwnPool = lb.PoolConfig{}, nil
	above := field.All(s.PoolOf(same).Validate())
	var services, own []error
	for _, e := range field.All(s.PoolOf(r).Validate()) {
		if slices.ContainsFunc(above, func(a *field.Error) bool { return a.Error() == e.Error() }) {
			services = append(services, e)
		} else {
			own = append(own, e)
		}
	}
	d.report(errors.Join(services...), path, keys, "Backends[", fmt.Sprintf("Routes[%d].Backends[", route))
	d.report(errors.Join(own...), fmt.Sprintf("%s.routes[%d]", path, route), r.value().keys)
}

// warnPool warns of keys at path that do nothing in any of all pools, which have them from p.
func (d *decoder) warnPool(path string, p lb.PoolConfig, all []lb.PoolConfig) {
	none := func(is func(lb.PoolConfig) bool) bool { return !slices.ContainsFunc(all, is) }
	if d.given(path+".fail_timeout") && none(func(p lb.PoolConfig) bool { return p.MaxFails > 0 }) {
		d.warn(path+".fail_timeout", "%s: does nothing with max_fails: 0", field.Span(p.FailTimeout))
	}
	if d.given(path+".queue_timeout") && none(func(p lb.PoolConfig) bool { return p.Queue > 0 }) {
		d.warn(path+".queue_timeout", "%s: does nothing without queue", field.Span(p.QueueTimeout))
	}
	limited := func(b lb.Backend) bool { return b.MaxConns > 0 }
	if p.Queue > 0 && d.given(path+".queue") && none(func(p lb.PoolConfig) bool { return slices.ContainsFunc(p.Backends, limited) }) {
		d.warn(path+".queue", "%d: no backend has max_conns: nothing ever waits", p.Queue)
	}
}
