package daemon

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/lb"
)

// RouteTally is the requests of a route that have ended, by the first digit of their statuses. At
// 0 is what had no response.
type RouteTally [6]uint64

// routeTallies count the requests of the routes of a service. A route keeps its count as long as
// it has its name.
type routeTallies struct {
	mu  sync.Mutex // guards all, not the counts; nothing waits while it is held
	all map[string]*routeTally
}

// routeTally is a RouteTally under way.
type routeTally [len(RouteTally{})]atomic.Uint64

// of returns where to count for the routes of cfg, by their names: without one, a request has no
// route. nil: cfg has no routes that choose by requests. Nobody changes what is returned.
func (t *routeTallies) of(cfg config.Service) map[string]*routeTally {
	if cfg.Mode != "http" || len(cfg.Routes) == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	in := make(map[string]*routeTally, len(cfg.Routes)+1)
	for _, name := range routeNames(cfg) {
		if in[name] = t.all[name]; in[name] == nil {
			in[name] = new(routeTally)
		}
	}
	if t.all == nil || len(t.all) > 3*len(in)+maxAbsent {
		t.all = map[string]*routeTally{} // names that change all the time must not fill the memory
	}
	maps.Copy(t.all, in)
	return in
}

// routeNames are the names of the routes of a service, and none for requests without a route.
func routeNames(cfg config.Service) []string {
	names := []string{""}
	for _, r := range cfg.Routes {
		names = append(names, r.Name)
	}
	return names
}

// counting returns record, which also counts for the routes of cfg, if it has any: for each request
// one addition.
func (t *routeTallies) counting(cfg config.Service, record func(lb.Record)) func(lb.Record) {
	routes := t.of(cfg)
	if routes == nil {
		return record
	}
	return func(r lb.Record) {
		if r.HTTP != nil {
			if to := routes[r.HTTP.Route]; to != nil {
				to[classOf(r.Status)].Add(1)
			}
		}
		record(r)
	}
}

// total returns what has been counted so far; nil: there are no routes.
func (t *routeTallies) total() map[string]RouteTally {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.all) == 0 {
		return nil
	}
	sum := make(map[string]RouteTally, len(t.all))
	for name, of := range t.all {
		var n RouteTally
		for class := range of {
			n[class] = of[class].Load()
		}
		sum[name] = n
	}
	return sum
}

// mergeRoutes returns the sums of two maps, which stay as they are.
func mergeRoutes(a, b map[string]RouteTally) map[string]RouteTally {
	if len(a) == 0 {
		return b
	}
	sum := maps.Clone(a)
	for name, of := range b {
		n := sum[name]
		for class := range of {
			n[class] += of[class]
		}
		sum[name] = n
	}
	return sum
}

// Routes are the requests of each route that the service has, over the same time as Stats, and at
// the empty name those without a route; nil: there are no routes that choose by requests.
func (s ServiceView) Routes() map[string]RouteTally {
	if s.Config.Mode != "http" || len(s.Config.Routes) == 0 {
		return nil
	}
	counted := s.service.totals.services.total(s.Config.Name).routes
	has := make(map[string]RouteTally, len(s.Config.Routes)+1)
	for _, name := range routeNames(s.Config) {
		has[name] = counted[name]
	}
	return has
}
