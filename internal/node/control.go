package node

import (
	"cmp"
	"fmt"
	"time"

	"github.com/havip/havip/internal/admin"
	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/daemon"
	"github.com/havip/havip/internal/report"
)

var _ admin.Node = (*Node)(nil)

// What is said to a Node holds until the file says something else of the very same key, or
// the part ends, or the process: only a maintenance outlives that.

// Resign has a router hand over.
func (n *Node) Resign(router string) error { return n.daemon.Resign(router) }

// SetPriority puts another priority in the place of the file's; 0: the file's again.
func (n *Node) SetPriority(router string, priority int) error {
	return n.daemon.SetPriority(router, priority)
}

// SetMaintenance begins or ends the maintenance, see [daemon.Daemon.SetMaintenance].
func (n *Node) SetMaintenance(on bool, reason string) (warning string, err error) {
	return n.daemon.SetMaintenance(on, reason)
}

// SetServiceMaintenance has a service answer all requests with 503, or not, see
// [daemon.Daemon.SetServiceMaintenance]; nil: as the file says.
func (n *Node) SetServiceMaintenance(service string, on *bool) error {
	return n.daemon.SetServiceMaintenance(service, on)
}

// SetBackend changes a backend of a service, see [daemon.Daemon.SetBackend].
func (n *Node) SetBackend(service, backend string, c admin.BackendChange) error {
	return n.daemon.SetBackend(service, backend, daemon.BackendChange{AsFile: c.Reset, Drain: c.Drain, Weight: c.Weight, Cut: c.Cut})
}

// SteerCheck pauses or resumes a check, or has it probe now.
func (n *Node) SteerCheck(name, do string) error { return n.daemon.SteerCheck(name, do) }

// SetLogLevel logs at another level than the file says; empty: as the file says.
func (n *Node) SetLogLevel(level string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	file := n.daemon.View().Config.Log.Level
	if err := n.log.SetLevel(cmp.Or(level, file, n.cfg.Configuration.Log.Level)); err != nil {
		return fmt.Errorf("%w: %w", err, report.ErrInvalid)
	}
	n.level, n.levelSince = level, time.Now()
	if level == file {
		n.level = ""
	}
	return nil
}

// ReopenLogs opens the files of access logs anew, see [daemon.Daemon.ReopenLogs].
func (n *Node) ReopenLogs() error {
	err := n.daemon.ReopenLogs()
	if err != nil {
		n.log.Error("access logs are not all opened anew", "err", err)
		return fmt.Errorf("%w: %w", err, report.ErrState)
	}
	n.log.Info("access logs opened anew")
	return nil
}

// followLevel takes in the log level of a configuration that has come into force. A level
// that was said stays, unless the file's has changed.
func (n *Node) followLevel(before, now config.Log) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.level != "" && before.Level == now.Level {
		return nil
	}
	n.level = ""
	return n.log.SetLevel(now.Level)
}

// changes are the values that commands have put in the place of the file's.
func (n *Node) changes() []report.RuntimeChange {
	all := n.daemon.Changes()
	file := n.daemon.View().Config.Log.Level
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.level != "" {
		all = append(all, n.levelChange(file))
	}
	return all
}

// levelChange is the level of the log that was said. n.mu is held.
func (n *Node) levelChange(file string) report.RuntimeChange {
	return report.RuntimeChange{Kind: "log", Name: "level", Value: n.level, File: file, Since: n.levelSince}
}
