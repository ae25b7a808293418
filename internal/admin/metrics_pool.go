package admin

import "github.com/havip/havip/internal/report"

var poolFamilies = []family[*report.Pool]{
	{"havip_pool_backends", "How many backends the pool has.", func(p *report.Pool) float64 { return float64(len(p.Backends)) }},
	{"havip_pool_backends_in_use", "How many backends get new connections.", func(p *report.Pool) (n float64) {
		for i := range p.Backends {
			n += boolean(p.Backends[i].InUse)
		}
		return n
	}},
	{"havip_pool_backends_unresolved", "How many names of backends have had no address yet.",
		func(p *report.Pool) float64 { return float64(len(p.Unresolved)) }},
	{"havip_pool_quorum", "Whether the healthy backends weigh enough.", func(p *report.Pool) float64 { return boolean(p.Quorum) }},
	{"havip_pool_panic", "Whether so few backends are healthy that health is ignored.", func(p *report.Pool) float64 { return boolean(p.Panic) }},
	{"havip_pool_queue_length", "How many connections or requests wait for a backend now.", func(p *report.Pool) float64 { return float64(p.Queued) }},
	{"havip_pool_queue_waits_total", "How many connections or requests have waited for a backend.",
		func(p *report.Pool) float64 { return float64(p.Waits) }},
	{"havip_pool_queue_overflows_total", "How many connections or requests found no room in the queue, or waited in vain.",
		func(p *report.Pool) float64 { return float64(p.Overflow) }},
}

var backendFamilies = []family[*report.Backend]{
	{"havip_backend_up", "Whether the backend is up, as far as its check tells.",
		func(b *report.Backend) float64 { return boolean(b.State != "down" && b.State != "unresolved") }},
	{"havip_backend_in_use", "Whether the backend gets new connections.", func(b *report.Backend) float64 { return boolean(b.InUse) }},
	{"havip_backend_draining", "Whether the backend gets no new connections because somebody wants that.",
		func(b *report.Backend) float64 { return boolean(b.Draining) }},
	{"havip_backend_ejected", "Whether failures of connections or requests have taken the backend out for now.",
		func(b *report.Backend) float64 { return boolean(b.Ejected) }},
	{"havip_backend_weight", "The weight in force.", func(b *report.Backend) float64 { return float64(b.Weight) }},
	{"havip_backend_active", "How many connections, sessions or requests of the backend are under way.",
		func(b *report.Backend) float64 { return float64(b.Active) }},
	{"havip_backend_check_duration_seconds", "How long the latest probe of the backend took.", func(b *report.Backend) float64 {
		if !b.Checked {
			return none
		}
		return seconds(b.CheckLatency)
	}},
	{"havip_backend_picks_total", "How often the backend was chosen.", func(b *report.Backend) float64 { return float64(b.Picks) }},
	{"havip_backend_failures_total", "How often the backend failed after it was chosen.", func(b *report.Backend) float64 { return float64(b.Failures) }},
	{"havip_backend_ejections_total", "How often failures have taken the backend out.", func(b *report.Backend) float64 { return float64(b.Ejects) }},
	{"havip_backend_received_bytes_total", "How many bytes came from the backend.", func(b *report.Backend) float64 { return float64(b.Received) }},
	{"havip_backend_sent_bytes_total", "How many bytes went to the backend.", func(b *report.Backend) float64 { return float64(b.Sent) }},
	{"havip_backend_connections_total", "How many connections to the backend were made.", func(b *report.Backend) float64 { return float64(b.Connects) }},
	{"havip_backend_connect_seconds_total", "How long it took to make all connections to the backend.",
		func(b *report.Backend) float64 { return seconds(b.ConnectTime) }},
}

// addPools exposes the pools of services. The label route is empty for the service's own.
func (s *sheet) addPools(services []report.Service) {
	var pools []labelled[*report.Pool]
	var backends []labelled[*report.Backend]
	for i := range services {
		w := &services[i]
		for j := range w.Pools {
			p := &w.Pools[j]
			pools = append(pools, labelled[*report.Pool]{p, s.label("route", p.Route, "service", w.Name)})
			for k := range p.Backends {
				b := &p.Backends[k]
				backends = append(backends, labelled[*report.Backend]{b, s.label("backend", b.Name, "route", p.Route, "service", w.Name)})
			}
		}
	}
	add(s, poolFamilies, pools)
	add(s, backendFamilies, backends)
}
