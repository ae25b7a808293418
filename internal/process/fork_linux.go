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

// Fork starts a command as its method Start does, for [Start]. Ctrl-Z just then
// would stop the new process for good: by the time that it takes the signal it has
// left the group that is told to go on later. And it would stop this process, whose
// thread waits in vfork(2), and soon all of it for that thread. So the program
// has the signals of a terminal that stop it blocked from its beginning: in the
// background none is sent.
func Fork(cmd *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.Sigset_t
	if unix.PthreadSigmask(unix.SIG_BLOCK, &stops, &before) == nil {
		defer unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
	}
	return cmd.Start()
}
