package lb

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab/labtest"
)

// udpServer answers each datagram with f's words.
func udpServer(t testing.TB, conn *net.UDPConn, f func(string) []string) Backend {
	t.Helper()
	labtest.ServePackets(t, conn, func(b []byte, _ net.Addr) (replies [][]byte) {
		for _, reply := range f(string(b)) {
			replies = append(replies, []byte(reply))
		}
		return replies
	})
	return Backend{Address: conn.LocalAddr().String()}
}

func udpSocket(t testing.TB, address string) *net.UDPConn {
	t.Helper()
	c, err := ListenPacket(t.Context(), "udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// named answers with its name and the question.
func named(t testing.TB, name string) Backend {
	return udpServer(t, udpSocket(t, "127.0.0.1:0"), func(q string) []string { return []string{name + q} })
}

func dialUDPTest(t testing.TB, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// ask sends q until there is an answer with q in it: datagrams may be lost, and
// answers to what was asked before may be late.
func ask(t testing.TB, c net.Conn, q string) string {
	t.Helper()
	answer, err := tryAsk(c, q)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func tryAsk(c net.Conn, q string) (string, error) {
	b := make([]byte, 1<<16)
	for end := time.Now().Add(bound); time.Now().Before(end); {
		if _, err := c.Write([]byte(q)); err != nil {
			return "", err
		}
		_ = c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		for {
			n, err := c.Read(b)
			if err != nil {
				break
			}
			if strings.Contains(string(b[:n]), q) {
				return string(b[:n]), nil
			}
		}
	}
	return "", fmt.Errorf("no answer to %q", q)
}

func TestUDPRefusesBadConfiguration(t *testing.T) {
	p := newPool(t, PoolConfig{})
	for want, cfg := range map[string]UDPConfig{
		"Pool: nil: want one": {}, "IdleTimeout: -1ns: want": {Pool: p, IdleTimeout: -1},
		"Responses: -1: want": {Pool: p, Responses: -1}, "MaxSessions: -1: want": {Pool: p, MaxSessions: -1},
	} {
		if _, err := NewUDP(cfg); err == nil || !strings.HasPrefix(err.Error(), "lb: UDP: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}
