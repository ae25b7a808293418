package lb

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// finish ends what c sends, and waits until its peer's kernel has all of it.
func finish(t *testing.T, c *net.TCPConn) {
	t.Helper()
	c.CloseWrite()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	const finWait2 = 5 // of the kernel's tcp_states.h
	waitFor(t, "the end to be acknowledged", func() bool {
		state := uint8(0)
		_ = raw.Control(func(fd uintptr) {
			if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
				state = info.State
			}
		})
		return state == finWait2
	})
}

// Who ends its direction in order and resets the connection after that wants nothing more
// from the other side: the connection ends at once, and the other side has all of what was
// sent in order. No read tells of such a reset.
func TestResetAfterTheEndEndsTheConnection(t *testing.T) {
	sent := bytes.Repeat([]byte("0123456789"), 4000)
	for _, from := range []string{"client", "backend"} {
		for _, together := range []bool{false, true} {
			peer := make(chan *net.TCPConn, 1)
			records := make(chan Record, 1)
			tc := tcpWith(TCPConfig{Record: func(r Record) { records <- r }})
			addr, stop := relay(t, tc, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
				_, _ = r.ReadByte()
				peer <- c.(*net.TCPConn)
				<-t.Context().Done()
			}))
			e := engineOf(t, tc)
			src := dialTest(t, addr)
			io.WriteString(src, "x")
			dst := <-peer
			if from == "backend" {
				src, dst = dst, src
			}
			release := func() {}
			if together { // both the end and the reset are there when a loop looks
				release = e.hold()
			}
			src.Write(sent)
			finish(t, src)
			if !together {
				waitFor(t, "the end to be passed on", func() bool {
					shut := false
					e.eachLink(t, func(k *link) { shut = k.half[0].shut || k.half[1].shut })
					return shut
				})
			}
			reset(src)
			release()
			if r := nextRecord(t, records); r.Reason != "reset" {
				t.Errorf("the %s's end and reset, together %v: %+v, want a reset", from, together, r)
			}
			if got, err := io.ReadAll(dst); !bytes.Equal(got, sent) || err != nil {
				t.Errorf("the %s's end and reset, together %v: %d bytes arrive and %v, want %d and the end", from, together, len(got), err, len(sent))
			}
			dst.Close()
			stop()
		}
	}
}
