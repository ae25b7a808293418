package config

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/havip/havip/lb"
)

// idle are keys that do nothing, and why.
type idle struct {
	is   bool
	keys []string
	why  string
}

// warnIdle warns of those of the keys below path that are given.
func (d *decoder) warnIdle(path string, all []idle) {
	for _, i := range all {
		for _, name := range i.keys {
			if sub := join(path, name); i.is && d.given(sub) {
				d.warn(sub, "does nothing %s", own(i.why))
			}
		}
	}
}

// warnRules warns of keys of requests that do nothing beside others of the service, or of its
// routes.
func (d *decoder) warnRules(s *Service, path string) {
	all := make([]inForce, 0, len(s.Routes)+1)
	above := &s.HTTP.Rules
	for i := range s.Routes {
		all = append(all, s.inForce(&s.Routes[i]))
		d.warnRoute(s, &s.Routes[i], fmt.Sprintf("%s.routes[%d]", path, i))
		d.warnIdle(fmt.Sprintf("%s.routes[%d].http", path, i), idleRules(all[i:]))
	}
	all = append(all, inForce{*above, s.Pool.Balance, s.HTTP.Tries})
	d.warnIdle(path+".http", slices.Concat(idleRules(all), []idle{
		{above.MaxURI > int(s.HTTP.MaxHeader), []string{"max_uri"}, "above max_header"},
	}))
	d.warnIdle(path, []idle{
		{len(s.Pool.Backends) == 0 && len(s.Routes) == 0, []string{"check", "balance", "backend_tls", "pool"}, "without backends"},
	})
	left := func(r ServiceRoute) bool { return len(r.Backends) == 0 && answersAll(&r.HTTP.Rules) == "" }
	if by := answersAll(above); by != "" && !slices.ContainsFunc(s.Routes, left) {
		d.warnIdle(path, []idle{{true, []string{"backends"}, "beside " + by + ": no request comes to them"}})
	}
}

// inForce is what requests go by, as far as warnings do.
type inForce struct {
	lb.Rules
	balance lb.Balance
	tries   int
}

// inForce is that of a route: its own, and the service's where the route gives none.
func (s *Service) inForce(route *ServiceRoute) inForce {
	r, above := route.HTTP.Rules, &s.HTTP.Rules
	inherits := func(field string) bool { return !slices.Contains(route.Own, field) }
	if r.Buffering == 0 && inherits("Buffering") {
		r.Buffering = above.Buffering
	}
	if r.RequestRate == 0 && inherits("RequestRate") {
		r.RequestRate = above.RequestRate
	}
	if r.ErrorPages == nil && inherits("ErrorPages") { // [] are none
		r.ErrorPages = above.ErrorPages
	}
	return inForce{r, s.PoolOf(*route).Balance, cmp.Or(route.HTTP.Tries, s.HTTP.Tries)}
}

// idleRules are keys of rules that do nothing where all are in force: a rule of the service is
// in force for its routes as well. The last of all has the keys.
func idleRules(all []inForce) []idle {
	none := func(has func(r inForce) bool) bool { return !slices.ContainsFunc(all, has) }
	by := answersAll(&all[len(all)-1].Rules)
	return []idle{
		{by == "redirect", []string{"answer", "rewrite"}, "beside redirect, which comes first"},
		{by == "answer", []string{"rewrite"}, "beside answer: no request comes to a backend"},
		{none(func(r inForce) bool { return answersAll(&r.Rules) == "" }), []string{"rewrite_location"},
			"where all requests are answered here: no backend sends clients anywhere"},
		{none(func(r inForce) bool { return r.balance == lb.KeyHash }), []string{"hash_key"}, "without balance: key-hash"},
		{none(func(r inForce) bool { return r.Buffering != lb.BufferingOff }),
			[]string{"buffer_memory", "buffer_folder", "buffer_total"}, "with buffering: off"},
		{none(func(r inForce) bool { return len(r.ErrorPages) > 0 }), []string{"intercept_errors"}, "without error_pages"},
		{none(func(r inForce) bool { return r.RequestRate > 0 }), []string{"request_burst"}, "without request_rate"},
		{none(func(r inForce) bool { return r.tries != 1 }),
			[]string{"retry_statuses", "retry_budget", "retry_non_idempotent"}, "with tries: 1"},
	}
}

// answersAll is the key by which all requests are answered that come to the rules; empty: there
// is none. The redirect to https is for some of them.
func answersAll(r *lb.Rules) string {
	switch {
	case r.Redirect.Location != "" && r.Redirect.Location != lb.RedirectHTTPS:
		return "redirect"
	case r.Answer.Status != 0:
		return "answer"
	}
	return ""
}

// validateAnswered reports that backends are missing: http takes the place of them and of routes
// where its rules answer all requests.
func (d *decoder) validateAnswered(s *Service, path string) {
	const add = "add `backends: [192.168.31.242:8080]`"
	at, r := path+".backends", &s.HTTP.Rules
	switch {
	case !d.given(path+".http") || d.given(at) || d.given(path+".routes"):
	case s.Mode != "http" && s.Mode != "":
		d.fail(at, "missing: %s", add)
	case answersAll(r) != "" || r.Maintenance:
	case r.Redirect.Location != lb.RedirectHTTPS:
		d.fail(at, "missing: %s, or answer all requests by http.redirect, http.answer or http.maintenance", add)
	case s.TLS != nil:
		d.fail(at, "missing: no request is sent to https that has come by TLS: %s, or leave tls out", add)
	case len(s.HTTP.TrustedProxies) > 0:
		d.fail(at, "missing: no request is sent to https of which trusted proxies say that it has come so: "+
			"%s, or leave trusted_proxies out", add)
	}
}

// warnRoute warns of keys of a route beside its rules.
func (d *decoder) warnRoute(s *Service, r *ServiceRoute, path string) {
	by := answersAll(&r.HTTP.Rules)
	d.warnIdle(path, []idle{
		{by != "", []string{"backends"}, "beside " + by + ": no request comes to them"},
		{len(r.Backends) == 0, []string{"check"}, "without backends: those of the service have its check"},
		{!s.AccessLog.Log && s.AccessLog.File == "", []string{"access_log"}, "without access_log of the service"},
	})
}

// warnLogs warns of a file that gets lines of two formats.
func (d *decoder) warnLogs(services []Service) {
	first := make(map[string]int)
	for i, s := range services {
		a := s.AccessLog
		if a.File == "" {
			continue
		}
		j, ok := first[a.File]
		if !ok {
			first[a.File] = i
		} else if is, was := a.Format, services[j].AccessLog.Format; is != was {
			d.warn(fmt.Sprintf("services[%d].access_log.file", i),
				"%s: gets lines as %s, and as %s from services[%d]: give each format a file", a.File, is, was, j)
		}
	}
}
