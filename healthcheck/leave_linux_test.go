package healthcheck

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

// tcpFlags counts the FIN and RST on a segment that are sent to or from a port.
func tcpFlags(c *lab.Capture, port uint16) (fins, resets int) {
	for _, f := range c.Packets() {
		_, _, proto, p, ok := f.IP()
		if !ok || proto != 6 || len(p) < 14 || binary.BigEndian.Uint16(p) != port && binary.BigEndian.Uint16(p[2:]) != port {
			continue
		}
		if p[13]&1 != 0 {
			fins++
		}
		if p[13]&4 != 0 {
			resets++
		}
	}
	return fins, resets
}

// respond serves each connection of ln with f.
func respond(t *testing.T, ln net.Listener, f func(c net.Conn, r *bufio.Reader)) {
	t.Helper()
	labtest.Serve(t, ln, func(c net.Conn) {
		f(c, bufio.NewReader(c))
		_, _ = io.Copy(io.Discard, c)
	})
}

// TestChecksLeaveInOrder: no check that has talked to a server resets its connection,
// whichever server it is, and real servers log no complaint.
func TestChecksLeaveInOrder(t *testing.T) {
	lab.Need(t, "nginx")
	lab.Need(t, "haproxy")
	ca := newAuthority(365 * day)
	cert, key := pemOf(ca.issue("www.example.com", -day, 30*day))
	dir := writeFiles(t, map[string]string{
		"cert.pem": cert, "key.pem": key, "both.pem": cert + key, "big": strings.Repeat("x", 50_000),
		"nginx.conf": `
user root root; daemon off; pid DIR/pid; error_log DIR/error.log info; master_process off;
events {}
http {
  access_log DIR/access.log;
  client_body_temp_path DIR/1; proxy_temp_path DIR/2; fastcgi_temp_path DIR/3; uwsgi_temp_path DIR/4; scgi_temp_path DIR/5;
  server {
    listen 192.0.2.2:8001; listen 192.0.2.2:8002 ssl http2;
    ssl_certificate DIR/cert.pem; ssl_certificate_key DIR/key.pem;
    location /ok { return 200 "all is well\n"; }
    location /big { root DIR; }
    location /broken { return 503; }
  }
}`,
		"haproxy.cfg": `
global
  log stdout format raw daemon info
defaults
  mode http
  log global
  option httplog
  timeout connect 5s
  timeout client 5s
  timeout server 5s
frontend f
  bind 192.0.2.2:8003
  bind 192.0.2.2:8004 ssl crt DIR/both.pem alpn h2,http/1.1
  default_backend b
backend b
  server nginx 192.0.2.2:8001
`})
	for _, name := range []string{"nginx.conf", "haproxy.cfg"} {
		file := filepath.Join(dir, name)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(text), "DIR", dir)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l := lab.New(t)
	a, b := l.MustHost("a", "192.0.2.1/24"), l.MustHost("b", "192.0.2.2/24")
	lan, err := l.Segment("lan")
	if err != nil {
		t.Fatal(err)
	}
	servers := map[string]*lab.Cmd{}
	for _, args := range [][]string{{"nginx", "-p", dir, "-c", dir + "/nginx.conf", "-e", "stderr"}, {"haproxy", "-db", "-f", dir + "/haproxy.cfg"}} {
		if servers[args[0]] = b.Command(args[0], args[1:]...); servers[args[0]].Start() != nil {
			t.Fatal("no " + args[0])
		}
	}
	listen := func(port int, f func(c net.Conn, r *bufio.Reader)) {
		ln, err := b.Listen("tcp", fmt.Sprintf("192.0.2.2:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		respond(t, ln, f)
	}
	listen(25, func(c net.Conn, r *bufio.Reader) {
		for _, answer := range []string{"220 mail\r\n", "250 mail\r\n", "221 bye\r\n"} {
			_, _ = io.WriteString(c, answer)
			if _, err := r.ReadString('\n'); err != nil {
				return
			}
		}
	})
	listen(53, func(c net.Conn, r *bufio.Reader) {
		size := make([]byte, 2)
		_, _ = io.ReadFull(r, size)
		query := make([]byte, binary.BigEndian.Uint16(size))
		if _, err := io.ReadFull(r, query); err != nil {
			return
		}
		query[2] |= 0x80 // a response
		query[7] = 1     // with one answer
		reply := append(query, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 80)
		_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...))
	})
	listen(6379, func(c net.Conn, r *bufio.Reader) {
		if _, err := r.ReadString('\n'); err == nil {
			_, _ = io.WriteString(c, "+PONG\r\n")
		}
	})
	trust := ca.trust("www.example.com")
	tests := []struct {
		name    string
		port    uint16
		checker Checker
		down    bool
	}{
		{"nginx, HTTP", 8001, HTTP{URL: "http://192.0.2.2:8001/ok"}, false},
		{"nginx, HTTP, a body that is not looked at", 8001, HTTP{URL: "http://192.0.2.2:8001/big"}, false},
		{"nginx, HTTP, the beginning of a body", 8001, HTTP{URL: "http://192.0.2.2:8001/big", Body: regexp.MustCompile("x"), MaxBody: 100}, false},
		{"nginx, HTTP, HEAD", 8001, HTTP{URL: "http://192.0.2.2:8001/ok", Method: "HEAD"}, false},
		{"nginx, HTTP, broken", 8001, HTTP{URL: "http://192.0.2.2:8001/broken"}, true},
		{"nginx, HTTPS", 8002, HTTP{URL: "https://192.0.2.2:8002/ok", TLS: trust}, false},
		{"nginx, TLS", 8002, TLS{Address: "192.0.2.2:8002", Config: trust}, false},
		{"nginx, TCP", 8001, TCP{Address: "192.0.2.2:8001", Send: []byte("HEAD /ok HTTP/1.0\r\n\r\n"), Expect: []byte("200 OK")}, false},
		{"HAProxy, HTTP", 8003, HTTP{URL: "http://192.0.2.2:8003/ok"}, false},
		{"HAProxy, HTTPS", 8004, HTTP{URL: "https://192.0.2.2:8004/ok", TLS: trust}, false},
		{"SMTP", 25, SMTP{Address: "192.0.2.2:25"}, false},
		{"DNS", 53, DNS{Server: "192.0.2.2:53", Name: "www.example.com", TCP: true}, false},
		{"TCP, a question", 6379, TCP{Address: "192.0.2.2:6379", Send: []byte("PING\r\n"), Expect: []byte("PONG")}, false},
	}
	for _, url := range []string{"http://192.0.2.2:8001/ok", "https://192.0.2.2:8002/ok", "http://192.0.2.2:8003/ok", "https://192.0.2.2:8004/ok"} {
		waitFor(t, url, func() bool { return checkIn(t, a, HTTP{URL: url, TLS: trust}, 10*time.Second) == nil })
	}
	const probes = 5
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := lan.Capture(lab.Protocol(6))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for range probes {
				if err := checkIn(t, a, tt.checker, 30*time.Second); (err != nil) != tt.down {
					t.Fatal(err)
				}
			}
			// Both sides say so, and then it is over.
			lab.Until(t, 30*time.Second, "all connections are closed", func() bool {
				fins, resets := tcpFlags(c, tt.port)
				return fins >= 2*probes || resets > 0
			})
			if fins, resets := tcpFlags(c, tt.port); resets > 0 {
				t.Errorf("%d probes: %d FIN, %d RST", probes, fins, resets)
			}
		})
	}
	complaints, err := os.ReadFile(filepath.Join(dir, "error.log"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(complaints)) {
		// HAProxy is another client: that it asked for nothing is no complaint.
		if strings.Contains(line, "client: 192.0.2.1,") && !strings.Contains(line, "client closed connection while waiting for request") {
			t.Errorf("nginx complains: %s", line)
		}
	}
	for line := range strings.Lines(servers["haproxy"].Output()) {
		if !strings.Contains(line, "----") {
			t.Errorf("HAProxy complains: %s", line)
		}
	}
}

