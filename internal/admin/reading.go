package admin

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/havip/havip/internal/report"
	"github.com/havip/havip/internal/words"
)

func (s *Server) answerStatus(c *call) (any, error) {
	if err := c.wantQuery(); err != nil {
		return nil, err
	}
	return s.node.Status(), nil
}

// eventsBody are events that are still kept.
type eventsBody struct {
	Events []report.Event `json:"events"`
	Last   uint64         `json:"last"` // ID of the latest
	// Lost: some that were asked for are not kept any more.
	Lost bool `json:"lost"`
}

func (s *Server) answerEvents(c *call) (any, error) {
	if err := c.wantQuery("after", "since", "limit"); err != nil {
		return nil, err
	}
	after, err := c.number("after", 0)
	if err != nil {
		return nil, err
	}
	limit, err := c.number("limit", 1<<20)
	if err != nil {
		return nil, err
	}
	since, err := c.since(time.Now())
	if err != nil {
		return nil, err
	}
	var b eventsBody
	b.Events, b.Last, b.Lost = s.node.Events().After(after)
	first := slices.IndexFunc(b.Events, func(e report.Event) bool { return !e.Time.Before(since) })
	if first < 0 {
		first = len(b.Events)
	}
	b.Events = b.Events[first:]
	b.Events = b.Events[max(0, len(b.Events)-int(min(limit, 1<<20))):]
	return b, nil
}

func (s *Server) answerExplain(c *call) (any, error) {
	if err := c.wantQuery(); err != nil {
		return nil, err
	}
	a, err := netip.ParseAddr(c.args["address"])
	if err != nil {
		return nil, failf(http.StatusBadRequest, "%.60q: want an address such as 192.168.31.250", c.args["address"])
	}
	return s.node.Explain(a)
}

// wantQuery refuses parameters that would be ignored.
func (c *call) wantQuery(known ...string) error {
	values, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return failf(http.StatusBadRequest, "the query of the path: %v", err)
	}
	for name, given := range values {
		if !slices.Contains(known, name) {
			return failf(http.StatusBadRequest, "unknown parameter %.60q: %s", name, meant(name, known))
		}
		if len(given) > 1 && !repeats[name] {
			return failf(http.StatusBadRequest, "parameter %s is given twice: want it once", name)
		}
	}
	return nil
}

// repeats are the parameters that may be given more than once.
var repeats = map[string]bool{"open": true, "router": true}

// meant says what may be meant by a name that is not known.
func meant(name string, known []string) string {
	if near := words.Nearest(name, known); near != "" {
		return fmt.Sprintf("did you mean %s?", near)
	}
	if len(known) == 0 {
		return "none is known here"
	}
	return "want " + words.Choice(known)
}

// number is a parameter of the query.
func (c *call) number(name string, otherwise uint64) (uint64, error) {
	text := c.r.URL.Query().Get(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, failf(http.StatusBadRequest, "%s=%.60s: want a number, 0 or more", name, text)
	}
	return n, nil
}

// since is the parameter of that name: a moment, or for how long back.
func (c *call) since(now time.Time) (time.Time, error) {
	text := c.r.URL.Query().Get("since")
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(strings.TrimPrefix(text, "-")); err == nil {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, failf(http.StatusBadRequest, "since=%.60s: want a duration such as 10m, or a time such as %s", text, now.UTC().Format(time.RFC3339))
	}
	return t, nil
}

// healthBody is what a process says that lives.
type healthBody struct {
	OK bool `json:"ok"`
}

func (s *Server) answerHealth(*call) (any, error) { return healthBody{true}, nil }

// readyBody says whether the node does its work, and else why not.
type readyBody struct {
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons"`
}

func (s *Server) answerReady(c *call) error {
	if err := c.wantQuery("router", "active"); err != nil {
		return err
	}
	query := c.r.URL.Query()
	active := query.Has("active")
	if v := query.Get("active"); v != "" {
		var err error
		if active, err = strconv.ParseBool(v); err != nil {
			return failf(http.StatusBadRequest, "active=%.60s: want true or false", v)
		}
	}
	done, err := s.turn(c)
	if err != nil {
		return err
	}
	reasons, err := notReady(s.node.Status(), query["router"], active)
	done()
	if err != nil {
		return err
	}
	status := http.StatusOK
	if len(reasons) > 0 {
		status = http.StatusServiceUnavailable
	}
	return c.write(status, readyBody{len(reasons) == 0, reasons})
}

// notReady are the reasons why a node is not ready; none: it is. Of routers only the named
// ones count, or all. With active each must be Active.
func notReady(s *report.Status, routers []string, active bool) (reasons []string, err error) {
	known := map[string]bool{}
	if m := s.Node.Maintenance; m != nil {
		reasons = append(reasons, strings.TrimSuffix("the node is in maintenance: "+m.Reason, ": "))
	}
	for _, r := range s.Routers {
		known[r.Name] = true
		if len(routers) > 0 && !slices.Contains(routers, r.Name) {
			continue
		}
		switch {
		case r.NotRunning != "":
			reasons = append(reasons, fmt.Sprintf("router %s does not run: %s", r.Name, r.NotRunning))
		case len(r.Faults) > 0:
			reasons = append(reasons, fmt.Sprintf("router %s is in fault: %s", r.Name, strings.Join(r.Faults, ", ")))
		case active && r.State != "Active":
			reasons = append(reasons, fmt.Sprintf("router %s is %s, not Active", r.Name, r.State))
		}
	}
	for _, name := range routers {
		if !known[name] {
			return nil, failf(http.StatusNotFound, "no router %.64q: see /api/v1/status for their names", name)
		}
	}
	if active && len(s.Routers) == 0 {
		reasons = append(reasons, "there is no router")
	}
	for _, v := range s.Services {
		if !v.Serving {
			reasons = append(reasons, strings.TrimSuffix(fmt.Sprintf("service %s has no socket: %s", v.Name, v.Problem), ": "))
		}
	}
	return reasons, nil
}
