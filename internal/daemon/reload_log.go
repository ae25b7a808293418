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
	return fmt.Sprintf("routers %d new or replaced, %d updated; checks %d; services %d, %d gone",
		count(c.routers, add, replace), count(c.routers, update), count(c.checks, add, replace),
		count(c.services, add, replace, update), count(c.services, remove))
}

// logRouters says what becomes of routers that do not stay as they are.
func (d *Daemon) logRouters(c *change) {
	for _, s := range c.routers {
		switch {
		case s.fate == replace && s.cfg.fixed != "":
			d.log.Warn("router starts anew, and hands over if it is active", "router", s.key, "keys", s.cfg.fixed)
		case s.fate == update, s.fate == replace:
			d.log.Info("router changes in place", "router", s.key, "keys", strings.Join(s.old.cfg.Differences(s.cfg.cfg), ", "))
		}
	}
}

// logFates says of each part what a change makes of it, for a reader who looks for
// why something was or was not touched.
func (d *Daemon) logFates(c *change) {
	if !d.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	for _, s := range c.routers {
		d.logFate("router", s.key, s.fate)
	}
	for _, s := range c.checks {
		d.logFate("check", s.key, s.fate)
	}
	for _, s := range c.services {
		name := ""
		if s.fate == remove {
			name = s.old.cfg.Name
		} else {
			name = s.cfg.cfg.Name
		}
		d.logFate("service", name, s.fate)
	}
}

func (d *Daemon) logFate(kind, name string, f fate) {
	d.log.Debug("reload: "+kind+" "+f.String(), kind, name)
}
