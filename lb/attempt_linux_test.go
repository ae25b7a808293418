package lb

import (
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/lb/internal/reactor"
)

// A connection is given up after Tries backends, however many others there are.
func TestTriesAreBounded(t *testing.T) {
	everyWay(t, func(t *testing.T, open func(*testTCP, ...Backend) (func() stream, func())) {
		records := make(chan Record, 1)
		tc := tcpWith(TCPConfig{Tries: 2, Record: func(r Record) { records <- r }})
		dial, _ := open(tc, closedBackend(t), closedBackend(t), closedBackend(t))
		c := dial()
		go io.WriteString(c, "x") // with TLS the handshake comes before the backend
		if r := nextRecord(t, records); r.Retries != 2 || r.Backend != "" {
			t.Errorf("%+v, want 2 retries", r)
		}
		var picks uint64
		for _, b := range tc.Pool.Status().Backends {
			picks += b.Picks
		}
		if picks != 2 {
			t.Errorf("%d backends were tried, want 2", picks)
		}
	})
}

// What was seen of a backend that was tried in vain says nothing about the next one.
func TestAttemptsBeginAnew(t *testing.T) {
	tc := tcpWith(TCPConfig{ConnectTimeout: time.Hour, ShutdownTimeout: -1})
	addr, _ := relay(t, tc, closedBackend(t), Backend{Address: stuck(t)})
	e := engineOf(t, tc)
	dialTest(t, addr)
	waitFor(t, "the second attempt", func() bool { return tc.Pool.Status().Backends[1].Active == 1 })
	e.eachLink(t, func(k *link) {
		k.handleEvents() // as if the client had sent something
		if k.state != linkConnecting || k.retries != 1 {
			t.Errorf("state %d after %d retries, want %d after 1", k.state, k.retries, linkConnecting)
		}
		if h := k.half[1]; k.failed[1] || k.gone[1] || h.readable || h.ending {
			t.Errorf("failed %v, gone %v, %+v", k.failed, k.gone, h)
		}
	})
}

// The timeout of a connection's beginning does not go on while the connection waits for a
// backend.
func TestBeginningIsOverBeforeTheBackend(t *testing.T) {
	const header = "PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n"
	busy := talker(t, "a")
	busy.MaxConns = 1
	for what, step := range map[string]struct {
		backend Backend
		state   linkState
	}{
		"queued":  {busy, linkQueued},
		"dialing": {Backend{Address: strings.Replace(stuck(t), "127.0.0.1", "localhost", 1)}, linkDialing},
	} {
		pool := newPool(t, PoolConfig{Queue: 1, Backends: []Backend{step.backend}})
		tc := tcpWith(TCPConfig{Pool: pool, AcceptProxy: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, ShutdownTimeout: -1})
		addr, stop := relay(t, tc)
		e := engineOf(t, tc)
		if step.state == linkQueued {
			if _, err := pool.Pick(nil); err != nil {
				t.Fatal(err)
			}
		}
		io.WriteString(dialTest(t, addr), header)
		waitFor(t, what+": the connection to wait", func() (found bool) {
			e.eachLink(t, func(k *link) { found = k.state == step.state })
			return found
		})
		e.eachLink(t, func(k *link) {
			if at := k.loop.timers.Next(); at != reactor.Never {
				t.Errorf("%s: the connection is to end after %v", what, time.Duration(at-k.start))
			}
		})
		stop()
	}
}

// A connection that was given a backend by the queue in vain is not given that again.
func TestQueuedConnectionsRememberWhatTheyTried(t *testing.T) {
	dead, good := closedBackend(t), talker(t, "a")
	dead.MaxConns, good.MaxConns = 1, 1
	pool := newPool(t, PoolConfig{Queue: 1, MaxFails: -1, Backends: []Backend{dead, good}})
	var picks [2]Pick
	for i := range picks {
		var err error
		if picks[i], err = pool.Pick(nil); err != nil {
			t.Fatal(err)
		}
	}
	tc := tcpWith(TCPConfig{Pool: pool})
	addr, _ := relay(t, tc)
	c := dialTest(t, addr)
	waitFor(t, "the connection to wait", func() bool { return pool.Status().Queued == 1 })
	picks[0].Done(Neutral)
	waitFor(t, "an attempt in vain", func() bool { return pool.Status().Backends[0].Failures > 0 })
	waitFor(t, "the connection to wait again, or to end", func() bool { return pool.Status().Queued == 1 || tc.Stats().Active == 0 })
	picks[1].Done(Neutral)
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil || pool.Status().Backends[0].Failures != 1 {
		t.Errorf("%v; %+v", err, pool.Status().Backends[0])
	}
}
