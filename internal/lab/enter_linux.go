package lab

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// marker in the environment tells a process that it was re-executed.
const marker = "HAVIP_LAB_INSIDE"

// exitPowerless is the exit code of a re-executed process that got its namespaces
// but no capabilities in them, as under AppArmor's restriction.
const exitPowerless = 113

// forbidden is why this process could not enter a user namespace, if it tried.
var forbidden error

// Main runs the tests of a package that uses the lab; call it from TestMain. If
// the process may not make network namespaces, it re-executes itself as root of a
// new user namespace, with its arguments and files, and exits with the code of
// that. Where user namespaces are forbidden too, the tests run all the same and
// [New] skips those that need a lab.
//
// Unless -parallel says otherwise, more parallel tests run at the same time than
// there are cores: tests of a lab mostly wait, for protocol timers.
func Main(m interface{ Run() int }) {
	if err := flag.Set("test.parallel", "12"); err != nil { // before the command line is read
		panic(err)
	}
	// A fuzz worker inherits pipes from its coordinator, which has entered.
	for _, arg := range os.Args[1:] {
		if strings.HasPrefix(arg, "-test.fuzzworker") {
			os.Exit(m.Run())
		}
	}
	forbidden = Enter()
	os.Exit(m.Run())
}

// Enter makes sure that this process may open labs. It returns nil at once if it
// may. Otherwise it re-executes the program as root of a new user namespace and
// exits with its exit code: call it early, for what came before happens twice.
// Where that is not permitted the error is [ErrForbidden].
func Enter() error {
	inside := os.Getenv(marker) != ""
	os.Unsetenv(marker)
	err := probe()
	switch {
	case err == nil && inside:
		if err := loopbackUp(); err != nil {
			return fmt.Errorf("lab: %w", err)
		}
		return nil
	case err == nil:
		return nil
	case inside:
		os.Exit(exitPowerless)
	}
	code, err := reexec()
	switch {
	case err != nil:
		return err
	case code == exitPowerless:
		return fmt.Errorf("lab: %w: refused inside a new user namespace (on Ubuntu: sysctl kernel.apparmor_restrict_unprivileged_userns)", ErrForbidden)
	}
	os.Exit(code)
	return nil
}

// probe tries what every lab does first.
func probe() error {
	ns, err := newNamespace(nil)
	if err != nil {
		return err
	}
	return ns.close()
}

// reexec runs this program again in namespaces of its own and returns its exit
// code.
func reexec() (int, error) {
	cmd := &exec.Cmd{
		// The program's path may lead through a directory that only root may enter. This
		// one needs no such way.
		Path: "/proc/self/exe", Args: os.Args, Env: append(os.Environ(), marker+"=1"),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
			// In a process group of its own a terminal's signal reaches it once,
			// forwarded, not twice.
			Setpgid:   true,
			Pdeathsig: syscall.SIGKILL,
		},
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer func() {
		signal.Stop(signals)
		close(signals)
	}()
	// Pdeathsig is sent when the thread that forked ends, so it must stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return 0, startError(err)
	}
	go func() {
		for s := range signals {
			cmd.Process.Signal(s)
		}
	}()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, fmt.Errorf("lab: %w", err)
	}
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal()), nil
	}
	return cmd.ProcessState.ExitCode(), nil
}

// startError tells what clone(2) refuses by policy (EPERM, EACCES), by limit
// (ENOSPC, EUSERS) or for lack of the feature (EINVAL, ENOSYS) from what is
// wrong otherwise.
func startError(err error) error {
	for _, errno := range []error{unix.EPERM, unix.EACCES, unix.ENOSPC, unix.EUSERS, unix.EINVAL, unix.ENOSYS} {
		if errors.Is(err, errno) {
			return fmt.Errorf("lab: %w: new user namespace: %w", ErrForbidden, err)
		}
	}
	return fmt.Errorf("lab: %w", err)
}
