package lb

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/havip/havip/internal/field"
)

// Route takes the requests that it matches away from the rest of a Handler. Which route a
// request has is decided as nginx does it:
//
//   - First by Hosts: a name comes before *.example.org, the longest of those first, that
//     before www.example.*, and routes without Hosts, which take all hosts, come last.
//   - Then by Paths, among the routes for that host: "= /path" first. Then the longest prefix
//     is looked for; if that is a "^~ /path", it is taken. Then the regular expressions are
//     tried, in the order of the routes, and the first that matches is taken. Then the longest
//     prefix.
//   - Then by the order of the routes.
//
// A route whose Methods, Headers or Sources do not match is passed over, and the next one by
// that order is tried, in the end those for less exact hosts: in nginx a server would answer
// 404 there. A request without a route is the Handler's.
type Route struct {
	// Name appears in logs. Required; each route has its own.
	Name string
	// Hosts are the hosts, without a port, that the route is for: a name, "*.example.org" for
	// all names below example.org, ".example.org" for these and itself, or "www.example.*".
	// Default: all hosts.
	Hosts []string
	// Paths are what the path of a request is compared with: "/path" is a prefix of it, byte by
	// byte, "= /path" the whole, "^~ /path" a prefix that comes before regular expressions, "~
	// regexp" a regular expression that matches somewhere in it, and "~* regexp" one that does so
	// in upper and lower case. They are those of RE2, as package regexp has them, but that $
	// matches before a line feed at the end, too, as in nginx. The path is taken as nginx does it:
	// decoded, without the steps . and .. and with one slash for several. A request whose path
	// leads above the root, or has a NUL, is answered with 400 where there are routes. Backends
	// get the path as the client wrote it, unless there is a Rewrite. Default: all paths.
	Paths []string
	// Methods are those that the route is for, in any case; with GET it takes HEAD as well, unless
	// another route for the same host and path names HEAD. Requests with others go to the next
	// route, in the end to the Handler: to keep them out takes Access. Default: all.
	Methods []string
	// Headers are headers that a request must have, each with one of its values as given here:
	// "" stands for any value, and "~ regexp" for one that matches.
	Headers map[string]string
	// Sources are the networks that have the client. Requests of others go to the next route, in
	// the end to the Handler: to keep them out takes Access. Default: all clients.
	Sources []netip.Prefix
	// HandlerConfig is what becomes of the requests. Fields that are zero are those of the
	// Handler, unless Own has them, but for Redirect, Answer and Rewrite. With a HashKey of its
	// own a route has no Key of the Handler, with pages of its own no ErrorHandler. What concerns requests before their route
	// is known is the Handler's alone: MaxHeader, MaxFields, Underscores, TrustedProxies, Record and Logger;
	// and a route has no Routes.
	HandlerConfig
	// Own are names of fields of the HandlerConfig whose zero values count: with "MaxBody" and a
	// MaxBody of 0, bodies have no bound, whatever the Handler says. Default: none.
	Own []string
}

// ownAlone are the fields of a HandlerConfig that a route does not take over.
var ownAlone = []string{"Routes", "Redirect", "Answer", "Rewrite"}

// handlersAlone are those that a route cannot have.
var handlersAlone = []string{"Routes", "MaxHeader", "MaxFields", "Underscores", "TrustedProxies", "RequestsPerConnection", "Record", "Logger"}

// inherit returns the configuration of a route of the Handler with the configuration c.
func (c HandlerConfig) inherit(r Route) HandlerConfig {
	own := r.HandlerConfig
	if own.HashKey != "" {
		c.Key = nil
	}
	if len(own.ErrorPages) > 0 || own.Sorry != nil || own.MaintenancePage != nil {
		c.ErrorHandler = nil
	}
	inheritFields(reflect.ValueOf(&own).Elem(), reflect.ValueOf(&c).Elem(), r.Own)
	return own
}

// inheritFields gives the fields of own that are zero, and not named, the values of from.
func inheritFields(own, from reflect.Value, named []string) {
	for i := range own.NumField() {
		f := own.Type().Field(i)
		switch {
		case f.Anonymous:
			inheritFields(own.Field(i), from.Field(i), named)
		case own.Field(i).IsZero() && !slices.Contains(ownAlone, f.Name) && !slices.Contains(named, f.Name):
			own.Field(i).Set(from.Field(i))
		}
	}
}

