package daemon

import (
	"fmt"
	"log/slog"
	"slices"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/internal/config"
)

// sayUnready logs which programs that come with next cannot be run: at once, rather
// than when they are needed. Each program is looked at again before it is run.
func sayUnready(log *slog.Logger, before, next *config.Config) {
	known := before.Programs()
	for _, p := range next.Programs() {
		if slices.ContainsFunc(known, p.Same) {
			continue
		}
		known = append(known, p)
		if err := executable(p).Ready(); err != nil {
			what := "notify program cannot be run"
			if p.Kind == "check" {
				what = "program of a check cannot be run"
			}
			log.Error(what, p.Kind, p.Name, "program", p.Path, "err", err)
		}
	}
}

// executable is the program of a configuration, to be looked at and not to be run.
func executable(p config.Program) healthcheck.Exec {
	return healthcheck.Exec{Path: p.Path, User: p.User, Dir: p.Directory}
}

// programFaults are the reasons why programs of a configuration cannot be run.
func programFaults(cfg *config.Config) (faults []error) {
	for _, p := range cfg.Programs() {
		if err := executable(p).Ready(); err != nil {
			faults = append(faults, fmt.Errorf("%s: %s %s: %w", p.Key, p.Kind, p.Name, err))
		}
	}
	return faults
}
