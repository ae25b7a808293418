package daemon

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/havip/havip/lb"
)

// newTestPlane returns a plane over the backend, with other settings as the file has them.
func newTestPlane(t *testing.T, backend, settings string) *httpPlane {
	t.Helper()
	cfg := parse(t, fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:1", backends: ["%s"], %s}]`, backend, settings))
	pool, err := lb.NewPool(cfg.Services[0].Pool)
	if err != nil {
		t.Fatal(err)
	}
	p, err := newHTTPPlane(planeConfig{service: cfg.Services[0], pool: pool, log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// leaving reports whether the latest front of p ends.
func leaving(p *httpPlane) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.front.leaving.Load()
}

// TestHTTPPlaneAnswersWhoHasConnected: clients that have a connection when the plane ends get
// their answer: those in the backlog, and those whose request is late.
func TestHTTPPlaneAnswersWhoHasConnected(t *testing.T) {
	p := newTestPlane(t, webServer(t, "a"), "tries: 3")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var clients []net.Conn
	for range 100 {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		clients = append(clients, c)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	ended := make(chan error, 1)
	go func() { ended <- p.serve(over, ln, nil) }()
	answer := func(c net.Conn) {
		t.Helper()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(res.Body); err != nil || string(b) != "a  http" {
			t.Errorf("%q, %v", b, err)
		}
	}
	for _, c := range clients[1:] {
		answer(c)
	}
	time.Sleep(lastRequest + lastRequest/4) // idle connections have gone by now
	answer(clients[0])
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestHTTPPlaneAnswersKeptConnections: a request that is on its way on a kept connection when
// the plane ends is answered.
func TestHTTPPlaneAnswersKeptConnections(t *testing.T) {
	p := newTestPlane(t, webServer(t, "a"), "tries: 3")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.failed <- errors.New("of an earlier socket")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- p.serve(ctx, ln, nil) }()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	in := bufio.NewReader(c)
	for _, last := range []bool{false, true} {
		if last {
			cancel()
			until(t, "the front ends", func() bool { return leaving(p) })
		}
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(res.Body); err != nil || string(b) != "a  http" || res.Close != last {
			t.Errorf("%q, %v, closing: %v, want %v", b, err, res.Close, last)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
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
	until(t, "a request is under way", func() bool { return p.handler.Stats().Active == 1 })
	mustReload(t, d, fmt.Sprintf(service, "mode: tcp"))
	until(t, "the front ends", func() bool { return leaving(p) })
	res, err := get(t.Context(), "/")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(res.Body); err != nil || string(b) != "a  https" || res.ProtoMajor != 2 {
		t.Errorf("%s %q, %v", res.Proto, b, err)
	}
	until(t, "the connection takes no request", func() bool {
		_, err := get(t.Context(), "/")
		return err != nil // a new connection, without TLS
	})
	if n := p.handler.Stats().Active; n != 1 {
		t.Errorf("%d requests are under way, want 1", n)
	}
}

// TestHTTPPlaneEndsIdleConnections: connections without requests do not keep the plane from
// ending. Those of HTTP/2 are told to go (GOAWAY).
func TestHTTPPlaneEndsIdleConnections(t *testing.T) {
	text, address, _ := secureService(t, webServer(t, "a"), "shutdown_timeout: 1h, idle_timeout: 1h")
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
			p, _ := d.services[0].plane.(*httpPlane)
			until(t, "all are accepted", func() bool {
				if p == nil {
					return d.services[0].plane.Stats().Active == 3
				}
				p.mu.Lock()
				defer p.mu.Unlock()
				return p.accepted != nil && p.accepted.Stats().Active == 3
			})
			mustReload(t, d, service(change[1]))
			time.Sleep(lastRequest + lastRequest/4)
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

// TestHTTPPlaneLetsGo: a plane that has ended has left its port to whoever wants it.
func TestHTTPPlaneLetsGo(t *testing.T) {
	p := newTestPlane(t, "127.0.0.1:9", "tries: 3")
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for range 200 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if err := p.serve(over, ln, nil); err != nil {
			t.Fatal(err)
		}
		again, err := net.Listen("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		again.Close()
	}
}
