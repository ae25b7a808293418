package daemon

import (
	"context"
	"log/slog"
	"slices"

	"github.com/havip/havip/internal/config"
)

// explain says of each part, for who looks for why something was or was not touched,
// what a change makes of it.
func (d *Daemon) explain(c *change) {
	if !d.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	say := func(kind, name, what string) { d.log.Debug("reload: "+kind+" "+what, kind, name) }
	routers := map[string]string{}
	for name := range c.routers {
		routers[name] = becomes(d.routers[name] != nil, true)
	}
	for _, r := range c.updates {
		routers[r.Name] = "changes in place"
	}
	for _, r := range c.cfg.VRRP {
		say("router", r.Name, orStays(routers[r.Name]))
	}
	for name := range d.routers {
		if !slices.ContainsFunc(c.cfg.VRRP, func(r config.Router) bool { return r.Name == name }) {
			say("router", name, "ends")
		}
	}
	for _, k := range c.cfg.Checks {
		say("check", k.Name, becomes(d.checks[k.Name] != nil, c.checks[k.Name] != nil))
	}
	for name := range d.checks {
		if !slices.ContainsFunc(c.cfg.Checks, func(k config.Check) bool { return k.Name == name }) {
			say("check", name, "ends")
		}
	}
	for i, s := range c.services { // in the order of the file
		what := becomes(s.old != nil, s.next != nil)
		if s.next != nil && s.stays {
			what = "changes in place"
		}
		say("service", c.cfg.Services[i].Name, what)
	}
	for _, s := range c.gone {
		say("service", s.cfg.Name, "ends")
	}
}

// becomes is what a change makes of a part that there was or was not, and for which
// there is something new or not.
func becomes(before, next bool) string {
	switch {
	case !next:
		return orStays("")
	case before:
		return "starts anew"
	}
	return "is new"
}

func orStays(what string) string {
	if what == "" {
		return "stays as it is"
	}
	return what
}
