package guard_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/havip/havip/vip/guard"
)

// signalled is the role of a program whose process group gets signals while it
// starts guards.
const signalled = "signalled"

// guardedSignalled tells what came of guards that had no reason to fail.
func guardedSignalled() error {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM, syscall.SIGHUP)
	fmt.Println("ready <nil>")
	for range 100 {
		g, err := guard.Start(guard.Config{})
		if err != nil {
			return err
		}
		if err := g.Close(); err != nil {
			return err
		}
	}
	return nil
}

// TestSignalToGroupSparesGuard: a signal to the process group of the guarded
// program never ends the guard, which has a session of its own: not at its very
// start either, when it still is in that group.
func TestSignalToGroupSparesGuard(t *testing.T) {
	t.Parallel()
	_, p, _ := start(t, signalled)
	for n := 0; ; n++ {
		select {
		case <-p.Done():
			if err := p.Wait(); err != nil {
				t.Error(err, p.Output())
			}
			t.Logf("%d signals", n)
			return
		case <-time.After(rand.N(time.Millisecond)):
		}
		sig := []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP}[n%2]
		if err := syscall.Kill(-p.Pid(), sig); err != nil && err != syscall.ESRCH { // it may have ended just now
			t.Fatal(err)
		}
	}
}
