package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/havip/havip/internal/report"
)

// tell logs what was asked for, by whom, and what came of it: an event of
// report.KindControl.
func (s *Server) tell(c *call, what string, err error, attrs ...any) {
	attrs = append([]any{"what", what}, append(attrs, "by", c.by.who)...)
	if err != nil {
		s.log.Warn("not steered", append(attrs, "err", err)...)
		return
	}
	s.log.Info("steered", attrs...)
}

func (s *Server) resign(c *call) (any, error) {
	if err := c.read(nil); err != nil {
		return nil, err
	}
	err := s.node.Resign(c.args["router"])
	s.tell(c, "resign", err, "router", c.args["router"])
	return nil, err
}

type priorityBody struct {
	Priority int `json:"priority"`
}

func (s *Server) setPriority(c *call) (any, error) {
	var b priorityBody
	if err := c.read(&b, "priority"); err != nil {
		return nil, err
	}
	if b.Priority < 1 || b.Priority > 254 {
		return nil, failf(http.StatusBadRequest, "priority: %d: want 1 to 254", b.Priority)
	}
	err := s.node.SetPriority(c.args["router"], b.Priority)
	s.tell(c, "priority", err, "router", c.args["router"], "priority", b.Priority)
	return nil, err
}

func (s *Server) clearPriority(c *call) (any, error) {
	err := s.node.SetPriority(c.args["router"], 0)
	s.tell(c, "the file's priority", err, "router", c.args["router"])
	return nil, err
}

type maintenanceBody struct {
	On     bool   `json:"on"`
	Reason string `json:"reason,omitempty"`
}

// warningBody is what came less than was asked for.
type warningBody struct {
	Warning string `json:"warning,omitempty"`
}

func (s *Server) setMaintenance(c *call) (any, error) {
	var b maintenanceBody
	if err := c.read(&b, "on"); err != nil {
		return nil, err
	}
	what := "maintenance off"
	if b.On {
		what = "maintenance on"
	}
	warning, err := s.node.SetMaintenance(b.On, b.Reason)
	var attrs []any
	if b.Reason != "" && err == nil { // a wrong one may be long
		attrs = append(attrs, "reason", b.Reason)
	}
	if warning != "" {
		attrs = append(attrs, "warning", warning)
	}
	s.tell(c, what, err, attrs...)
	return warningBody{warning}, err
}

type serviceMaintenanceBody struct {
	On bool `json:"on"`
}

func (s *Server) setServiceMaintenance(c *call) (any, error) {
	var b serviceMaintenanceBody
	if err := c.read(&b, "on"); err != nil {
		return nil, err
	}
	what := "service maintenance off"
	if b.On {
		what = "service maintenance on"
	}
	err := s.node.SetServiceMaintenance(c.args["service"], &b.On)
	s.tell(c, what, err, "service", c.args["service"])
	return nil, err
}

func (s *Server) clearServiceMaintenance(c *call) (any, error) {
	err := s.node.SetServiceMaintenance(c.args["service"], nil)
	s.tell(c, "the file's service maintenance", err, "service", c.args["service"])
	return nil, err
}

type backendBody struct {
	Drain *bool `json:"drain,omitempty"`
	// Weight is 0 to 65535, or -1 for the file's again, which leaves a drain as it is.
	Weight *int `json:"weight,omitempty"`
	// Cut ends the connections, requests and sessions that the backend has now.
	Cut bool `json:"cut,omitempty"`
}

// maxWeight is that of a backend in the file.
const maxWeight = 65535

