package daemon

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// TestHalfClosedClients: a client that closes its half of the connection when its request
// is out gets its response, as from HAProxy.
func TestHalfClosedClients(t *testing.T) {
	port := freePort(t)
	startDaemon(t, fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", backends: ["%s"]}]`, port, webServer(t, "a")))
	for range 30 {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		c.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(string(got), "\r\n\r\na  http") {
			t.Fatalf("%q, %v", got, err)
		}
	}
}
