package process

import "os/exec"

// maxStarts is how often a program is started that does not get as far as to run.
// Signals to a process group come one at a time: even somebody who leans on a key
// sends fewer.
const maxStarts = 100

// Start starts a program that is to have a process group or a session of its own,
// so that a signal to ours, as a terminal sends it or "kill -- -PGID", does not
// reach it. start makes the command and starts it by [Fork].
//
// A new process is in our group at first, and a signal that comes then kills it
// before the program has begun: the Go runtime has it wait only until the process
// has left the group, and our own handlers are gone by then. Such a start is made
// again. It is certain that nothing of the program has run: start is called anew
// only if so. Where the system does not tell, as on others than Linux, what
// [exec.Cmd.Wait] returns is all there is.
func Start(start func() (*exec.Cmd, error)) (*exec.Cmd, error) {
	for n := 1; ; n++ {
		cmd, err := start()
		if err != nil || n == maxStarts || !neverRan(cmd.Process.Pid) {
			return cmd, err
		}
		_ = cmd.Wait() // it was killed
	}
}
