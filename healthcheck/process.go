package healthcheck

import (
	"cmp"
	"errors"
	"fmt"
)

// Process is a [Checker] that looks for a running process, by its PID file or
// its name. It is also a [Watcher], and knows of the end of a process at once.
// It needs Linux.
type Process struct {
	// PIDFile holds the number of the process. Name, if set too, must be the
	// name of that process: a stale file may name the number of another.
	PIDFile string
	// Name is the program's name, as "ps -o comm" shows it. Of a longer one the
	// kernel keeps 15 bytes; then the rest is looked for in what was executed,
	// which is shown to its owner and to root, or on the command line: the
	// program, the script that it interprets, or a title such as "name: busy".
	// Either PIDFile or Name is required.
	Name string
	// Min is how many processes of this name must run. Default 1.
	Min int
}

// Validate reports a check that has nothing to look for.
func (c Process) Validate() error {
	switch {
	case c.PIDFile == "" && c.Name == "":
		return fail(c, errors.New("neither PIDFile nor Name"))
	case c.Min < 0:
		return fail(c, fmt.Errorf("minimum %d: must not be negative", c.Min))
	case c.PIDFile != "" && c.Min > 1:
		return fail(c, fmt.Errorf("minimum %d: a PID file names one process", c.Min))
	}
	return nil
}

// String names the check in errors and log lines.
func (c Process) String() string { return "process " + cmp.Or(c.PIDFile, c.Name) }
