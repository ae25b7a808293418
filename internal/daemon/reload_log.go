package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
)

// logChange says what a change is about, before anything of it is done.
func (d *Daemon) logChange(c *change) {
	d.log.Info("reloading", "changes", c.String())
	d.logRouters(c)
	d.logFates(c)
	if c.cfg.Log.Format != d.cfg.Log.Format {
		d.log.Warn("log format: changes with the next start")
	}
}

func (c *change) String() string {
	services := 0
	for _, s := range c.services {
		if s.next != nil {
			services++
		}
	}
	return fmt.Sprintf("routers %d new or replaced, %d updated; checks %d; services %d, %d gone",
		count(c.routers, add, replace), count(c.routers, update), count(c.checks, add, replace), services, len(c.gone))
}

// logRouters says what becomes of routers that do not stay as they are.
func (d *Daemon) logRouters(c *change) {
	for _, s := range c.routers {
		switch keys := c.fixed[s.key]; {
		case keys != "":
			d.log.Warn("router starts anew, and hands over if it is active", "router", s.key, "keys", keys)
		case s.fate == update, s.fate == replace:
			d.log.Info("router changes in place", "router", s.key, "keys", strings.Join(s.old.cfg.Differences(s.cfg), ", "))
		}
	}
}

// logFates says of each part what a change makes of it, for a reader who looks for
// why something was or was not touched.
func (d *Daemon) logFates(c *change) {
	if !d.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	logSteps(d.log, "router", c.routers)
	logSteps(d.log, "check", c.checks)
	say := func(kind, name, what string) { d.log.Debug("reload: "+kind+" "+what, kind, name) }
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

func logSteps[P, C any](log *slog.Logger, kind string, steps []step[P, C]) {
	for _, s := range steps {
		log.Debug("reload: "+kind+" "+s.fate.String(), kind, s.key)
	}
}

// becomes is what a change makes of a part that there was or was not, and for which
// there is something new or not.
func becomes(before, next bool) string {
	switch {
	case !next:
		return keep.String()
	case before:
		return replace.String()
	}
	return add.String()
}
