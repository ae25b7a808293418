package lb

import (
	"io"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A connection keeps the timeouts that it was accepted with, whatever it waits for
// while its configuration is replaced.
func TestTimeoutsOfAReplacedConfiguration(t *testing.T) {
	const handshake, connect, idle = 10 * time.Minute, 20 * time.Minute, 30 * time.Minute
	for name, tt := range map[string]struct {
		proxied bool
		backend func() Backend
		state   linkState
		then    func(*link) // after the configuration was replaced
		ends    linkState
		within  time.Duration
	}{
		"preface": {true, func() Backend { return talker(t, "a") }, linkPreface, func(*link) {}, linkPreface, handshake},
		"connecting": {false, func() Backend { return Backend{Address: stuck(t)} },
			linkConnecting, func(*link) {}, linkConnecting, connect},
		"starved": {false, func() Backend { return Backend{Address: stuck(t)} },
			linkConnecting, func(k *link) { k.failAttempt(unix.EMFILE) }, linkConnecting, connect},
		"cut off from the backend": {false, func() Backend { return Backend{Address: stuck(t)} },
			linkConnecting, func(k *link) { k.failAttempt(errDown) }, linkConnecting, connect},
		"relaying": {false, func() Backend { return talker(t, "a") }, linkRelaying, (*link).relayBytes, linkRelaying, idle},
	} {
		t.Run(name, func(t *testing.T) {
			b := tt.backend()
			cfg := TCPConfig{Pool: newPool(t, PoolConfig{MaxFails: -1, Backends: []Backend{b, {Name: "again", Address: b.Address}}}),
				HandshakeTimeout: handshake, ConnectTimeout: connect, IdleTimeout: idle, ShutdownTimeout: -1}
			if tt.proxied {
				cfg.AcceptProxy = loopback
			}
			tc := tcpWith(cfg)
			addr, _ := relay(t, tc)
			e := engineOf(t, tc)
			c := dialTest(t, addr)
			if tt.state == linkRelaying {
				if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
			}
			inState := func(state linkState, visit func(*link)) (n int) {
				e.eachLink(t, func(k *link) {
					if k.state == state {
						visit(k)
						n++
					}
				})
				return n
			}
			waitFor(t, "the connection to get so far", func() bool { return inState(tt.state, func(*link) {}) == 1 })
			other := TCPConfig{Pool: cfg.Pool, HandshakeTimeout: time.Second, ConnectTimeout: time.Second, IdleTimeout: time.Second, ShutdownTimeout: -1}
			if err := tc.Reconfigure(other); err != nil {
				t.Fatal(err)
			}
			inState(tt.state, tt.then)
			waitFor(t, "the timer", func() bool {
				return inState(tt.ends, func(k *link) {
					left := time.Duration(k.loop.timers.Next() - k.loop.Now())
					if left > tt.within || left < tt.within-10*time.Minute {
						t.Errorf("the connection ends in %v, want %v", left, tt.within)
					}
				}) == 1
			})
		})
	}
}
