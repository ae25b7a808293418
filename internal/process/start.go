// Package process starts the programs of this process, and looks at those of the
// machine. Nothing in it runs by itself.
package process

import "os/exec"

// maxStarts bounds how often a start is repeated because a signal has killed the new
// process before the program ran. A held key sends fewer signals than that.
const maxStarts = 100

// Start starts a program in a process group or session of its own, which signals to the
// group of this process (Ctrl-C, "kill -- -PGID") do not reach. start makes the command
// and starts it by [Fork].
//
// For a moment the new process is still in the group of this process. A signal to the
// group in that moment kills the new process before the program has begun. Start then
// calls start again, but only if it is certain that nothing of the program has run.
// Only Linux can tell; on other systems [exec.Cmd.Wait] returns the signal.
func Start(start func() (*exec.Cmd, error)) (*exec.Cmd, error) {
	for n := 1; ; n++ {
		cmd, err := start()
		if err != nil || n == maxStarts || !neverRan(cmd.Process.Pid) {
			return cmd, err
		}
		_ = cmd.Wait() // the new process was killed
	}
}
