package daemon

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/lab"
)

// TestPortWithoutItsCapability: a daemon with some privileges and without that one is
// told which ports it cannot have, and an ordinary user of what root's can. In a network
// namespace that is new the unprivileged ports start at 1024, whatever the machine says.
func TestPortWithoutItsCapability(t *testing.T) {
	h := lab.New(t).MustHost("lb01")
	with := func(set uint32) (said string) {
		// A thread without its other capabilities cannot go home, and ends.
		err := h.Do(func() error {
			hdr, sets := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, [2]unix.CapUserData{}
			sets[0].Effective, sets[0].Permitted = set, set
			if err := unix.Capset(&hdr, &sets[0]); err != nil {
				return err
			}
			said = fmt.Sprint(mayListen(80), " ", mayListen(1023), " ", mayListen(1024))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return said
	}
	needs := "port %d, below 1024, needs CAP_NET_BIND_SERVICE, which this process does not have"
	for set, want := range map[uint32]string{
		1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_BIND_SERVICE: "<nil> <nil> <nil>",
		1 << unix.CAP_NET_ADMIN:                              fmt.Sprintf(needs+" "+needs+" <nil>", 80, 1023),
	} {
		if got := with(set); got != want {
			t.Errorf("with capabilities %#x: %s, want %s", set, got, want)
		}
	}
}
