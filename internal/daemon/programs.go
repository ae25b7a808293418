package daemon

import (
	"log/slog"
	"slices"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/internal/config"
)

// Program is one that a configuration has run, by a check or on a change of
// state.
type Program struct {
	Kind string // whose: "check", "router" or "group"
	Name string // of that
	Pos  config.Position
	Path string
	User string // who it runs as; empty: who havip does
	dir  string
}

// Ready says what is in the way of running the program here and now, and what
// mends it: see [healthcheck.Exec.Ready].
func (p Program) Ready() error {
	return healthcheck.Exec{Path: p.Path, User: p.User, Dir: p.dir}.Ready()
}

// sameAs reports whether both are one, wherever they were written.
func (p Program) sameAs(o Program) bool {
	p.Pos, o.Pos = config.Position{}, config.Position{}
	return p == o
}

// Programs returns those of a configuration, each of them once.
func Programs(cfg *config.Config) []Program {
	var all []Program
	add := func(p Program) {
		if !slices.ContainsFunc(all, p.sameAs) {
			all = append(all, p)
		}
	}
	for _, c := range cfg.Checks {
		if c.Type == "exec" {
			add(Program{"check", c.Name, c.Pos, c.Command[0], c.User, c.Directory})
		}
	}
	for _, r := range cfg.VRRP {
		for _, n := range r.Notify {
			add(Program{"router", r.Name, r.Pos, n.Command[0], r.NotifyUser, ""})
		}
	}
	for _, g := range cfg.Groups {
		for _, n := range g.Notify {
			add(Program{"group", g.Name, g.Pos, n.Command[0], g.NotifyUser, ""})
		}
	}
	return all
}

// sayUnready says at once which programs cannot be run that come with next,
// rather than when they are needed. Each is looked at again before it is run.
func sayUnready(log *slog.Logger, before, next *config.Config) {
	known := Programs(before)
	for _, p := range Programs(next) {
		if slices.ContainsFunc(known, p.sameAs) {
			continue
		}
		if err := p.Ready(); err != nil {
			what := "notify program cannot be run"
			if p.Kind == "check" {
				what = "program of a check cannot be run"
			}
			log.Error(what, p.Kind, p.Name, "program", p.Path, "err", err)
		}
	}
}
