package healthcheck

import (
	"cmp"
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
	// outputGrace is how long the end of a program's output is awaited after it
	// has failed: a process that it left behind may hold the pipe for ever.
	outputGrace = 100 * time.Millisecond
	// defaultPath is the only environment of a program by default.
	defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// Exec is a [Checker] that runs a program: exit code 0 is healthy. It needs a
// Unix system.
//
// The program runs without a shell (for one, run "/bin/sh" with "-c"), in a
// process group of its own, so that a signal to the group of this process, as of
// Ctrl-C, does not end it: on Linux not at its very start either, when the kernel
// has it in our group still. A supervisor that signals each process, as systemd
// does without KillMode=mixed, does reach it.
//
// The program's process group is killed as a whole when time is up; on Linux
// also all that the program has started in other groups and sessions, and what
// that has started. Only a process whose parent has ended before is not found: it
// lives on, but nothing that it writes is read any more.
//
// The output becomes part of the error. What a program leaves in the background
// when it exits by itself lives on, and may go on writing. That is read while this
// process runs, for the 16 newest exits of each Path after which somebody still
// holds the output. Afterwards a writer waits for ever once the pipe is full, or
// is killed by SIGPIPE on other systems than Linux: a daemon that is to stay
// should have its output elsewhere. To collect such processes when they end is
// the business of the system's first process. In a container that may be the havip
// program, which does so; any other that embeds this package needs an init ("docker
// run --init").
//
// A program that runs as root has all of root's rights, as one that moves an
// address by itself needs them. Any other has those of its user and none of the
// capabilities(7) that this process may have been given, ambient and inheritable
// ones included.
//
// A program that runs as root must be out of everyone else's reach: the file,
// each directory above it and each symbolic link on the way must belong to root
// and be writable by root only, by POSIX access control lists too, or it is
// refused. The same holds where this process is an ordinary user's and has
// capabilities: what belongs to that user is trusted there as well. Who names
// another User says whose the program is, and the rule does not apply. It
// extends neither to the interpreter that the first line of a script names nor
// to files named in Args. Root of a user namespace without other users is no
// root in this sense.
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
	// User is who it runs as: "user", "user:group", or numbers. Anyone but
	// oneself needs root, or CAP_SETUID, CAP_SETGID and CAP_KILL. Default: the
	// user of this process.
	User string
}

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

// Validate reports what no machine can run. That the program exists is for Check to
// find out: it may come and go. What may be a password is not shown.
func (c Exec) Validate() error {
	c = c.WithDefaults()
	var errs []error
	if !filepath.IsAbs(c.Path) || strings.ContainsRune(c.Path, 0) {
		errs = append(errs, field.Errorf("Path", "%q: want the absolute path of a program", c.Path))
	}
	for i, a := range c.Args {
		if strings.ContainsRune(a, 0) {
			errs = append(errs, field.Errorf(fmt.Sprintf("Args[%d]", i), "want text without NUL"))
		}
	}
	for i, e := range c.Env {
		if !variableForm.MatchString(e) {
			errs = append(errs, field.Errorf(fmt.Sprintf("Env[%d]", i), "want NAME=value, such as LANG=C, without NUL"))
		}
	}
	if !filepath.IsAbs(c.Dir) || strings.ContainsRune(c.Dir, 0) {
		errs = append(errs, field.Errorf("Dir", "%q: want an absolute path", c.Dir))
	}
	if c.User != "" && !userForm.MatchString(c.User) {
		errs = append(errs, field.Errorf("User", "%q: want user, or user:group", c.User))
	}
	return errors.Join(errs...)
}
