package daemon

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestServiceWhoseListenerFails: a listener that the system has taken away, as ss -K
// does, is opened anew, its connections stay, and no other service notices.
func TestServiceWhoseListenerFails(t *testing.T) {
	echo, web := echoServer(t, "a"), webServer(t, "a")
	ports := map[string]string{"tcp": freePort(t), "http": freePort(t), "other": freePort(t)}
	d := startDaemon(t, fmt.Sprintf(`services: [
		{name: tcp, listen: "127.0.0.1:%s", mode: tcp, backends: ["%s"], shutdown_timeout: 1h},
		{name: http, listen: "127.0.0.1:%s", backends: ["%s"]},
		{name: other, listen: "127.0.0.1:%s", mode: tcp, backends: ["%s"]}]`, ports["tcp"], echo, ports["http"], web, ports["other"], echo))
	other, err := net.Dial("tcp", "127.0.0.1:"+ports["other"])
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	kept, err := net.Dial("tcp", "127.0.0.1:"+ports["tcp"])
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	if got, err := say(kept, "y"); err != nil || got != "a y" {
		t.Fatalf("a connection: %q, %v", got, err)
	}
	serves := func(name string) bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+ports[name])
		if err != nil {
			return false
		}
		defer c.Close()
		answer, err := say(c, map[string]string{"tcp": "x", "http": "GET / HTTP/1.0\r\n\r"}[name])
		return err == nil && (answer == "a x" || strings.HasSuffix(answer, " 200 OK"))
	}
	for i, name := range []string{"tcp", "http"} {
		until(t, name+" serves", func() bool { return serves(name) })
		_, socket := d.services[i].opened()
		raw, err := socket.(*net.TCPListener).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.Control(func(fd uintptr) { err = unix.Shutdown(int(fd), unix.SHUT_RD) })
		if err != nil {
			t.Fatal(err)
		}
		until(t, name+" serves again", func() bool {
			_, now := d.services[i].opened()
			return now != nil && now != socket && serves(name)
		})
	}
	if got, err := say(kept, "z"); err != nil || got != "a z" {
		t.Errorf("a connection of the listener of before: %q, %v", got, err)
	}
	if got, err := say(other, "y"); err != nil || got != "a y" {
		t.Errorf("another service: %q, %v", got, err)
	}
}
