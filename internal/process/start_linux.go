package process

import (
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// Fork starts a command as its method Start does, for [Start]. A Ctrl-Z at that moment
// must not stop the new process: by the time that the process takes the signal it has
// left the group that "fg" continues, and so would never run again. This process would
// hang too, since its thread waits in vfork(2) for the new process. Fork therefore
// blocks the terminal's stop signals in the program. A program in the background gets
// none of them anyway.
func Fork(cmd *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var stops, before unix.Sigset_t
	// The first word has at least 32 bits on every machine.
	stops.Val[0] = 1<<(unix.SIGTSTP-1) | 1<<(unix.SIGTTIN-1) | 1<<(unix.SIGTTOU-1)
	if unix.PthreadSigmask(unix.SIG_BLOCK, &stops, &before) == nil {
		defer unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
	}
	return cmd.Start()
}

// neverRan reports whether a started child has executed no program: then it was killed.
// neverRan must be called before exec.Cmd.Wait. When a start returns, either the child
// has died, or execve(2) has closed a pipe of the child; the kernel clears
// PF_FORKNOEXEC before that (begin_new_exec in fs/exec.c).
func neverRan(pid int) bool {
	st, err := StatOf(pid)
	return err == nil && st.flags&forkNoExec != 0
}

// forkNoExec is the kernel's PF_FORKNOEXEC, which ps(1) documents as "forked but
// didn't exec".
const forkNoExec = 0x40
