package daemon

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// secureService is a service in mode http with TLS.
func secureService(t *testing.T, backend, rest string) (text, address string) {
	t.Helper()
	file, port := filepath.Join(t.TempDir(), "web.pem"), freePort(t)
	newCertificate(t, file, "www.example.org")
	text = fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", backends: ["%s"], tls: {certificates: [%s]}, %s}]`, port, backend, file, rest)
	return text, "127.0.0.1:" + port
}

// dial connects to a service, with TLS and a protocol for ALPN if one is given.
func dial(t *testing.T, address, protocol string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if protocol == "" {
		return c
	}
	secure := tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}})
	if err := secure.Handshake(); err != nil {
		t.Fatal(err)
	}
	return secure
}

// TestHTTPPlaneEndsHTTP2InOrder: a busy connection of HTTP/2 goes on, and takes no further
// requests after the next one.
func TestHTTPPlaneEndsHTTP2InOrder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "web.pem")
	newCertificate(t, file, "a.test")
	port := freePort(t)
	service := `services: [{name: web, listen: "127.0.0.1:` + port + `", backends: ["` + webServer(t, "a") + `"], shutdown_timeout: 20s, %s}]`
	d := startDaemon(t, fmt.Sprintf(service, "tls: {certificates: ["+file+"]}"))
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	get := func(ctx context.Context, path string) (*http.Response, error) {
		req, _ := http.NewRequestWithContext(ctx, "GET", "https://127.0.0.1:"+port+path, nil)
		return transport.RoundTrip(req)
	}
	held, release := context.WithCancel(t.Context())
	defer release()
	go get(held, "/hold")
	p := d.services[0].plane.(*httpPlane)
	until(t, "a request is under way", func() bool { return p.Stats().Active == 1 })
	mustReload(t, d, fmt.Sprintf(service, "mode: tcp"))
	answered := 0
	until(t, "the connection takes no request", func() bool {
		res, err := get(t.Context(), "/")
		if err != nil {
			return true // a new connection, without TLS
		}
		answered++
		if b, err := io.ReadAll(res.Body); err != nil || string(b) != "a  https" || res.ProtoMajor != 2 {
			t.Errorf("%s %q, %v", res.Proto, b, err)
		}
		return false
	})
	if answered == 0 {
		t.Error("no request was answered")
	}
	if n := p.Stats().Active; n != 1 {
		t.Errorf("%d requests are under way, want 1", n)
	}
}

// TestHTTPPlaneEndsIdleConnections: connections without requests do not keep the plane from
// ending. Those of HTTP/2 are told to go (GOAWAY).
func TestHTTPPlaneEndsIdleConnections(t *testing.T) {
	text, address := secureService(t, webServer(t, "a"), "shutdown_timeout: 1h, idle_timeout: 1h")
	d := startDaemon(t, text)
	kept := dial(t, address, "http/1.1")
	fmt.Fprint(kept, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := http.ReadResponse(bufio.NewReader(kept), nil); err != nil {
		t.Fatal(err)
	}
	c := dial(t, address, "h2")
	io.WriteString(c, http2.ClientPreface)
	f := http2.NewFramer(c, c)
	f.WriteSettings()
	for { // until the server knows the connection
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if s, ok := frame.(*http2.SettingsFrame); ok && s.IsAck() {
			break
		}
	}
	ended := make(chan struct{})
	go func() { d.services[0].stop(); close(ended) }()
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if g, ok := frame.(*http2.GoAwayFrame); ok {
			if g.ErrCode != http2.ErrCodeNo {
				t.Error(g)
			}
			break
		}
	}
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("the plane goes on")
	}
}

// TestHTTPPlaneClosesWhatIsLeft: a connection that brings no request within the shutdown
// timeout does not outlive the plane.
func TestHTTPPlaneClosesWhatIsLeft(t *testing.T) {
	port := freePort(t)
	d := startDaemon(t, `services: [{name: web, listen: "127.0.0.1:`+port+`", backends: ["127.0.0.1:9"], shutdown_timeout: 10ms}]`)
	c := dial(t, "127.0.0.1:"+port, "")
	d.services[0].stop()
	if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
}

// TestModeChangeAnswersWhoHasConnected: whoever has connected before the mode or the
// encryption of a service changes is served as it was then, however late the request comes.
func TestModeChangeAnswersWhoHasConnected(t *testing.T) {
	web, certificate := webServer(t, "a"), filepath.Join(t.TempDir(), "web.pem")
	newCertificate(t, certificate, "a.test")
	for name, change := range map[string][2]string{
		"http to tcp":   {"mode: http", "mode: tcp"},
		"tcp to http":   {"mode: tcp", "mode: http"},
		"http to https": {"mode: http", "tls: {certificates: [" + certificate + "]}"},
		"https to http": {"tls: {certificates: [" + certificate + "], alpn: [http/1.1]}", "mode: http"},
		"https to tcp":  {"tls: {certificates: [" + certificate + "], alpn: [http/1.1]}", "mode: tcp"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each waits
			port := freePort(t)
			service := func(rest string) string {
				return fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", backends: ["%s"], shutdown_timeout: 20s, %s}]`, port, web, rest)
			}
			d := startDaemon(t, service(change[0]))
			var conns []net.Conn
			for range 3 {
				c, err := net.Dial("tcp", "127.0.0.1:"+port)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				conns = append(conns, c)
			}
			_, socket := d.services[0].opened()
			until(t, "all are accepted", func() bool { return !hasBacklog(t, socket) })
			mustReload(t, d, service(change[1]))
			time.Sleep(1250 * time.Millisecond) // idle connections have gone by now
			for _, c := range conns {
				c.SetDeadline(time.Now().Add(20 * time.Second))
				if strings.HasPrefix(name, "https") {
					c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
				}
				fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
				res, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil {
					t.Fatal(err)
				}
				if b, err := io.ReadAll(res.Body); err != nil || !strings.HasPrefix(string(b), "a ") {
					t.Errorf("%q, %v", b, err)
				}
			}
		})
	}
}
