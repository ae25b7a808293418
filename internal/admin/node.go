package admin

import (
	"context"
	"net/netip"

	"github.com/havip/havip/internal/report"
)

// Node is what the server asks and steers. Its errors are found by errors.Is: those of
// report.ErrUnknown become 404, of report.ErrState 409, of report.ErrInvalid 400, and all
// others 500. All methods may be called from any goroutine.
type Node interface {
	// Status is made anew at each call. It is cheap, and takes no lock of the daemon.
	Status() *report.Status
	Events() *report.Ring
	Explain(addr netip.Addr) (report.Explanation, error)

	Resign(router string) error
	// SetPriority puts another priority in the place of the file's; 0: the file's again.
	SetPriority(router string, priority int) error
	// SetMaintenance begins or ends the maintenance of the node. The warning says what is
	// less than was asked for, such as that a restart will end it.
	SetMaintenance(on bool, reason string) (warning string, err error)
	// SetServiceMaintenance has a service answer all requests with 503, or not; nil: as the
	// file says.
	SetServiceMaintenance(service string, on *bool) error
	SetBackend(service, backend string, c BackendChange) error
	// SteerCheck pauses or resumes a check, or has it probe now. The name is the check's,
	// or that of a service and a backend with a slash between them.
	SteerCheck(name, do string) error
	// Reload reads the file again; with dryRun it only says what would change.
	Reload(ctx context.Context, dryRun bool) (report.Change, error)
	ReopenLogs() error
	SetLogLevel(level string) error // empty: the file's again
	// TestAlarm has a receiver of alarms tell of a trial. Its error is why that failed.
	TestAlarm(ctx context.Context, name string) error
}

// BackendChange is what becomes different about a backend. Nil: stays as it is.
type BackendChange struct {
	Reset  bool // both are the file's again, before what follows
	Drain  *bool
	Weight *int // -1: the file's again
	Cut    bool `json:",omitempty"` // ends the connections, requests and sessions that it has now
}