// validateRoutes returns what is wrong with the routes of c, which is valid without them.
func (c HandlerConfig) validateRoutes() error {
	var errs []error
	seen := make(map[string]bool)
	for i, r := range c.Routes {
		at := fmt.Sprintf("Routes[%d]", i)
		errs = append(errs, field.In(at, r.validate()), field.In(at, c.validateRouteConfig(r)), field.In(at, r.validateGroups(r.groups())),
			field.If(seen[r.Name], at+".Name", "%q: taken by another route: want one of its own", r.Name))
		seen[r.Name] = true
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return hidden(c.Routes)
}

// hidden returns which of valid routes no request gets to: those for hosts and paths all of which
// an earlier route without conditions has, as nginx refuses a duplicate location.
func hidden(routes []Route) error {
	var errs []error
	taken := make(map[[2]string]string) // by whom: hosts with paths
	for i, r := range routes {
		by, all := "", true
		places := r.places()
		for _, p := range places {
			is, ok := taken[p]
			by, all = cmp.Or(by, is), all && ok
		}
		if all {
			errs = append(errs, field.Errorf(fmt.Sprintf("Routes[%d].Paths", i), "no request gets here: route %q has the same hosts and paths: want others, or this route first", by))
		}
		if len(r.Methods) == 0 && len(r.Headers) == 0 && len(r.Sources) == 0 {
			for _, p := range places {
				if _, ok := taken[p]; !ok {
					taken[p] = r.Name
				}
			}
		}
	}
	return errors.Join(errs...)
}

// places returns the hosts of a valid route with each of its paths, each in one way of writing.
func (r Route) places() (all [][2]string) {
	for _, host := range orAll(r.Hosts) {
		for _, path := range orAll(r.Paths) {
			if p, err := parsePath(path); path != "" && err == nil {
				switch p.kind {
				case pathRegexp:
					path = "~ " + p.re.String()
				case pathExact:
					path = "= " + p.text
				default:
					path = p.text // a prefix, whether it comes first or not
				}
			}
			all = append(all, [2]string{strings.ToLower(strings.TrimSuffix(host, ".")), path})
		}
	}
	return all
}

// orAll returns a list of patterns, or "" for all.
func orAll(list []string) []string {
	if len(list) == 0 {
		return []string{""}
	}
	return list
}

// validateRouteConfig returns what is wrong with what becomes of the requests of a route.
func (c HandlerConfig) validateRouteConfig(r Route) error {
	for _, name := range handlersAlone {
		if v := reflect.ValueOf(r.HandlerConfig).FieldByName(name); !v.IsZero() || slices.Contains(r.Own, name) {
			return field.Errorf(name, "want none in a route: it is known only when that counts no more")
		}
	}
	for i, name := range r.Own {
		if f, ok := reflect.TypeFor[HandlerConfig]().FieldByName(name); !ok || f.Anonymous {
			return field.Errorf(fmt.Sprintf("Own[%d]", i), "%q: want the name of a field, such as MaxBody", name)
		}
	}
	alone := r.HandlerConfig
	if alone.Pool == nil {
		alone.Pool = c.Pool
	}
	if err := alone.validateOwn(false); err != nil {
		return err
	}
	all := c.inherit(r)
	return all.validateOwn(!all.Rules.answers())
}

// groups returns how many groups the regular expressions of valid Paths have, at most.
func (r Route) groups() (n int) {
	for _, path := range r.Paths {
		if p, err := parsePath(path); err == nil && p.re != nil {
			n = max(n, p.re.NumSubexp())
		}
	}
	return n
}

// validateGroups returns which groups a Redirect or an Answer has that there are not: of a
// regular expression with so many.
func (r *Rules) validateGroups(groups int) error {
	check := func(at, value string) error {
		t, err := compileTemplate(value, inAnswers)
		return field.If(err == nil && t.lastGroup() > groups, at,
			"${%d}: want a path with a regular expression that has such a group, or $$ for a dollar sign", t.lastGroup())
	}
	return errors.Join(check("Redirect.Location", r.Redirect.Location), check("Answer.Content", r.Answer.Content))
}

// validate returns what is wrong with which requests r takes.
func (r Route) validate() error {
	errs := []error{field.If(r.Name == "", "Name", "none: want one"), validatePrefixes("Sources", r.Sources)}
	for i, host := range r.Hosts {
		_, _, err := parseHost(host)
		errs = append(errs, field.In(fmt.Sprintf("Hosts[%d]", i), err))
	}
	for i, path := range r.Paths {
		_, err := parsePath(path)
		errs = append(errs, field.In(fmt.Sprintf("Paths[%d]", i), err))
	}
	for i, m := range r.Methods {
		errs = append(errs, field.If(!httpguts.ValidHeaderFieldName(m), fmt.Sprintf("Methods[%d]", i), "%q: want a method such as GET", m))
	}
	for name, value := range r.Headers {
		_, err := compileHeader(name, value)
		errs = append(errs, field.In("Headers["+name+"]", err))
	}
	return errors.Join(errs...)
}

// hostKind is how a pattern of a host is meant.
type hostKind uint8

const (
	hostExact hostKind = iota
	hostBelow          // *.example.org
	hostUnder          // .example.org
	hostAbove          // www.example.*
)

// parseHost returns the name of a pattern, in lower case, and without what makes it one.
func parseHost(pattern string) (name string, kind hostKind, err error) {
	if pattern == "_" { // by convention, nginx's server_name for hosts that no server has
		return "", 0, errors.New(`"_": a host that nobody asks for: leave the hosts out, and the route is for all`)
	}
	name = strings.ToLower(strings.TrimSuffix(pattern, "."))
	switch {
	case strings.HasPrefix(name, "*."):
		name, kind = name[2:], hostBelow
	case strings.HasPrefix(name, "."):
		name, kind = name[1:], hostUnder
	case strings.HasSuffix(name, ".*"):
		name, kind = name[:len(name)-2], hostAbove
	}
	host, port := hostOnly(name)
	if !validAuthority(name) || host != name || port != "" || strings.Contains(name, "*") {
		return "", 0, fmt.Errorf("%q: want a host without a port: www.example.org, *.example.org, .example.org or www.example.*", pattern)
	}
	return name, kind, nil
}

// hostOnly cuts an authority that is valid into its host and its port.
func hostOnly(authority string) (host, port string) {
	if colon := strings.LastIndexByte(authority, ':'); colon > strings.LastIndexByte(authority, ']') {
		return authority[:colon], authority[colon+1:]
	}
	return authority, ""
}

// pathKind is how a path of a route is meant.
type pathKind uint8

const (
	pathPrefix pathKind = iota
	pathExact           // =
	pathFirst           // ^~
	pathRegexp          // ~ and ~*
)

// pathPattern is a path of a route.
type pathPattern struct {
	kind    pathKind
	text    string         // but for pathRegexp
	re      *regexp.Regexp // for pathRegexp
	literal string         // with which all matches of re begin, at the beginning of the path
}

// pathMark is what may stand before a path, as before those of nginx's locations, with or without
// a space behind it.
var pathMark = regexp.MustCompile(`^(=|\^~|~\*|~)`)

// parsePath parses a path of a route.
func parsePath(text string) (pathPattern, error) {
	mark := pathMark.FindString(text)
	rest := strings.TrimLeft(text[len(mark):], " ")
	p := pathPattern{text: rest}
	switch mark {
	case "":
		p.text = text
	case "=":
		p.kind = pathExact
	case "^~":
		p.kind = pathFirst
	default:
		if p.text, p.kind = "", pathRegexp; mark == "~*" {
			rest = "(?i)" + rest
		}
		re, err := compileRegexp(rest)
		if err != nil {
			return p, err
		}
		p.re, p.literal = re, literalStart(rest)
		return p, nil
	}
	if !strings.HasPrefix(p.text, "/") {
		return p, fmt.Errorf(`%q: want a path that begins with /: "/path", "= /path" or "^~ /path", or a regular expression: "~ regexp" or "~* regexp"`, text)
	}
	if normal, ok := appendNormalPath(nil, escapedPath(p.text)); !ok || string(normal) != p.text {
		return p, fmt.Errorf("%q: never the path of a request, for that has no .. and no //: want %s", text, normal)
	}
	return p, nil
}
