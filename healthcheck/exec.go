package healthcheck

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/havip/havip/internal/field"
)

const (
	// maxOutput is how much of a program's output is kept. The rest is read
	// and dropped, so that the program never blocks on a full pipe.
	maxOutput = 4 << 10
	// outputGrace is how long the end of the output is awaited after the end of a
	// program: a process that the program left behind may hold the pipe for ever.
	outputGrace = 100 * time.Millisecond
	// defaultPath is the only environment of a program by default.
	defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// Exec is a [Checker] that runs a program: exit code 0 is healthy. It needs a
// Unix system.
//
// The program runs without a shell (run "/bin/sh" with "-c" for a shell), in a process
// group of its own: a signal to the group of this process, such as Ctrl-C, does not end
// it. On Linux this holds from the very start of the program. A supervisor that signals
// each process, as systemd does without KillMode=mixed, does reach the program.
//
// When time is up, the program's process group is killed as a whole. On Linux all
// descendants in other groups and sessions are killed too, except a process whose
// parent has ended before: it lives on, but its output is no longer read.
//
// The output becomes part of the error. A process that the program leaves in the
// background when it exits by itself lives on, and may go on writing. This process
// reads such output for the 16 newest exits of each Path. After that a writer waits for
// ever once the pipe is full, or is killed by SIGPIPE on systems other than Linux: a
// daemon should send its output elsewhere. Processes left behind are collected by the
// system's first process when they end. In a container the first process may be havip,
// which collects them; another program that embeds this package needs an init ("docker
// run --init").
//
// A program that runs as root has all of root's rights; a program that moves an address
// needs them. A program of another user has the rights of its user, and none of the
// capabilities(7) of this process, ambient and inheritable ones included.
//
// A program that runs as root must be out of everyone else's reach: the file, each
// directory above it and each symbolic link on the way must belong to root and be
// writable by root only, by POSIX access control lists too. Otherwise it is refused.
// The same rule applies where this process is an ordinary user's and has capabilities;
// files of that user are trusted there as well. The rule does not apply to a program
// with another User. It covers neither the interpreter that the first line of a script
// names nor files named in Args. Root of a user namespace without other users does not
// count as root.
//
// A program that is missing, may not be run or is refused gives [ErrCannotRun].
type Exec struct {
	// Path is the program's absolute path. Required.
	Path string
	// Args are its arguments, without the program's name.
	Args []string
	// Env is added to its environment as "NAME=value". Default: only PATH,
	// with the usual directories. Nothing is inherited.
	Env []string
	// Dir is its working directory. Default "/".
	Dir string
	// User is the user of the program: "user", "user:group", or numbers. Another user than
	// that of this process needs root, or CAP_SETUID, CAP_SETGID and CAP_KILL. Default: the
	// user of this process.
	User string
}

// Check runs the program and waits for it.
func (c Exec) Check(ctx context.Context) error { return fail(c, c.probe(ctx)) }

// String names the check in errors and log lines.
func (c Exec) String() string { return "exec " + c.Path }

// WithDefaults returns c with the default of Dir.
func (c Exec) WithDefaults() Exec {
	c.Dir = cmp.Or(c.Dir, "/")
	return c
}

var (
	userForm     = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$`)
	variableForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=[^\x00]*$`)
)

// Validate reports what no machine can run. It does not look for the program, which may
// come and go: Check does. What may be a password is not shown.
func (c Exec) Validate() error {
	c = c.WithDefaults()
	errs := []error{field.If(!isAbsolute(c.Path), "Path", "%q: want the absolute path of a program", c.Path)}
	for i, a := range c.Args {
		errs = append(errs, field.If(strings.ContainsRune(a, 0), fmt.Sprintf("Args[%d]", i), "want text without NUL"))
	}
	for i, e := range c.Env {
		errs = append(errs, field.If(!variableForm.MatchString(e), fmt.Sprintf("Env[%d]", i), "want NAME=value, such as LANG=C, without NUL"))
	}
	return errors.Join(append(errs,
		field.If(!isAbsolute(c.Dir), "Dir", "%q: want an absolute path", c.Dir),
		field.If(c.User != "" && !userForm.MatchString(c.User), "User", "%q: want user, or user:group", c.User))...)
}

func isAbsolute(path string) bool {
	return filepath.IsAbs(path) && !strings.ContainsRune(path, 0)
}
