package healthcheck

import (
	"bytes"
	"net"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab/labtest"
)

// serveUDP starts a UDP server on loopback whose reply to each datagram is
// what answer returns, nil for none.
func serveUDP(t *testing.T, answer func(query []byte) [][]byte) (address string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	labtest.ServePackets(t, conn, func(packet []byte, _ net.Addr) [][]byte { return answer(packet) })
	return conn.LocalAddr().String()
}

// closedUDP returns an address where nobody listens.
func closedUDP(t *testing.T) string {
	t.Helper()
	// Connected to itself: the kernel refuses what others send, and nobody else
	// gets the port.
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	self := &syscall.SockaddrInet4{Port: conn.LocalAddr().(*net.UDPAddr).Port, Addr: [4]byte{127, 0, 0, 1}}
	if cerr := raw.Control(func(fd uintptr) { err = syscall.Connect(int(fd), self) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	return conn.LocalAddr().String()
}

func TestUDP(t *testing.T) {
	replies := func(texts ...string) func([]byte) [][]byte {
		return func([]byte) (out [][]byte) {
			for _, s := range texts {
				out = append(out, []byte(s))
			}
			return out
		}
	}
	echo := serveUDP(t, func(q []byte) [][]byte { return [][]byte{append([]byte("you said "), q...)} })
	slow := serveUDP(t, func(q []byte) [][]byte { time.Sleep(300 * time.Millisecond); return [][]byte{q} })
	mute := serveUDP(t, replies())
	big := serveUDP(t, replies(string(bytes.Repeat([]byte("x"), 60000))))
	runCheckCases(t, []checkCase{
		{name: "any reply", checker: UDP{Address: echo}},
		{name: "payload and reply", checker: UDP{Address: echo, Send: []byte("hello"), Expect: []byte("said hello")}},
		{name: "regexp", checker: UDP{Address: echo, Send: []byte("hello"), ExpectRegexp: regexp.MustCompile("^you said h")}},
		{name: "wrong reply", checker: UDP{Address: echo, Expect: []byte("pong")}, want: `unexpected reply "you said "`},
		{name: "slow", checker: UDP{Address: slow}},
		{name: "silent", checker: UDP{Address: mute}, patience: patience, is: isTimeout},
		{name: "silence allowed", checker: UDP{Address: mute, AllowSilence: true, Send: []byte("log line")}, limit: 6 * time.Second},
		{name: "silence allowed, but a wrong reply", checker: UDP{Address: echo, AllowSilence: true, Expect: []byte("pong")}, want: "unexpected reply"},
		{name: "oversized", checker: UDP{Address: big, Expect: []byte("y")}, want: "unexpected reply"},
		{name: "nobody listens", checker: UDP{Address: closedUDP(t)}, want: "connection refused"},
		{name: "silence allowed, nobody listens", checker: UDP{Address: closedUDP(t), AllowSilence: true}, want: "connection refused"},
	})
	wantCancellable(t, UDP{Address: mute})
	wantCancellable(t, UDP{Address: mute, AllowSilence: true})
}
