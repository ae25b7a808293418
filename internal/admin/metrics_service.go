package admin

import (
	"maps"
	"slices"

	"github.com/havip/havip/internal/report"
)

var checkFamilies = []family[*report.Check]{
	{"havip_check_up", "Whether the check finds its target up. It does not before its first results.",
		func(c *report.Check) float64 { return boolean(c.State == "up") }},
	{"havip_check_state_start_timestamp_seconds", "Since when the check is in its state.",
		func(c *report.Check) float64 { return timestamp(c.Since) }},
	{"havip_check_paused", "Whether somebody has paused the check.", func(c *report.Check) float64 { return boolean(c.Paused) }},
	{"havip_check_probe_duration_seconds", "How long the latest probe took.",
		func(c *report.Check) float64 {
			if c.Checked.IsZero() {
				return none
			}
			return seconds(c.Latency)
		}},
	{"havip_check_last_probe_timestamp_seconds", "When the latest probe ended.", func(c *report.Check) float64 { return timestamp(c.Checked) }},
	{"havip_check_probes_total", "How many probes ended.", func(c *report.Check) float64 { return float64(c.Probes) }},
	{"havip_check_probe_failures_total", "How many probes failed.", func(c *report.Check) float64 { return float64(c.Failed) }},
	{"havip_check_changes_total", "How often the check changed its state.", func(c *report.Check) float64 { return float64(c.Changes) }},
}

// addChecks exposes the checks that routers may track.
func (s *sheet) addChecks(checks []report.Check) {
	var all []labelled[*report.Check]
	for i := range checks {
		all = append(all, labelled[*report.Check]{&checks[i], s.label("check", checks[i].Name)})
	}
	add(s, checkFamilies, all)
}

var serviceFamilies = []family[*report.Service]{
	{"havip_service_serving", "Whether the service has its socket.", func(w *report.Service) float64 { return boolean(w.Serving) }},
	{"havip_service_maintenance", "Whether the service answers requests with 503 for maintenance.", func(w *report.Service) float64 { return boolean(w.Maintenance) }},
	{"havip_service_active", "How many connections, sessions or requests are under way.",
		func(w *report.Service) float64 { return float64(w.Traffic.Active) }},
	{"havip_service_accepted_total", "How many connections, sessions or requests were accepted.",
		func(w *report.Service) float64 { return float64(w.Traffic.Accepted) }},
	{"havip_service_refused_total", "How many connections or requests were turned away by limits, by rules such as access, a login or maintenance, or because of what they began with.",
		func(w *report.Service) float64 { return float64(w.Traffic.Refused) }},
	{"havip_service_failed_total", "How many were not served, since no backend was reached or has answered; what rules or limits refuse is not among them.",
		func(w *report.Service) float64 { return float64(w.Traffic.Failed) }},
	{"havip_service_retries_total", "How many backends were tried in vain.", func(w *report.Service) float64 { return float64(w.Traffic.Retries) }},
	{"havip_service_unlogged_total", "How many lines the file of the access log has lost.",
		func(w *report.Service) float64 { return float64(w.Unlogged) }},
	{"havip_service_received_bytes_total", "How many bytes came from clients, of requests without their headers.",
		func(w *report.Service) float64 { return float64(w.Traffic.Received) }},
	{"havip_service_sent_bytes_total", "How many bytes went to clients, of responses without their headers.",
		func(w *report.Service) float64 { return float64(w.Traffic.Sent) }},
}

// addServices exposes the services, but for their pools.
func (s *sheet) addServices(services []report.Service) {
	var all []labelled[*report.Service]
	for i := range services {
		all = append(all, labelled[*report.Service]{&services[i], s.label("service", services[i].Name)})
	}
	add(s, serviceFamilies, all)
	s.addServiceInfo(services)
	s.addResponses(services)
	s.addRoutes(services)
	s.addDurations(all)
	s.addCertificates(services)
}

var serviceInfoFamilies = []family[struct{}]{
	{"havip_service_info", "Always 1, with how the service is configured.", func(struct{}) float64 { return 1 }},
}

func (s *sheet) addServiceInfo(services []report.Service) {
	var all []labelled[struct{}]
	for i := range services {
		w := &services[i]
		all = append(all, labelled[struct{}]{labels: s.label("balance", w.Balance, "listen", w.Listen, "mode", w.Mode, "service", w.Name)})
	}
	add(s, serviceInfoFamilies, all)
}

var responseFamilies = []family[uint64]{
	{"havip_service_responses_total", "How many responses of HTTP went to clients, by the class of their status.", asFloat},
}

func (s *sheet) addResponses(services []report.Service) {
	var all []labelled[uint64]
	for i := range services {
		statuses := services[i].Traffic.Statuses
		for _, class := range slices.Sorted(maps.Keys(statuses)) {
			all = append(all, labelled[uint64]{statuses[class], s.label("class", class, "service", services[i].Name)})
		}
	}
	add(s, responseFamilies, all)
}

var routeFamilies = []family[uint64]{
	{"havip_route_requests_total", "How many requests of HTTP have ended, by route and by the class of the status: none without an answer. An empty route has those without one.", asFloat},
}

// addRoutes exposes how much each route of a service has to do, if it has routes.
func (s *sheet) addRoutes(services []report.Service) {
	var all []labelled[uint64]
	for i := range services {
		routes := services[i].Traffic.Routes
		for _, route := range slices.Sorted(maps.Keys(routes)) {
			for _, class := range slices.Sorted(maps.Keys(routes[route])) {
				all = append(all, labelled[uint64]{routes[route][class], s.label("class", class, "route", route, "service", services[i].Name)})
			}
		}
	}
	add(s, routeFamilies, all)
}

// durationName is that of the one histogram.
const durationName = "havip_service_duration_seconds"

func (s *sheet) addDurations(services []labelled[*report.Service]) {
	for i, w := range services {
		if i == 0 {
			s.head(durationName, "How long requests, connections or sessions took, from their beginning to their end.", "histogram")
		}
		s.histogram(durationName, w.of.Traffic.Durations, w.labels)
	}
}

var certificateFamilies = []family[*report.Until]{
	{"havip_certificate_not_after_timestamp_seconds", "When the certificate ends.", func(u *report.Until) float64 { return timestamp(u.End) }},
}

// addCertificates exposes the certificates of services: each file of a service once.
func (s *sheet) addCertificates(services []report.Service) {
	var all []labelled[*report.Until]
	for i := range services {
		w := &services[i]
		for j := range w.TLSUntil {
			u := &w.TLSUntil[j]
			same := func(o report.Until) bool { return o.File == u.File }
			if slices.IndexFunc(w.TLSUntil, same) < j {
				continue
			}
			all = append(all, labelled[*report.Until]{u, s.label("file", u.File, "service", w.Name)})
		}
	}
	add(s, certificateFamilies, all)
}
