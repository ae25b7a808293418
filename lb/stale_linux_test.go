package lb

import (
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/lb/internal/reactor"
)

// Events of a connection that has ended do not count for the one that has its place, also if
// a goroutine has prepared them.
func TestStaleEventsDoNotCount(t *testing.T) {
	t.Run("plain", func(t *testing.T) {
		tc := tcpWith(TCPConfig{})
		addr, _ := relay(t, tc, talker(t, "a"))
		testStaleEvents(t, tc, func() stream { return dialTest(t, addr) })
	})
	eachTLS(t, func(t *testing.T, tc *testTCP, open func(func(net.Conn)) (func() stream, func())) {
		dial, _ := open(func(c net.Conn) {
			io.WriteString(c, "a")
			io.Copy(c, c)
			io.WriteString(c, ".")
		})
		testStaleEvents(t, tc, dial)
	})
}

func testStaleEvents(t *testing.T, tc *testTCP, dial func() stream) {
	e := engineOf(t, tc)
	type place struct {
		l    *loop
		slot int32
	}
	ended := map[place][2]int32{} // and the marks that were there
	for found := false; !found; {
		c := dial()
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		e.eachLink(t, func(k *link) {
			at := place{k.loop, k.slot}
			marks, ok := ended[at]
			ended[at] = k.mark
			if !ok {
				return
			}
			found = true
			for side, mark := range marks {
				failed, gone, half := k.failed, k.gone, k.half
				k.loop.noteEvent(reactor.Event{Fd: k.slot<<1 | int32(side), Pad: mark,
					Events: unix.EPOLLERR | unix.EPOLLHUP | unix.EPOLLRDHUP | unix.EPOLLIN | unix.EPOLLOUT})
				if k.state != linkRelaying || k.failed != failed || k.gone != gone || k.half[0].ending != half[0].ending || k.half[1].ending != half[1].ending {
					t.Errorf("an event of side %d of a connection that has ended counts", side)
				}
			}
		})
		c.CloseWrite()
		if got, inOrder := ends(t, c); got != "." || !inOrder {
			t.Errorf("got %q, ended in order: %v", got, inOrder)
		}
		waitFor(t, "the connection to end", func() bool { return tc.Stats().Active == 0 })
	}
}

// What a goroutine brings for an attempt to connect that was given up is dropped, also while
// there is no other attempt.
func TestAttemptsThatWereGivenUpBringNothing(t *testing.T) {
	tc := tcpWith(TCPConfig{})
	addr, _ := relay(t, tc, talker(t, "a"))
	e := engineOf(t, tc)
	c := dialTest(t, addr)
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	used := make(chan bool, 1)
	e.eachLink(t, func(k *link) {
		failed := make(chan struct{})
		get := func() (int32, error) { <-failed; return -1, nil }
		inGoroutine(k, 1, get, func(int32, error) { used <- true }, func(int32) { used <- false })
		k.failAttempt(unix.EMFILE)
		close(failed)
	})
	if <-used {
		t.Error("the result was used")
	}
}

// While connections that were accepted wait for descriptors no others are accepted.
func TestAcceptingPausesWhileConnectionsStarve(t *testing.T) {
	everyWay(t, func(t *testing.T, open func(*testTCP, ...Backend) (func() stream, func())) {
		tc := tcpWith(TCPConfig{})
		dial, _ := open(tc, talker(t, "a"))
		tc.counters.starved.Add(1)
		var conns []stream
		for range 3 {
			conns = append(conns, dial())
		}
		waitFor(t, "accepting to pause", func() bool { return tc.Stats().Paused > 0 })
		// One that waits in accept(2) already comes through.
		if n := tc.Stats().Accepted; n > 1 {
			t.Errorf("%d connections were accepted", n)
		}
		tc.counters.starved.Add(-1)
		for _, c := range conns {
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Error(err)
			}
		}
	})
}
