package process

import (
	"os/exec"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// stops are the signals by which a terminal stops a process group.
var stops = signalSet(unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU)

func signalSet(signals ...syscall.Signal) (set unix.Sigset_t) {
	bits := int(unsafe.Sizeof(set.Val[0])) * 8
	for _, s := range signals {
		set.Val[(int(s)-1)/bits] |= 1 << ((int(s) - 1) % bits)
	}
	return set
}

// Fork starts a command as its method Start does, for [Start]. A Ctrl-Z at that moment
// must not stop the new process: by the time that the process takes the signal it has
// left the group that "fg" continues, and so would never run again. This process would
// hang too, since its thread waits in vfork(2) for the new process. Fork therefore
// blocks the terminal's stop signals in the program. A program in the background gets
// none of them anyway.
func Fork(cmd *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.Sigset_t
	if unix.PthreadSigmask(unix.SIG_BLOCK, &stops, &before) == nil {
		defer unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
	}
	return cmd.Start()
}