// watched is a listener that notes how its connections end.
type watched struct {
	net.Listener
	ends chan error
}

func (l watched) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &watchedConn{Conn: c, ends: l.ends}, err
}

type watchedConn struct {
	net.Conn
	once sync.Once
	ends chan error
}

func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) { // the server's own
		c.once.Do(func() { c.ends <- err })
	}
	return n, err
}

// Close comes before the end is read where close_notify has announced that.
func (c *watchedConn) Close() error {
	c.once.Do(func() { c.ends <- io.EOF })
	return c.Conn.Close()
}

// TestHTTP2LeavesInOrder: a server of HTTP/2, encrypted or not, reads the end of the
// connection and no reset.
func TestHTTP2LeavesInOrder(t *testing.T) {
	const probes = 5
	ca := newAuthority(365 * day)
	trust := ca.trust("www.example.com")
	trust.NextProtos = []string{"h2"}
	for _, secure := range []bool{false, true} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		w := watched{ln, make(chan error, 10*probes)}
		s := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/big" {
				_, _ = w.Write(make([]byte, 30_000))
				return
			}
			w.Header().Set("Content-Type", "application/grpc")
			reply(w, []byte{1 << 3, 1}, "Grpc-Status", "0")
		})}
		checks := []Checker{GRPC{Address: ln.Addr().String()}}
		if secure {
			s.Protocols.SetHTTP2(true)
			s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{ca.issue("www.example.com", -day, 30*day)}}
			checks = []Checker{GRPC{Address: ln.Addr().String(), TLS: trust}, HTTP{URL: "https://" + ln.Addr().String() + "/big", TLS: trust}}
			go s.ServeTLS(w, "", "")
		} else {
			s.Protocols.SetUnencryptedHTTP2(true)
			go s.Serve(w)
		}
		t.Cleanup(func() { s.Close() })
		for _, c := range checks {
			for range probes {
				if err := checkOnce(t, c); err != nil {
					t.Fatal(err)
				}
				select {
				case err := <-w.ends:
					if err != io.EOF {
						t.Errorf("%T, TLS %v: the server reads %v, want the end", c, secure, err)
					}
				case <-time.After(30 * time.Second):
					t.Fatal("the connection does not end")
				}
			}
		}
	}
}

