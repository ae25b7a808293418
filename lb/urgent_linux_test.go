package lb

import (
	"bufio"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sendUrgent sends a byte as urgent data (MSG_OOB).
func sendUrgent(t *testing.T, c net.Conn, b byte) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Error(err)
		return
	}
	var sent error
	if err := raw.Write(func(fd uintptr) bool {
		sent = unix.Sendto(int(fd), []byte{b}, unix.MSG_OOB, nil)
		return sent != unix.EAGAIN
	}); err != nil || sent != nil {
		t.Error(err, sent)
	}
}

// An urgent byte is a byte like any other (RFC 6093 §6), and what follows does not wait for
// more to come, whether bytes are copied or spliced, and whichever way they go.
func TestUrgentByteStallsNothing(t *testing.T) {
	const after = "after the urgent byte"
	for _, size := range []int{1, 8 << 20} {
		for _, noSplice := range []bool{false, true} {
			for _, from := range []string{"client", "backend"} {
				peer := make(chan net.Conn, 1)
				tc := tcpWith(TCPConfig{NoSplice: noSplice})
				addr, stop := relay(t, tc, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
					_, _ = r.ReadByte()
					peer <- c
					<-t.Context().Done()
				}))
				e := engineOf(t, tc)
				var src, dst net.Conn = dialTest(t, addr), nil
				io.WriteString(src, "x")
				if dst = <-peer; from == "backend" {
					src, dst = dst, src
				}
				_ = src.SetDeadline(time.Now().Add(bound))
				_ = dst.SetDeadline(time.Now().Add(bound))
				release := func() {}
				if size == 1 {
					release = e.hold() // all of it is there when a loop looks
				}
				var sent sync.WaitGroup
				sent.Go(func() {
					src.Write(make([]byte, size))
					sendUrgent(t, src, '!')
					io.WriteString(src, after)
					release()
				})
				got := make([]byte, 1+len(after))
				_, err := io.CopyN(io.Discard, dst, int64(size))
				if err == nil {
					_, err = io.ReadFull(dst, got)
				}
				if string(got) != "!"+after {
					t.Fatalf("%d bytes from the %s, no splice %v: then came %q, %v", size, from, noSplice, got, err)
				}
				sent.Wait()
				src.Close()
				dst.Close()
				stop()
			}
		}
	}
}
