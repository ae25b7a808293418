package healthcheck

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/havip/havip/internal/field"
)

// Process is a [Checker] that looks for a running process, by its PID file or its name. It
// is also a [Watcher], which learns of the end of a process at once. Process needs Linux.
type Process struct {
	// PIDFile holds the number of the process. If Name is set too, the process must
	// have that name: a stale file may have the number of another process.
	PIDFile string
	// Name is the program's name, as "ps -o comm" shows it. The kernel keeps 15 bytes
	// of a name. A longer Name is compared with the executed file, which only its
	// owner and root can see, or with the command line: the program, the script that
	// it interprets, or a title such as "name: busy".
	// Either PIDFile or Name is required.
	Name string
	// Min is how many processes of this name must run, 1 to 10000. Default 1.
	Min int
}

// WithDefaults returns c with the default of Min.
func (c Process) WithDefaults() Process {
	c.Min = cmp.Or(c.Min, 1)
	return c
}

// Validate reports a check that has nothing to look for.
func (c Process) Validate() error {
	c = c.WithDefaults()
	return errors.Join(
		optional(c.Name, validateText("Name", c.Name, "the name of a process")),
		optional(c.PIDFile, validatePath("PIDFile", c.PIDFile)), field.Between("Min", c.Min, 1, 10000),
		field.If(c.PIDFile == "" && c.Name == "", "Name", "missing: want the name of a process, or a PID file"),
		field.If(c.PIDFile != "" && c.Min > 1, "Min", "%d: a PID file names one process: want 1", c.Min))
}

// Check looks for the process.
func (c Process) Check(context.Context) error {
	found, err := c.findProcesses()
	if want := c.WithDefaults().Min; err == nil && len(found) < want {
		err = fmt.Errorf("%d processes, want at least %d", len(found), want)
	}
	return fail(c, err)
}

// String names the check in errors and log lines.
func (c Process) String() string { return "process " + cmp.Or(c.PIDFile, c.Name) }
