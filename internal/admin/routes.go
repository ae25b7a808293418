package admin

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/havip/havip/internal/report"
	"github.com/havip/havip/internal/words"
)

// route is one row of the table.
type route struct {
	method string // HEAD comes with GET
	// pattern is the path. {name} stands for one element of it, {name...} for at least
	// one: names of checks and backends may have slashes.
	pattern string
	summary string
	steers  bool // only who may steer gets there
	light   bool // it costs nothing, so it never waits for its turn
	query   []parameter
	body    any // a zero value of what the request has; nil: nothing
	result  any // a zero value of the answer; nil: none
	// answer makes the answer. raw writes its own.
	answer func(c *call) (any, error)
	raw    func(c *call) error
	kind   string // of what raw writes; empty: JSON
}

// parameter is one of a query.
type parameter struct{ name, text string }

// table is every route of the server.
func (s *Server) table() []route {
	return slices.Concat(s.readingRoutes(), s.steeringRoutes(), s.otherRoutes())
}

// readingRoutes change nothing.
func (s *Server) readingRoutes() []route {
	return []route{
		{method: "GET", pattern: "/api/v1/status", summary: "Everything as it is now.", result: report.Status{}, answer: s.answerStatus},
		{method: "GET", pattern: "/api/v1/events", summary: "The latest events, the oldest first.", result: eventsBody{}, answer: s.answerEvents, query: []parameter{
			{"after", "the ID of an event: those behind it"},
			{"since", "a time as in RFC 3339, or a duration such as 10m: those since then"},
			{"limit", "at most so many, the latest"},
		}},
		{method: "GET", pattern: "/api/v1/events/stream", summary: "Events as they come, as server-sent events: id, event (the kind) and data (the event as JSON). " +
			"The event lost says that some between were not kept. A comment comes every 15 seconds.",
			raw: s.stream, kind: "text/event-stream", query: []parameter{{"after", "the ID of an event: those behind it; the header Last-Event-ID comes first"}}},
		{method: "GET", pattern: "/api/v1/explain/{address}", summary: "Why this node has an address, or not.", result: report.Explanation{}, answer: s.answerExplain},
		{method: "GET", pattern: "/api/v1/access", summary: "Who asks, and what they may do.", result: accessBody{}, light: true, answer: s.answerAccess},
		{method: "GET", pattern: "/api/v1/openapi.json", summary: "This description.", raw: s.describe, kind: "application/json"},
		{method: "GET", pattern: "/api/v1/page", summary: "What the status page draws.", result: pageState{}, answer: s.answerPage, query: []parameter{
			{"open", "service/route of a large pool whose backends are shown; may be repeated"},
		}},
	}
}

// steeringRoutes are for who may steer.
func (s *Server) steeringRoutes() []route {
	list := []route{
		{method: "POST", pattern: "/api/v1/routers/{router}/resign", summary: "Hand the router's addresses to a peer.", answer: s.resign},
		{method: "PUT", pattern: "/api/v1/routers/{router}/priority", summary: "Another priority in the place of the file's.", body: priorityBody{}, answer: s.setPriority},
		{method: "DELETE", pattern: "/api/v1/routers/{router}/priority", summary: "The file's priority again.", answer: s.clearPriority},
		{method: "PUT", pattern: "/api/v1/maintenance", summary: "Begin maintenance, in which the node gives all addresses away and stays away, or end it.",
			body: maintenanceBody{}, result: warningBody{}, answer: s.setMaintenance},
		{method: "PUT", pattern: "/api/v1/services/{service}/maintenance", summary: "Have a service of mode http answer all requests with 503, or pass them on, in the place of the file's http.maintenance.",
			body: serviceMaintenanceBody{}, answer: s.setServiceMaintenance},
		{method: "DELETE", pattern: "/api/v1/services/{service}/maintenance", summary: "What the file says of the service's maintenance again.", answer: s.clearServiceMaintenance},
		{method: "PUT", pattern: "/api/v1/services/{service}/backends/{backend...}", summary: "Drain or enable a backend, or give it another weight.", body: backendBody{}, answer: s.setBackend},
		{method: "DELETE", pattern: "/api/v1/services/{service}/backends/{backend...}", summary: "What the file says of the backend again.", answer: s.clearBackend},
		{method: "POST", pattern: "/api/v1/checks/{check...}/{do}", summary: "pause, resume, or probe now; a backend's check has the name SERVICE/BACKEND.", answer: s.steerCheck},
		{method: "POST", pattern: "/api/v1/alarms/{alarm}/test", summary: "Have a receiver of alarms tell of a trial: 502 if it could not.", answer: s.testAlarm},
		{method: "POST", pattern: "/api/v1/reload", summary: "Read the file again, or say what that would change.", body: reloadBody{}, result: report.Change{}, answer: s.reload},
		{method: "PUT", pattern: "/api/v1/log", summary: "Another level of the log in the place of the file's.", body: logBody{}, answer: s.setLog},
		{method: "POST", pattern: "/api/v1/log/reopen", summary: "Open the files of access logs anew, after they were moved away.", answer: s.reopenLogs},
		{method: "DELETE", pattern: "/api/v1/log", summary: "The file's level of the log again.", answer: s.clearLog},
	}
	for i := range list {
		list[i].steers = true
	}
	return list
}

