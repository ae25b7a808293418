package lb

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/lb/internal/reactor"
)

// handPlane is the event loop of a UDP plane, turned by the test, with a client and a
// backend.
type handPlane struct {
	*udpPlane
	address string
	backend *net.UDPConn
}

func newHandPlane(t *testing.T, front *net.UDPConn, cfg UDPConfig) *handPlane {
	t.Helper()
	h := &handPlane{address: front.LocalAddr().String(), backend: udpSocket(t, "127.0.0.1:0")}
	u := udpWith(cfg)
	u.make(t, Backend{Address: h.backend.LocalAddr().String()})
	var err error
	if h.udpPlane, err = newUDPPlane(u.UDP, descriptorOf(t, front)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.endAll)
	return h
}

// descriptorOf is the descriptor of a socket that stays open until the test ends.
func descriptorOf(t *testing.T, c *net.UDPConn) (fd int32) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(f uintptr) { fd = int32(f) }); err != nil {
		t.Fatal(err)
	}
	return fd
}

// question sends a datagram by way of the plane, and returns the address of its session.
func (h *handPlane) question(t *testing.T, client net.Conn) netip.AddrPort {
	t.Helper()
	if _, err := client.Write([]byte("question")); err != nil {
		t.Fatal(err)
	}
	h.turn()
	return h.asked(t)
}

// asked reads what the backend has got.
func (h *handPlane) asked(t *testing.T) netip.AddrPort {
	t.Helper()
	_ = h.backend.SetReadDeadline(time.Now().Add(bound))
	_, from, err := h.backend.ReadFromUDPAddrPort(make([]byte, 100))
	if err != nil {
		t.Fatal(err)
	}
	return from
}

func (h *handPlane) answer(t *testing.T, to netip.AddrPort) {
	t.Helper()
	if _, err := h.backend.WriteToUDPAddrPort([]byte("answer"), to); err != nil {
		t.Fatal(err)
	}
}

// await waits until poll(2) says something of a descriptor.
func await(t *testing.T, fd int32, events int16) {
	t.Helper()
	waitFor(t, "the kernel", func() bool {
		fds := []unix.PollFd{{Fd: fd, Events: events}}
		n, err := unix.Poll(fds, 100)
		return err == nil && n == 1 && fds[0].Revents&events != 0
	})
}

// A session is in use while datagrams go in either direction.
func TestUDPSessionsInUseDoNotExpire(t *testing.T) {
	h := newHandPlane(t, udpSocket(t, "127.0.0.1:0"), UDPConfig{})
	client := dialUDPTest(t, h.address)
	session := h.question(t, client)
	for what, use := range map[string]func(){
		"a question": func() { h.question(t, client) },
		"an answer":  func() { h.answer(t, session); h.turn() },
	} {
		before, now := h.timers.Next(), h.Now()
		for reactor.Now() == now {
		}
		use()
		if after := h.timers.Next(); after <= before || after != h.Now()+int64(30*time.Second) {
			t.Errorf("%s moved the session's end by %v", what, time.Duration(after-before))
		}
	}
	if n := len(h.sessions); n != 1 {
		t.Errorf("%d sessions", n)
	}
}

// A datagram without content is one, in either direction, alone or among others.
func TestUDPEmptyDatagrams(t *testing.T) {
	h := newHandPlane(t, udpSocket(t, "127.0.0.1:0"), UDPConfig{Responses: 1})
	client := dialUDPTest(t, h.address)
	words := []string{"", "a", "", "", "b"}
	for _, burst := range [][]string{{""}, words} {
		for _, w := range burst {
			if _, err := client.Write([]byte(w)); err != nil {
				t.Fatal(err)
			}
		}
		var session netip.AddrPort
		for _, w := range burst {
			b := make([]byte, 10)
			_ = h.backend.SetReadDeadline(time.Now().Add(time.Millisecond))
			n, from, err := h.backend.ReadFromUDPAddrPort(b)
			for ; err != nil; n, from, err = h.backend.ReadFromUDPAddrPort(b) {
				h.Post(func() {}) // nothing else may happen
				h.turn()          // it may not have relayed this one yet
				_ = h.backend.SetReadDeadline(time.Now().Add(bound))
			}
			if session = from; string(b[:n]) != w {
				t.Errorf("the backend got %q, want %q", b[:n], w)
			}
		}
		for _, w := range burst {
			if _, err := h.backend.WriteToUDPAddrPort([]byte(w), session); err != nil {
				t.Fatal(err)
			}
		}
		for len(h.sockets) > 0 { // until all answers are there
			h.turn()
		}
		for _, w := range burst {
			if got := readUDP(t, client); got != w {
				t.Errorf("the client got %q, want %q", got, w)
			}
		}
	}
	if b := h.udp.settings.Load().Pool.Status().Backends[0]; b.Failures != 0 || b.Active != 0 {
		t.Errorf("%+v", b)
	}
}

