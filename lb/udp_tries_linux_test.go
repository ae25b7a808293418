package lb

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab/labtest"
)

// A session all of whose backends have refused it may try them again.
func TestUDPTriesAllAgain(t *testing.T) {
	gone := closedUDP(t)
	u := udpWith(UDPConfig{Pool: newPool(t, PoolConfig{MaxFails: -1, Backends: []Backend{gone}})})
	addr, _ := relayUDP(t, u)
	c := dialUDPTest(t, addr)
	waitFor(t, "a datagram for which there is no backend", func() bool {
		c.Write([]byte("0"))
		return u.Stats().Failed > 0
	})
	udpServer(t, udpSocket(t, gone.Address), func(q string) []string { return []string{q} })
	ask(t, c, "1")
	if st := u.Stats(); st.Accepted != 1 {
		t.Errorf("%+v, want one session", st)
	}
}

// Once a backend has replied, those that have refused the session before are tried again at
// once.
func TestUDPReplyForgetsRefusals(t *testing.T) {
	first := closedUDP(t)
	second := udpSocket(t, "127.0.0.1:0")
	labtest.ServePackets(t, second, func(b []byte, _ net.Addr) [][]byte { return [][]byte{append([]byte("b"), b...)} })
	pool := newPool(t, PoolConfig{MaxFails: -1, Backends: []Backend{first, {Address: second.LocalAddr().String()}}})
	u := udpWith(UDPConfig{Pool: pool})
	addr, _ := relayUDP(t, u)
	c := dialUDPTest(t, addr)
	if got := ask(t, c, "1"); got != "b1" {
		t.Fatalf("got %q", got)
	}
	udpServer(t, udpSocket(t, first.Address), func(q string) []string { return []string{"a" + q} })
	second.Close()
	if got := ask(t, c, "2"); got != "a2" {
		t.Errorf("got %q", got)
	}
	if st := u.Stats(); st.Failed != 0 {
		t.Errorf("%+v: there was always one to be tried", st)
	}
}

// A session that leaves a backend which is down may go to any other, also if it has been
// there: nothing need have been replied.
func TestUDPSessionComesBack(t *testing.T) {
	a, b := udpSocket(t, "127.0.0.1:0"), udpSocket(t, "127.0.0.1:0")
	pool := newPool(t, PoolConfig{Backends: []Backend{{Name: "a", Address: a.LocalAddr().String()}, {Name: "b", Address: b.LocalAddr().String()}}})
	front := udpSocket(t, "127.0.0.1:0")
	h := newHandPlane(t, front, UDPConfig{Pool: pool})
	c := dialUDPTest(t, h.address)
	for i, to := range []*net.UDPConn{a, b, a} {
		pool.SetHealth("a", health(to == a))
		pool.SetHealth("b", health(to == b || i == 0))
		c.Write([]byte("x"))
		h.turn()
		if n := h.udp.Stats().Failed; n != 0 {
			t.Fatalf("datagram %d had no backend", i)
		}
		_ = to.SetReadDeadline(time.Now().Add(bound))
		if _, err := to.Read(make([]byte, 10)); err != nil {
			t.Errorf("datagram %d: %v", i, err)
		}
	}
}

// Each datagram without a backend counts, also of those that come together.
func TestUDPFailedCountsDatagrams(t *testing.T) {
	pool := newPool(t, PoolConfig{Backends: []Backend{{Name: "a", Address: "127.0.0.1:9"}}})
	pool.SetHealth("a", errDown)
	h := newHandPlane(t, udpSocket(t, "127.0.0.1:0"), UDPConfig{Pool: pool})
	c := dialUDPTest(t, h.address)
	for range 3 {
		c.Write([]byte("x"))
	}
	for h.udp.Stats().Failed < 3 { // by one for each turn, if they did not count
		before := h.udp.Stats().Failed
		h.turn()
		if n := h.udp.Stats().Failed - before; n != 3 {
			t.Fatalf("%d of 3 datagrams were counted", n)
		}
	}
}

// A backend that is down is left for the one that has its name now.
func TestUDPReplacedBackendIsLeft(t *testing.T) {
	pool := newPool(t, PoolConfig{Backends: []Backend{{Name: "a", Address: "192.0.2.1:53"}}})
	old := pool.snap.Load().byName["a"]
	pool.SetHealth("a", errDown)
	if err := pool.Update([]Backend{{Name: "a", Address: "192.0.2.2:53"}}); err != nil {
		t.Fatal(err)
	}
	if !believedDown(pool, old) {
		t.Error("a session would stay")
	}
}

// A want of sockets is no backend's fault: no other backend is tried, and a session does not
// make room for itself. Older sessions without a socket go together with the first one that has one.
func TestUDPWantOfSockets(t *testing.T) {
	h := newHandPlane(t, udpSocket(t, "127.0.0.1:0"), UDPConfig{})
	h.share.leave()
	h.share = new(share).join(1, func() {})
	send := func() {
		t.Helper()
		if _, err := dialUDPTest(t, h.address).Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		h.turn()
	}
	pool := h.udp.settings.Load().Pool
	backend := pool.Status().Backends[0].Name
	h.share.share.limit = 0
	send()
	if st := h.udp.Stats(); st.Failed != 1 || st.Retries != 0 || st.Refused != 0 || st.Active != 1 {
		t.Errorf("without any socket: %+v", st)
	}
	if b := pool.Status().Backends[0]; b.Failures != 0 || b.Active != 0 {
		t.Errorf("%+v", b)
	}
	h.share.share.limit = 1
	send() // which makes room for itself at the cost of nobody
	pool.SetHealth(backend, nil)
	send() // at the cost of both
	if st := h.udp.Stats(); st.Failed != 1 || st.Refused != 2 || st.Active != 1 {
		t.Errorf("with one socket: %+v", st)
	}
}

// The end of the plane says nothing about a backend that has not replied yet.
func TestUDPEndIsNoFailure(t *testing.T) {
	u := udpWith(UDPConfig{Responses: 1})
	addr, stop := relayUDP(t, u, udpServer(t, udpSocket(t, "127.0.0.1:0"), func(string) []string { return nil }))
	dialUDPTest(t, addr).Write([]byte("x"))
	waitFor(t, "the session", func() bool { return u.Stats().Active == 1 })
	stop()
	if b := u.Pool.Status().Backends[0]; b.Failures != 0 || b.Active != 0 {
		t.Errorf("%+v", b)
	}
}

// A reply ends an ejection that has expired, at once and not at the end of the session.
func TestUDPReplyEndsAnEjection(t *testing.T) {
	const soon = 50 * time.Millisecond
	var log story
	p := newPool(t, PoolConfig{FailTimeout: soon, Backends: []Backend{named(t, "a")}, Logger: log.logger(0)})
	k, err := p.Pick(nil)
	if err != nil {
		t.Fatal(err)
	}
	k.Done(Failure)
	time.Sleep(2 * soon) // the ejection is over, and a success counts
	addr, _ := relayUDP(t, udpWith(UDPConfig{Pool: p}))
	ask(t, dialUDPTest(t, addr), "1")
	waitFor(t, "the backend to be readmitted", func() bool { return strings.Contains(log.String(), "backend readmitted") })
}
