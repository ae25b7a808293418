// Package node is one havip as a process: the daemon of a configuration, and what people
// and programs learn of it and do to it. The command hands over where the configuration
// comes from; everything else that a running havip consists of is tied together here.
//
// What a Node says of itself is made of the daemon's View and of the log's events. Nothing
// of that takes a lock which a change holds for long: who asks never waits for a reload.
package node

import (
	"context"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/havip/havip/internal/admin"
	"github.com/havip/havip/internal/alarm"
	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/daemon"
)

// Config is what a Node is made of.
type Config struct {
	// Configuration is in force first. Load reads the next one at each reload. Its error,
	// beside a configuration, is about files that the daemon reports as missing.
	Configuration *config.Config
	Load          func(context.Context) (*config.Config, error)
	// File is where Load reads; empty: nowhere, there are flags alone.
	File string
	// Log is the log of everything.
	Log *daemon.Log
	// Strict: New fails if a part cannot begin at once.
	Strict bool
	// Version is that of the program.
	Version string
}

// Node is a running havip. Its methods may be called from any goroutine.
type Node struct {
	cfg     Config
	log     *daemon.Log
	daemon  *daemon.Daemon
	alarms  *alarm.Center
	admin   *admin.Server
	host    string
	started time.Time

	reloading sync.Mutex // one reload at a time, from reading the file on

	mu           sync.Mutex // guards what follows; a leaf
	reloadFailed time.Time  // the latest reload, if it did not change everything; otherwise zero
	reloadError  string
	level        string    // of the log, in the place of the file's; empty: none is
	levelSince   time.Time // when that was said
}

// New opens what the configuration needs, as daemon.New does, and starts nothing.
func New(cfg Config) (*Node, error) {
	n := &Node{cfg: cfg, log: cfg.Log, started: time.Now()}
	n.host, _ = os.Hostname()
	n.warn(cfg.Configuration)
	var err error
	n.daemon, err = daemon.New(cfg.Configuration, cfg.Log.Logger, cfg.Log.Access, cfg.Strict)
	n.alarms = alarm.New(n.host, n.Events(), cfg.Log.Logger)
	if err != nil {
		return nil, err
	}
	n.daemon.KeepState(cfg.Configuration.Admin.StateFolder())
	n.admin = admin.New(admin.Config{Admin: cfg.Configuration.Admin, Log: cfg.Log.Logger}, n)
	return n, nil
}

// Run does the work until ctx ends, and reads the configuration again whenever reload has
// something; SIGUSR1 opens the files of access logs anew instead. It hands over then, and
// returns when everything has ended.
func (n *Node) Run(ctx context.Context, reload <-chan os.Signal) error {
	n.followAlarms(n.cfg.Configuration)
	defer n.alarms.Stop() // after all else: the end is told as well
	var parts sync.WaitGroup
	defer parts.Wait()
	parts.Go(func() { n.followSignals(ctx, reload) })
	// Who asks gets answers until the daemon has ended.
	asking, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	parts.Go(func() { n.serveAdmin(asking) })
	return n.daemon.Run(ctx)
}

// warn logs the warnings of a configuration.
func (n *Node) warn(cfg *config.Config) {
	for _, w := range cfg.Warnings {
		n.log.Warn(w.Error())
	}
}

// warnings are those of a configuration, for the status.
func warnings(cfg *config.Config) (all []string) {
	for _, w := range cfg.Warnings {
		all = append(all, w.Error())
	}
	return all
}

// followSignals reloads until ctx ends.
func (n *Node) followSignals(ctx context.Context, reload <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case sig := <-reload:
			if sig == syscall.SIGUSR1 {
				_ = n.ReopenLogs() // likewise
				continue
			}
			_, _ = n.reload(ctx) // which logs its error
		}
	}
}
