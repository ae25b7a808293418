package healthcheck

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/havip/havip/internal/lab"
)

// checkEnv makes the test binary make the checks that need privileges, see
// TestWithoutPrivileges.
const checkEnv = "HAVIP_TEST_UNPRIVILEGED"

// serverEnv makes the test binary a TCP server: a benchmark's counterpart must
// not be on the benchmark's bill.
const serverEnv = "HAVIP_TEST_TCP_SERVER"

// daemonEnv makes the test binary run daemonScript there and end.
const daemonEnv = "HAVIP_TEST_DAEMON"

// ambientEnv makes the test binary run the programs that it names, one on a line, by Exec,
// and print their results.
const ambientEnv = "HAVIP_TEST_AMBIENT"

// groupEnv makes the test binary run programs while its process group gets signals.
const groupEnv = "HAVIP_TEST_GROUP"

func TestMain(m *testing.M) {
	if dir := os.Getenv(daemonEnv); dir != "" {
		if err := (Exec{Path: "/bin/sh", Dir: dir, Args: []string{"-c", daemonScript}}).Check(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if os.Getenv(groupEnv) != "" {
		runGrouped()
		return
	}
	if programs := os.Getenv(ambientEnv); programs != "" {
		runAmbient(programs)
		return
	}
	if os.Getenv(serverEnv) != "" {
		if err := runServer(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if os.Getenv(checkEnv) != "" {
		for _, c := range privileged {
			fmt.Printf("%T: %v\n", c, errors.Is(c.Check(context.Background()), ErrCannotRun))
		}
		return
	}
	lab.Main(m)
}

// privileged are checks that cannot run without CAP_NET_RAW, the first one
// only where ping sockets are not allowed either.
var privileged = []Checker{
	ICMP{Address: "127.0.0.1"},
	Gateway{Interface: "eth0", Address: netip.MustParseAddr("192.0.2.2")},
	Gateway{Interface: "eth0", Address: netip.MustParseAddr("2001:db8::2")},
}

// runServer prints its address, accepts and reads until standard input ends.
func runServer() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		l.Close()
	}()
	for {
		c, err := l.Accept()
		if err != nil {
			return nil
		}
		go func() {
			_, _ = io.Copy(io.Discard, c)
			c.Close()
		}()
	}
}

// runAmbient is what the test binary does with ambientEnv.
func runAmbient(programs string) {
	for path := range strings.Lines(programs) {
		err := Exec{Path: strings.TrimSpace(path)}.Check(context.Background())
		fmt.Printf("%s %v %v\n", filepath.Base(strings.TrimSpace(path)), errors.Is(err, ErrCannotRun), err)
		fmt.Printf("ahead:%s %v\n", filepath.Base(strings.TrimSpace(path)), Exec{Path: strings.TrimSpace(path)}.ReadyPrivileged())
		fmt.Printf("nobody:%s %v\n", filepath.Base(strings.TrimSpace(path)), Exec{Path: strings.TrimSpace(path), User: "nobody"}.ReadyPrivileged())
	}
	out, err := exec.Command("/bin/grep", "Cap", "/proc/self/status").Output()
	fmt.Printf("others %v %q\n", err, out)
}

// groupSignals are what a terminal, a shell and a supervisor send to a group.
var groupSignals = []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP}

// runGrouped is what the test binary does with groupEnv. It prints the results of programs
// that had no reason to fail.
func runGrouped() {
	signal.Notify(make(chan os.Signal, 1), groupSignals...) // caught, as a daemon does
	fmt.Println("begin")
	for range 500 {
		if err := (Exec{Path: "/bin/true"}).Check(context.Background()); err != nil {
			fmt.Println(err)
		}
	}
}
