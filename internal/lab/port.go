package lab

import (
	"net"
	"os"
	"strconv"
	"sync/atomic"
)

// lastPort counts the ports that this process has been given.
var lastPort atomic.Uint32

// FreeAddress returns a loopback address with a port that no program uses by TCP or UDP. No
// program gets the port by chance: it is below the range from which the kernel chooses a
// port if a program names none (ip(7), ip_local_port_range). The caller may listen there,
// or leave the port unused.
func FreeAddress(t TB) string {
	t.Helper()
	for range 1000 {
		// Processes that run side by side count from different numbers.
		port := ":" + strconv.Itoa(10000+(61*os.Getpid()+int(lastPort.Add(1)))%20000)
		ln, err := net.Listen("tcp", port)
		if err != nil {
			continue
		}
		ln.Close()
		conn, err := net.ListenPacket("udp", port)
		if err != nil {
			continue
		}
		conn.Close()
		return "127.0.0.1" + port
	}
	t.Fatal("lab: no port is free")
	return ""
}
