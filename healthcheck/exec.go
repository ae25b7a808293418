package healthcheck

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
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

// Validate reports a Path that is not absolute and a bad Env. That the program
// exists is for Check to find out: it may come and go.
func (c Exec) Validate() error {
	if !filepath.IsAbs(c.Path) {
		return fail(c, errors.New("the path must be absolute"))
	}
	for i, e := range c.Env {
		if name, _, ok := strings.Cut(e, "="); !ok || name == "" {
			return fail(c, fmt.Errorf("environment, entry %d: want NAME=value", i)) // it may be a password
		}
	}
	return nil
}

// dir is the working directory.
func (c Exec) dir() string { return cmp.Or(c.Dir, "/") }