func (s *Server) setBackend(c *call) (any, error) {
	var b backendBody
	if err := c.read(&b); err != nil {
		return nil, err
	}
	switch {
	case b.Drain == nil && b.Weight == nil:
		return nil, failf(http.StatusBadRequest, "want drain, weight or both")
	case b.Cut && (b.Drain == nil || !*b.Drain):
		return nil, failf(http.StatusBadRequest, "cut: want it together with drain: new connections would come at once")
	case b.Weight != nil && (*b.Weight < -1 || *b.Weight > maxWeight):
		return nil, failf(http.StatusBadRequest, "weight: %d: want 0 to %d, or -1 for the file's", *b.Weight, maxWeight)
	}
	err := s.node.SetBackend(c.args["service"], c.args["backend"], BackendChange{Drain: b.Drain, Weight: b.Weight, Cut: b.Cut})
	if b.Drain != nil {
		what := map[bool]string{true: "drain", false: "enable"}[*b.Drain]
		if *b.Drain && b.Cut {
			what = "disable"
		}
		s.tell(c, what, err, "service", c.args["service"], "backend", c.args["backend"])
	}
	switch {
	case b.Weight != nil && *b.Weight < 0:
		s.tell(c, "the file's weight", err, "service", c.args["service"], "backend", c.args["backend"])
	case b.Weight != nil:
		s.tell(c, "weight", err, "service", c.args["service"], "backend", c.args["backend"], "weight", *b.Weight)
	}
	return nil, err
}

func (s *Server) clearBackend(c *call) (any, error) {
	err := s.node.SetBackend(c.args["service"], c.args["backend"], BackendChange{Reset: true})
	s.tell(c, "the file's settings", err, "service", c.args["service"], "backend", c.args["backend"])
	return nil, err
}

func (s *Server) steerCheck(c *call) (any, error) {
	if err := c.read(nil); err != nil {
		return nil, err
	}
	do := c.args["do"]
	if do != "pause" && do != "resume" && do != "now" {
		return nil, failf(http.StatusNotFound, "%.60q: %s", do, meant(do, []string{"pause", "resume", "now"}))
	}
	err := s.node.SteerCheck(c.args["check"], do)
	s.tell(c, "check "+do, err, "check", c.args["check"])
	return nil, err
}

// alarmTimeout is the longest that a receiver of alarms may take.
const alarmTimeout = time.Minute

func (s *Server) testAlarm(c *call) (any, error) {
	if err := c.read(nil); err != nil {
		return nil, err
	}
	c.takes(alarmTimeout)
	err := s.node.TestAlarm(c.r.Context(), c.args["alarm"])
	s.tell(c, "trial of an alarm", err, "alarm", c.args["alarm"])
	if err != nil && !errors.Is(err, report.ErrUnknown) {
		return nil, failf(http.StatusBadGateway, "%v", err)
	}
	return nil, err
}

type reloadBody struct {
	DryRun bool `json:"dry_run,omitempty"`
}

// reloadTimeout is for the whole of a reload, programs and names that it looks at included.
const reloadTimeout = time.Minute

// reload goes on although the client may leave.
func (s *Server) reload(c *call) (any, error) {
	var b reloadBody
	if err := c.read(&b); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.r.Context()), reloadTimeout)
	defer cancel()
	c.takes(reloadTimeout)
	change, err := s.node.Reload(ctx, b.DryRun)
	if !b.DryRun {
		s.tell(c, "reload", err)
	}
	if err != nil {
		return nil, failf(http.StatusConflict, "%v", err) // it is the file, or the machine
	}
	return change, nil
}

type logBody struct {
	Level string `json:"level"`
}

func (s *Server) setLog(c *call) (any, error) {
	var b logBody
	if err := c.read(&b, "level"); err != nil {
		return nil, err
	}
	levels := []string{"debug", "info", "warn", "error"}
	if b.Level != "debug" && b.Level != "info" && b.Level != "warn" && b.Level != "error" {
		return nil, fmt.Errorf("level: %.60q: %s: %w", b.Level, meant(b.Level, levels), report.ErrInvalid)
	}
	err := s.node.SetLogLevel(b.Level)
	s.tell(c, "log level", err, "level", b.Level)
	return nil, err
}

func (s *Server) reopenLogs(c *call) (any, error) {
	err := s.node.ReopenLogs()
	s.tell(c, "access logs opened anew", err)
	return nil, err
}

func (s *Server) clearLog(c *call) (any, error) {
	err := s.node.SetLogLevel("")
	s.tell(c, "the file's log level", err)
	return nil, err
}
