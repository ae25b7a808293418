package daemon

import (
	"fmt"
	"log/slog"
	"slices"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/internal/config"
)

// sayUnready says at once which programs cannot be run that come with next,
// rather than when they are needed. Each is looked at again before it is run.
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

// executable is a program as far as it can be looked at.
func executable(p config.Program) healthcheck.Exec {
	return healthcheck.Exec{Path: p.Path, User: p.User, Dir: p.Directory}
}

// programFaults are why programs of a configuration cannot be run.
func programFaults(cfg *config.Config) (faults []error) {
	for _, p := range cfg.Programs() {
		if err := executable(p).Ready(); err != nil {
			faults = append(faults, fmt.Errorf("%s: %s %s: %w", p.Key, p.Kind, p.Name, err))
		}
	}
	return faults
}
