package lb

import (
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/havip/havip/lb/internal/h1"
)

// router finds the route of a request. What it does for a request does not depend on how many
// routes there are, but for regular expressions that do not say with what a path begins.
type router struct {
	exact map[string]*pathTable // by host
	below map[string]*pathTable // by what stands behind the first dots of a host
	above map[string]*pathTable // by what stands before the last dots
	all   *pathTable            // for all hosts; nil: there are no such routes
}

// route is a Route that is ready for use.
type route struct {
	name     string
	methods  []string
	headers  []headerMatch
	sources  []netip.Prefix
	settings *handlerSettings
}

// headerMatch is a header that a route wants.
type headerMatch struct {
	name  string
	id    h1.ID
	value string
	any   bool
	re    *regexp.Regexp
}

// compileHeader returns the match for what a Route says of a header.
func compileHeader(name, value string) (headerMatch, error) {
	m := headerMatch{name: name, id: h1.IDOf(name), value: value, any: value == ""}
	if !validHeader(name, "") {
		return m, fmt.Errorf("%q: want the name of a header, such as X-Version", name)
	}
	text, ok := strings.CutPrefix(value, "~ ")
	if !ok {
		return m, nil
	}
	var err error
	m.re, err = compileRegexp(text)
	return m, err
}

// newRouter returns a router for valid routes; nil if there are none.
func newRouter(routes []Route, settings []*handlerSettings) *router {
	if len(routes) == 0 {
		return nil
	}
	r := &router{exact: make(map[string]*pathTable), below: make(map[string]*pathTable), above: make(map[string]*pathTable)}
	order := 0 // of all paths
	for i, from := range routes {
		to := &route{name: from.Name, methods: methodsOf(routes, i), sources: slices.Clone(from.Sources), settings: settings[i]}
		for _, name := range slices.Sorted(maps.Keys(from.Headers)) {
			m, _ := compileHeader(name, from.Headers[name]) // valid
			to.headers = append(to.headers, m)
		}
		paths := from.Paths
		if len(paths) == 0 {
			paths = []string{""}
		}
		tables := r.tablesOf(from.Hosts)
		for _, path := range paths {
			order++
			for _, table := range tables {
				table.add(path, to, order)
			}
		}
	}
	for _, tables := range []map[string]*pathTable{r.exact, r.below, r.above, {"": r.all}} {
		for _, table := range tables {
			table.finish()
		}
	}
	return r
}

// hasMethod reports whether a method is one of a list. A backend may take get for GET, so that a
// request with it must not get past the rules for GET.
func hasMethod(list []string, method string) bool {
	for _, m := range list {
		if len(m) == len(method) && strings.EqualFold(m, method) {
			return true
		}
	}
	return false
}

// methodsOf returns the methods of a route: with GET it takes HEAD as well, as nginx's
// limit_except, unless another route for one of its hosts and paths names that.
func methodsOf(routes []Route, i int) []string {
	r := &routes[i]
	if !hasMethod(r.Methods, http.MethodGet) || hasMethod(r.Methods, http.MethodHead) {
		return slices.Clone(r.Methods)
	}
	for j := range routes {
		if other := &routes[j]; j != i && hasMethod(other.Methods, http.MethodHead) && overlap(r.Hosts, other.Hosts) && overlap(r.Paths, other.Paths) {
			return slices.Clone(r.Methods)
		}
	}
	return append(slices.Clone(r.Methods), http.MethodHead)
}

// overlap reports whether two lists of hosts or paths have an entry in common, or are both for
// all.
func overlap(a, b []string) bool {
	return len(a) == 0 && len(b) == 0 || slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}

// tablesOf returns the tables for hosts, and makes those that are missing.
func (r *router) tablesOf(hosts []string) (tables []*pathTable) {
	if len(hosts) == 0 {
		if r.all == nil {
			r.all = new(pathTable)
		}
		return []*pathTable{r.all}
	}
	add := func(m map[string]*pathTable, name string) {
		if m[name] == nil {
			m[name] = new(pathTable)
		}
		if !slices.Contains(tables, m[name]) {
			tables = append(tables, m[name])
		}
	}
	for _, host := range hosts {
		name, kind, _ := parseHost(host) // valid
		switch kind {
		case hostExact:
			add(r.exact, name)
		case hostUnder:
			add(r.exact, name)
			add(r.below, name)
		case hostBelow:
			add(r.below, name)
		case hostAbove:
			add(r.above, name)
		}
	}
	return tables
}

// find returns the route of a request; nil: there is none. host has no port and is in lower
// case, path is normal.
func (r *router) find(x *exchange, host, path string) *route {
	if to := r.exact[host].find(x, path); to != nil {
		return to
	}
	if len(r.below) > 0 {
		for rest := host; ; {
			dot := strings.IndexByte(rest, '.')
			if dot < 0 {
				break
			}
			rest = rest[dot+1:]
			if to := r.below[rest].find(x, path); to != nil {
				return to
			}
		}
	}
	if len(r.above) > 0 {
		for rest := host; ; {
			dot := strings.LastIndexByte(rest, '.')
			if dot < 0 {
				break
			}
			rest = rest[:dot]
			if to := r.above[rest].find(x, path); to != nil {
				return to
			}
		}
	}
	return r.all.find(x, path)
}

// takes reports whether a request is for the route, whose host and path fit.
func (to *route) takes(x *exchange) bool {
	if len(to.methods) > 0 && !hasMethod(to.methods, x.req.Method) {
		return false
	}
	if len(to.sources) > 0 && !containsAddr(to.sources, x.client.Addr()) {
		return false
	}
	for i := range to.headers {
		if !to.headers[i].in(x.req) {
			return false
		}
	}
	return true
}

// in reports whether a request has the header.
func (m *headerMatch) in(req *h1.Request) bool {
	if !holds(req.Has, m.id) {
		return false
	}
	for i := range req.Fields {
		f := &req.Fields[i]
		switch {
		case f.ID != m.id || m.id == h1.Other && !h1.EqualName(f.Name, m.name):
		case m.any, m.re == nil && f.Value == m.value, m.re != nil && m.re.MatchString(f.Value):
			return true
		}
	}
	return false
}