// An event of a session that made room for another one in the same round does that one
// no harm, though both have had the same descriptor.
func TestUDPStaleEventsDoNoHarm(t *testing.T) {
	h := newHandPlane(t, udpSocket(t, "127.0.0.1:0"), UDPConfig{MaxSessions: 1})
	one, two := dialUDPTest(t, h.address), dialUDPTest(t, h.address)
	session := h.question(t, one)
	fd := int32(-1)
	for fd = range h.sockets {
	}
	// The second client's question is ready before the first one's answer.
	if _, err := two.Write([]byte("question")); err != nil {
		t.Fatal(err)
	}
	h.answer(t, session)
	await(t, h.front, unix.POLLIN)
	await(t, fd, unix.POLLIN)
	h.turn()
	s := h.sockets[fd]
	if s == nil || s.pair.Peer.String() != two.LocalAddr().String() {
		t.Fatalf("descriptor %d is that of %+v, want it to be the second client's", fd, s)
	}
	if s.replies != 0 || s.received != 0 {
		t.Errorf("the second session got %d replies of the first one", s.replies)
	}
	h.answer(t, h.asked(t))
	h.turn()
	if got := readUDP(t, two); got != "answer" {
		t.Errorf("the second client got %q", got)
	}
	if st := h.udp.settings.Load().Pool.Status().Backends[0]; st.Failures != 0 || st.Active != 1 {
		t.Errorf("%+v", st)
	}
}

// What the listening socket says of one client, here that nobody is there any more,
// ends nothing.
func TestUDPErrorsOfTheListeningSocket(t *testing.T) {
	front := udpSocket(t, "127.0.0.1:0")
	h := newHandPlane(t, front, UDPConfig{})
	client := dialUDPTest(t, h.address)
	session := h.question(t, client)
	// A connected socket is told of ICMP errors, others are not.
	local := client.LocalAddr().(*net.UDPAddr).AddrPort()
	if err := unix.Connect(int(h.front), &unix.SockaddrInet4{Port: int(local.Port()), Addr: local.Addr().As4()}); err != nil {
		t.Fatal(err)
	}
	client.Close()
	for range 3 { // each of what leaves at once meets with the error of the one before
		h.answer(t, session)
		h.answer(t, session)
		for fd := range h.sockets {
			await(t, fd, unix.POLLIN)
		}
		h.turn()
		await(t, h.front, unix.POLLERR)
	}
	h.turn()
	d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(local)}
	again, err := d.Dial("udp", h.address)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if same := h.question(t, again); same != session {
		t.Errorf("the client's session is %v, was %v", same, session)
	}
	h.answer(t, session)
	h.turn()
	if got := readUDP(t, again); got != "answer" {
		t.Errorf("got %q", got)
	}
}

// A plane that has ended leaves nothing with those that go on: neither places nor itself.
func TestUDPPlanesLeaveTheirShare(t *testing.T) {
	h := newHandPlane(t, udpSocket(t, "127.0.0.1:0"), UDPConfig{})
	h.question(t, dialUDPTest(t, h.address))
	if !isMember(h.share) || h.share.held != 1 {
		t.Errorf("%+v, want one of a plane that is known", h.share)
	}
	h.endAll()
	if isMember(h.share) || h.share.held != 0 || h.share.owed != 0 {
		t.Errorf("%+v, want nothing of a plane that nobody knows", h.share)
	}
}

// isMember reports whether the share knows of h.
func isMember(h *holder) bool {
	h.share.mu.Lock()
	defer h.share.mu.Unlock()
	_, ok := h.share.all[h]
	return ok
}
