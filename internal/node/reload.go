package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/daemon"
	"github.com/havip/havip/internal/report"
)

// Reload reads the configuration again and goes on with it, or, with dryRun, only says what
// that would change and cost, and what would be in its way as far as that can be seen
// without touching anything.
func (n *Node) Reload(ctx context.Context, dryRun bool) (report.Change, error) {
	if !dryRun {
		return n.reload(ctx)
	}
	cfg, wrong := n.cfg.Load(ctx)
	if cfg == nil {
		return report.Change{DryRun: true}, fmt.Errorf("nothing would change: %w", wrong)
	}
	c := n.plan(cfg)
	c.DryRun = true
	c.Warnings = append(c.Warnings, warnings(cfg)...)
	if host, err := daemon.ThisHost(); err == nil {
		for _, p := range cfg.OnHost(host) {
			c.Warnings = append(c.Warnings, p.Error())
		}
	}
	if wrong != nil {
		c.Warnings = append(c.Warnings, strings.Split(wrong.Error(), "\n")...)
	}
	return c, nil
}

// plan is what a reload would make of everything.
func (n *Node) plan(cfg *config.Config) report.Change {
	c := n.daemon.Plan(cfg)
	before := n.daemon.View().Config.Log.Level
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.level != "" && cfg.Log.Level != before {
		c.Dropped = append(c.Dropped, n.levelChange(before))
	}
	return c
}

// reload reads the configuration again and goes on with it. The log says what came of it.
func (n *Node) reload(ctx context.Context) (report.Change, error) {
	n.reloading.Lock()
	defer n.reloading.Unlock()
	before := n.daemon.View().Config
	change, err := n.loadNext(ctx)
	if v := n.daemon.View(); !v.Since.IsZero() { // what is in force, whatever has failed
		n.followAlarms(v.Config)
		n.followAdmin(v.Config.Admin)
		if v.Config != before {
			err = errors.Join(err, n.followLevel(before.Log, v.Config.Log))
		}
	}
	switch {
	case err == nil:
		n.noteReload("")
		n.log.Info("reloaded")
	case ctx.Err() != nil, errors.Is(err, daemon.ErrStopped):
		n.log.Info("no reload: stopping")
	default:
		n.noteReload(err.Error())
		n.log.Error("reload", "err", err)
	}
	return change, err
}

func (n *Node) loadNext(ctx context.Context) (change report.Change, err error) {
	cfg, wrong := n.cfg.Load(ctx)
	if cfg == nil {
		return change, fmt.Errorf("nothing changed: %w", wrong)
	}
	n.warn(cfg)
	change = n.plan(cfg)
	n.logPlan(change)
	change.Warnings = append(change.Warnings, warnings(cfg)...) // as of a dry run: who reloads reads them here
	if err = n.daemon.Reconfigure(cfg); err != nil && wrong != nil {
		err = fmt.Errorf("%w; %s", err, strings.ReplaceAll(wrong.Error(), "\n", "; "))
	}
	return change, err
}

// maxPlanned bounds the lines of the log about a reload.
const maxPlanned = 50

// logPlan logs what a reload is about to change, key by key.
func (n *Node) logPlan(c report.Change) {
	for i, p := range c.Parts {
		if i == maxPlanned {
			n.log.Info("the reload changes more than this", "parts", len(c.Parts)-i)
			break
		}
		var keys []string
		for _, k := range p.Keys {
			keys = append(keys, k.Key+": "+k.From+" -> "+k.To)
		}
		n.log.Info("the reload changes", "part", strings.TrimSpace(p.Kind+" "+p.Name), "fate", p.Fate, "keys", strings.Join(keys, "; "), "cost", p.Cost)
	}
	for _, d := range c.Dropped {
		n.log.Warn("the reload takes back what a command has said", "part", d.Kind+" "+d.Name, "was", d.Value, "file", d.File)
	}
}

// noteReload keeps the outcome of a reload for the status.
func (n *Node) noteReload(failed string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.reloadError, n.reloadFailed = failed, time.Time{}
	if failed != "" {
		n.reloadFailed = time.Now()
	}
}