// slow is a listener whose connections take their time at their end, and tell whether the
// client has reset them meanwhile.
type slow struct {
	net.Listener
	resets chan bool
}

func (l slow) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &slowConn{Conn: c, resets: l.resets}, err
}

type slowConn struct {
	net.Conn
	once   sync.Once
	resets chan bool
}

func (c *slowConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.once.Do(func() { c.resets <- err != io.EOF || c.resetSoon() })
	}
	return n, err
}

// resetSoon reports whether a reset follows the end within a few milliseconds.
func (c *slowConn) resetSoon() bool {
	const closeWait = 8 // in the kernel's include/net/tcp_states.h
	state := uint8(closeWait)
	for end := time.Now().Add(10 * ms); state == closeWait && time.Now().Before(end); time.Sleep(ms) {
		raw, err := c.Conn.(*net.TCPConn).SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) {
				if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
					state = info.State
				}
			})
		}
		if err != nil {
			return true
		}
	}
	return state != closeWait
}

// TestHTTP2RefusalLeavesInOrder: a server whose answer has trailers only, as that of a server
// without the health service, gets time to end the connection. The check has its answer
// by then.
func TestHTTP2RefusalLeavesInOrder(t *testing.T) {
	const probes = 10
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", "12")
	})}
	s.Protocols.SetUnencryptedHTTP2(true)
	l := slow{ln, make(chan bool, probes)}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	resets := 0
	for range probes {
		if err := checkOnce(t, GRPC{Address: ln.Addr().String()}); err == nil || !strings.Contains(err.Error(), `gRPC status "12"`) {
			t.Fatal(err)
		}
		if <-l.resets {
			resets++
		}
	}
	if resets > probes/2 { // a server that is held up for leaveGrace is reset
		t.Errorf("%d of %d connections were reset", resets, probes)
	}
}

// TestSilentConnectionIsReset: a check that only connects leaves no TIME_WAIT. A check
// whose server does not end the connection leaves when its time is up.
func TestSilentConnectionIsReset(t *testing.T) {
	l := lab.New(t)
	a, b := l.MustHost("a", "192.0.2.1/24"), l.MustHost("b", "192.0.2.2/24")
	lan, err := l.Segment("lan")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := b.Listen("tcp", "192.0.2.2:7000")
	if err != nil {
		t.Fatal(err)
	}
	deaf := make(chan struct{})
	defer close(deaf)
	labtest.Serve(t, ln, func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nx")
			<-deaf
		}
	})
	for name, checker := range map[string]Checker{
		"connect": TCP{Address: "192.0.2.2:7000"}, "never ends": HTTP{URL: "http://192.0.2.2:7000/"},
	} {
		c, err := lan.Capture(lab.Protocol(6))
		if err != nil {
			t.Fatal(err)
		}
		if err := checkIn(t, a, checker, 30*time.Second); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		reset := func(f lab.Frame) bool {
			src, _, proto, p, ok := f.IP()
			return ok && proto == 6 && src == netip.MustParseAddr("192.0.2.1") && p[13]&4 != 0
		}
		lab.Until(t, 30*time.Second, name+": a reset", func() bool { return slices.ContainsFunc(c.Packets(), reset) })
		c.Close()
	}
}