// otherRoutes are those for programs, and for browsers.
func (s *Server) otherRoutes() []route {
	return append([]route{
		{method: "GET", pattern: "/healthz", summary: "The process lives.", light: true, result: healthBody{}, answer: s.answerHealth},
		{method: "GET", pattern: "/readyz", summary: "Whether this node does its work: 200, or 503 with the reasons. " +
			"Each service has its socket, no router is in fault, and there is no maintenance.", result: readyBody{}, raw: s.answerReady, query: []parameter{
			{"router", "only this router counts, beside the services; may be repeated"},
			{"active", "the routers must be Active, too: for what sends traffic to the node that has the addresses"},
		}},
		{method: "GET", pattern: "/metrics", summary: "The status as metrics, in the text format of Prometheus.", raw: s.serveMetrics, kind: "text/plain"},
		{method: "GET", pattern: "/", summary: "The status page.", raw: s.servePage, kind: "text/html"},
		{method: "POST", pattern: "/login", summary: "Begin a session of the status page.", body: loginBody{}, result: accessBody{}, answer: s.logIn},
		{method: "POST", pattern: "/logout", summary: "End it.", answer: s.logOut},
	}, s.profileRoutes()...)
}

// find returns the route of a request, and fills in what the path stands for.
func (s *Server) find(c *call) (*route, error) {
	elements, err := split(c.r.URL)
	if err != nil {
		return nil, err
	}
	method := c.r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	var allowed []string
	for i := range s.routes {
		rt := &s.routes[i]
		args, ok := match(rt.pattern, elements)
		switch {
		case !ok:
		case rt.method == method:
			c.args = args
			return rt, nil
		default:
			allowed = append(allowed, rt.method)
		}
	}
	if allowed != nil {
		if slices.Contains(allowed, "GET") {
			allowed = append(allowed, "HEAD")
		}
		list := strings.Join(allowed, ", ")
		c.w.Header().Set("Allow", list)
		return nil, failf(http.StatusMethodNotAllowed, "%.20q is not for %.200s: want %s", c.r.Method, c.r.URL.Path, words.Choice(allowed))
	}
	return nil, failf(http.StatusNotFound, "nothing is at %.200q: %s", c.r.URL.Path, s.near(elements))
}

// near says what may be meant by a path that nothing is at.
func (s *Server) near(elements []string) string {
	var patterns []string
	for _, rt := range s.routes {
		if rt.pattern != "/" { // which every path begins with
			patterns = append(patterns, rt.pattern)
		}
	}
	if likely := words.Nearest("/"+strings.Join(elements, "/"), patterns); likely != "" {
		return "did you mean " + likely + "?"
	}
	return "see /api/v1/openapi.json for what there is"
}

// split returns the elements of a path, each without its escapes: an escaped slash is part
// of a name. Empty elements and those that lead elsewhere are refused, and so are bytes
// that no name has.
func split(u *url.URL) ([]string, error) {
	path, ok := strings.CutPrefix(u.EscapedPath(), "/")
	if !ok {
		return nil, failf(http.StatusNotFound, "want a path that begins with a slash")
	}
	if path == "" {
		return nil, nil
	}
	elements := strings.Split(path, "/")
	for i, e := range elements {
		name, err := url.PathUnescape(e)
		strange := func(r rune) bool { return r == utf8.RuneError || unicode.IsControl(r) }
		if err != nil || strings.ContainsFunc(name, strange) {
			return nil, failf(http.StatusBadRequest, "element %d of the path has bytes that no name has", i+1)
		}
		if name == "" || name == "." || name == ".." {
			return nil, failf(http.StatusNotFound, "element %d of the path is %q: leave it out", i+1, name)
		}
		elements[i] = name
	}
	return elements, nil
}

// match reports whether a path is of a pattern, and what its parts are then.
func match(pattern string, elements []string) (args map[string]string, ok bool) {
	want := slices.DeleteFunc(strings.Split(pattern, "/"), func(e string) bool { return e == "" })
	args = map[string]string{}
	for i, w := range want {
		name, variable := strings.CutPrefix(w, "{")
		name = strings.TrimSuffix(name, "}")
		rest, several := strings.CutSuffix(name, "...")
		switch {
		case len(elements) == 0:
			return nil, false
		case !variable && w != elements[0]:
			return nil, false
		case several:
			n := len(elements) - (len(want) - i - 1) // all but what comes behind it
			if n < 1 {
				return nil, false
			}
			args[rest], elements = strings.Join(elements[:n], "/"), elements[n:]
			continue
		case variable:
			args[name] = elements[0]
		}
		elements = elements[1:]
	}
	return args, len(elements) == 0
}
