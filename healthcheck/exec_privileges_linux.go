package healthcheck

import (
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/process"
)

// capabilities are those of the calling thread, which the threads of a process
// have in common.
func capabilities() (hdr unix.CapUserHeader, sets [2]unix.CapUserData, err error) {
	hdr.Version = unix.LINUX_CAPABILITY_VERSION_3
	err = unix.Capget(&hdr, &sets[0])
	return hdr, sets, err
}

// hasCapabilities reports whether this process may do more than its user.
func hasCapabilities() bool {
	_, sets, err := capabilities()
	return err != nil || sets[0].Permitted|sets[1].Permitted != 0
}

// mayBecomeOthers reports whether this process may run a program as somebody
// else, and end it when time is up: it would wait for one that hangs without end.
func mayBecomeOthers() bool {
	const want = 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID | 1<<unix.CAP_KILL
	_, sets, err := capabilities()
	return err != nil || sets[0].Effective&want == want
}

// startOrdinary starts a program that does not run as root so that it has none
// of this process's capabilities. What an execve(2) of such a user keeps are
// those of the ambient set, and of the inheritable one where the file has them
// too. Both belong to the thread that forks (capabilities(7)), and the kernel
// keeps the ambient set within the inheritable one: a thread of its own gives up
// the latter, and ends when the program has started. A child that needs them, as
// the process of package guard does, is started by others.
func startOrdinary(cmd *exec.Cmd) error {
	hdr, sets, err := capabilities()
	if err != nil {
		return err
	}
	if sets[0].Inheritable|sets[1].Inheritable == 0 {
		return process.Fork(cmd)
	}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is good for nothing else
		sets[0].Inheritable, sets[1].Inheritable = 0, 0
		err := unix.Capset(&hdr, &sets[0])
		if err == nil {
			err = process.Fork(cmd)
		}
		started <- err
	}()
	return <-started
}
