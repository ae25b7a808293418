package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/havip/havip/internal/report"
)

// api is the prefix of all paths.
const api = "/api/v1/"

// path joins elements, each of which may have any characters.
func path(elements ...string) string {
	text := api
	for i, e := range elements {
		if i > 0 {
			text += "/"
		}
		text += url.PathEscape(e)
	}
	return text
}

// Status asks for everything as it is now.
func (c *Client) Status(ctx context.Context) (*report.Status, error) {
	s := &report.Status{}
	return s, c.call(ctx, http.MethodGet, path("status"), nil, s)
}

// Events asks for those that are kept, the oldest first, and the ID of the latest.
func (c *Client) Events(ctx context.Context) (list []report.Event, last uint64, err error) {
	var body struct {
		Events []report.Event `json:"events"`
		Last   uint64         `json:"last"`
	}
	err = c.call(ctx, http.MethodGet, path("events"), nil, &body)
	return body.Events, body.Last, err
}

// Explain asks why the node has an address or not.
func (c *Client) Explain(ctx context.Context, address string) (x report.Explanation, err error) {
	err = c.call(ctx, http.MethodGet, path("explain", address), nil, &x)
	return x, err
}

// Resign has a router hand its addresses over.
func (c *Client) Resign(ctx context.Context, router string) error {
	return c.call(ctx, http.MethodPost, path("routers", router, "resign"), nil, nil)
}

// SetPriority gives a router another priority; 0: the file's again.
func (c *Client) SetPriority(ctx context.Context, router string, priority int) error {
	if priority == 0 {
		return c.call(ctx, http.MethodDelete, path("routers", router, "priority"), nil, nil)
	}
	return c.call(ctx, http.MethodPut, path("routers", router, "priority"), map[string]int{"priority": priority}, nil)
}

// SetMaintenance begins or ends the maintenance of the node. The warning says what is less
// than was asked for.
func (c *Client) SetMaintenance(ctx context.Context, on bool, reason string) (warning string, err error) {
	body := map[string]any{"on": on}
	if reason != "" {
		body["reason"] = reason
	}
	var answer struct {
		Warning string `json:"warning"`
	}
	err = c.call(ctx, http.MethodPut, path("maintenance"), body, &answer)
	return answer.Warning, err
}

// SetServiceMaintenance has a service of mode http answer all requests with 503, or not; nil:
// as the file says.
func (c *Client) SetServiceMaintenance(ctx context.Context, service string, on *bool) error {
	at := path("services", service, "maintenance")
	if on == nil {
		return c.call(ctx, http.MethodDelete, at, nil, nil)
	}
	return c.call(ctx, http.MethodPut, at, map[string]bool{"on": *on}, nil)
}

// Drain gives a backend no new connections, or connections again.
func (c *Client) Drain(ctx context.Context, service, backend string, drain bool) error {
	return c.call(ctx, http.MethodPut, path("services", service, "backends", backend), map[string]bool{"drain": drain}, nil)
}

// Disable gives a backend no new connections, and ends those that it has.
func (c *Client) Disable(ctx context.Context, service, backend string) error {
	return c.call(ctx, http.MethodPut, path("services", service, "backends", backend), map[string]bool{"drain": true, "cut": true}, nil)
}

// FileWeight stands for the weight that the file says.
const FileWeight = -1

// SetWeight gives a backend another weight, or that of the file again.
func (c *Client) SetWeight(ctx context.Context, service, backend string, weight int) error {
	return c.call(ctx, http.MethodPut, path("services", service, "backends", backend), map[string]int{"weight": weight}, nil)
}

// SteerCheck pauses or resumes a check, or has it probe now.
func (c *Client) SteerCheck(ctx context.Context, name, do string) error {
	return c.call(ctx, http.MethodPost, path("checks", name, do), nil, nil)
}

// TestAlarm has a receiver of alarms tell of a trial.
func (c *Client) TestAlarm(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodPost, path("alarms", name, "test"), nil, nil)
}

// Reload has the daemon read its file again, or say what that would change.
func (c *Client) Reload(ctx context.Context, dryRun bool) (change report.Change, err error) {
	err = c.call(ctx, http.MethodPost, path("reload"), map[string]bool{"dry_run": dryRun}, &change)
	return change, err
}

// ReopenLogs opens the files of access logs anew.
func (c *Client) ReopenLogs(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, path("log", "reopen"), nil, nil)
}

// SetLogLevel logs more or less; empty: as the file says.
func (c *Client) SetLogLevel(ctx context.Context, level string) error {
	if level == "" {
		return c.call(ctx, http.MethodDelete, path("log"), nil, nil)
	}
	return c.call(ctx, http.MethodPut, path("log"), map[string]string{"level": level}, nil)
}
