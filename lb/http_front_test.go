package lb

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/havip/havip/internal/lab/labtest"
)

// secureHTTP serves a plane with TLS, and returns its address.
func secureHTTP(t *testing.T, cfg HTTPConfig, bs ...Backend) (p *HTTP, address string) {
	t.Helper()
	cfg.TLS = serverConfig(newAuthority(t))
	p, ln := newHTTP(t, cfg, bs...), listenTest(t)
	serveHTTP(t, p, ln)
	return p, ln.Addr().String()
}

// serverConfig is the configuration of a plane with a certificate.
func serverConfig(a *authority) *tls.Config {
	return &tls.Config{GetCertificate: a.certificates(a.issue("web", "www.example.org")).GetCertificate}
}

// dialHTTP connects to a plane with TLS and a protocol for ALPN.
func dialHTTP(t *testing.T, address, protocol string) net.Conn {
	t.Helper()
	secure := tls.Client(dialTest(t, address), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}})
	if err := secure.Handshake(); err != nil {
		t.Fatal(err)
	}
	return secure
}

// secureClient returns a client that speaks a protocol with TLS, and trusts everybody.
func secureClient(t *testing.T, protocol string) *http.Client {
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: protocol == "HTTP/2.0"}}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// TestUnfinishedHeaders: what a client sends of a header that never ends is held up to the
// bound, and then refused at once.
func TestUnfinishedHeaders(t *testing.T) {
	_, address := secureHTTP(t, HTTPConfig{}, webBackend(t, name("a")))
	value := strings.Repeat("v", 1000)

	c := dialHTTP(t, address, "http/1.1")
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n")
	for i := range 60 { // and no end
		fmt.Fprintf(c, "X-%d: %s\r\n", i, value)
	}
	status := make([]byte, len("HTTP/1.1 431"))
	if _, err := io.ReadFull(c, status); err != nil || string(status) != "HTTP/1.1 431" {
		t.Errorf("HTTP/1.1: %q, %v", status, err)
	}

	for what, attack := range map[string]func(*http2.Framer){
		"fields": func(f *http2.Framer) {
			var block bytes.Buffer
			enc := hpack.NewEncoder(&block)
			for range 15 {
				enc.WriteField(hpack.HeaderField{Name: "x", Value: value, Sensitive: true}) // not in the table
			}
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes()})
			for range 3 {
				f.WriteContinuation(1, false, block.Bytes())
			}
		},
		"a frame":          func(f *http2.Framer) { f.WriteRawFrame(http2.FrameHeaders, 0, 1, make([]byte, maxFrame+1)) },
		"a frame of data":  func(f *http2.Framer) { f.WriteRawFrame(http2.FrameData, 0, 1, make([]byte, maxFrame+1)) },
		"a frame, unknown": func(f *http2.Framer) { f.WriteRawFrame(99, 0, 1, make([]byte, maxFrame+1)) },
	} {
		c := dialHTTP(t, address, "h2")
		io.WriteString(c, http2.ClientPreface)
		f := http2.NewFramer(c, c)
		f.AllowIllegalWrites = true
		f.WriteSettings()
		attack(f)
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				t.Errorf("HTTP/2, %s: %v, want GOAWAY", what, err)
				break
			}
			if _, over := frame.(*http2.GoAwayFrame); over {
				break
			}
		}
	}
}

// TestHeaderBounds: the front accepts what the handler accepts, in both protocols, and
// follows when the configuration changes.
func TestHeaderBounds(t *testing.T) {
	b := labtest.Record(t, labtest.Answers("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
	p, address := secureHTTP(t, HTTPConfig{}, Backend{Address: b.Address})
	// ask sends a request whose header takes so many bytes, in so many fields.
	ask := func(protocol string, size, fields int) int {
		t.Helper()
		client := secureClient(t, protocol)
		req, _ := http.NewRequest("GET", "https://"+address+"/", nil)
		req.Header = http.Header{"User-Agent": {"x"}, "Accept-Encoding": {"identity"}, "X": strings.Split(strings.Repeat("v", fields-4), "")}
		size -= len("GET/") + len("Host: ") + len(address) + len("\r\nUser-Agent: x\r\nAccept-Encoding: identity\r\nY: \r\n") + (fields-4)*len("X: v\r\n")
		req.Header.Set("Y", strings.Repeat("y", size))
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.Proto != protocol {
			t.Errorf("%s, want %s", res.Proto, protocol)
		}
		return res.StatusCode
	}
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		if got := ask(protocol, 32<<10, 100); got != 200 {
			t.Errorf("%s: as much as fits by default: %d", protocol, got)
		}
		if got := ask(protocol, 32<<10, 101); got != 431 {
			t.Errorf("%s: a field too many: %d", protocol, got)
		}
	}
	cfg := p.settings.Load().HTTPConfig
	cfg.MaxHeader, cfg.MaxFields = 64<<10, 1000
	if err := p.Reconfigure(cfg); err != nil {
		t.Fatal(err)
	}
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		if got := ask(protocol, 64<<10, 1000); got != 200 {
			t.Errorf("%s: as much as fits: %d", protocol, got)
		}
		if got := ask(protocol, 64<<10+1, 1000); got != 431 {
			t.Errorf("%s: a byte too many: %d", protocol, got)
		}
	}
}

// TestManyCookies: as many cookies as browsers keep are accepted up to the bound in HTTP/2,
// where each is a field.
func TestManyCookies(t *testing.T) {
	_, address := secureHTTP(t, HTTPConfig{}, webBackend(t, name("a")))
	cookie := "c=" + strings.Repeat("v", (32<<10-200)/maxCookies-len("c=; "))
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		client := secureClient(t, protocol)
		req, _ := http.NewRequest("GET", "https://"+address+"/", nil)
		req.Header.Set("Cookie", cookie+strings.Repeat("; "+cookie, maxCookies-1))
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.Proto != protocol || res.StatusCode != 200 {
			t.Errorf("%s: %d for %d bytes of cookies", res.Proto, res.StatusCode, len(req.Header.Get("Cookie")))
		}
	}
}

// TestStreamBothWays: a stream such as those of gRPC passes the bounds: messages larger than
// a frame go both ways by turns, and a trailer ends the answer.
func TestStreamBothWays(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Trailer", "Grpc-Status")
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		message := make([]byte, 3*maxFrame)
		for {
			if _, err := io.ReadFull(r.Body, message); err != nil {
				w.Header().Set("Grpc-Status", fmt.Sprintf("%v %s", err == io.EOF, r.Header.Get("Te")))
				return
			}
			_, _ = w.Write(message)
			_ = http.NewResponseController(w).Flush()
		}
	}))
	t.Cleanup(backend.Close)
	_, address := secureHTTP(t, HTTPConfig{}, Backend{Address: backend.Listener.Addr().String()})
	client := secureClient(t, "HTTP/2.0")
	out, in := io.Pipe()
	req, _ := http.NewRequestWithContext(t.Context(), "POST", "https://"+address+"/package.Service/Method", out)
	req.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}
	// A backend may wait for the first message before it answers.
	message := bytes.Repeat([]byte("m"), 3*maxFrame)
	go in.Write(message)
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got := make([]byte, len(message))
	for i := range 5 {
		if _, err := io.ReadFull(res.Body, got); err != nil || !bytes.Equal(got, message) {
			t.Fatalf("message %d: %q..., %v", i, got[:10], err)
		}
		if i < 4 {
			go in.Write(message)
		}
	}
	in.Close()
	if rest, err := io.ReadAll(res.Body); err != nil || len(rest) > 0 || res.ProtoMajor != 2 || res.Trailer.Get("Grpc-Status") != "true trailers" {
		t.Errorf("%s, %d bytes more, trailer %v, %v", res.Proto, len(rest), res.Trailer, err)
	}
}

// TestHeaderTimeout: HeaderTimeout ends what brings neither a header nor the handshake
// before it.
func TestHeaderTimeout(t *testing.T) {
	cfg := HTTPConfig{HeaderTimeout: 50 * time.Millisecond}
	_, secure := secureHTTP(t, cfg, webBackend(t, name("a")))
	p, ln := newHTTP(t, cfg, webBackend(t, name("a"))), listenTest(t)
	serveHTTP(t, p, ln)
	plain := ln.Addr().String()
	for what, c := range map[string]net.Conn{
		"no handshake":     dialTest(t, secure),
		"no header":        dialTest(t, plain),
		"part of a header": dialTest(t, plain),
	} {
		if strings.HasPrefix(what, "part") {
			fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n")
		}
		if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %v, want the end of the connection", what, err)
		}
	}
}

// TestUnfinishedHeaderEnds: net/http knows no time for the header of HTTP/2, but a connection
// that brings nothing else is idle.
func TestUnfinishedHeaderEnds(t *testing.T) {
	_, address := secureHTTP(t, HTTPConfig{IdleTimeout: 100 * time.Millisecond, HeaderTimeout: time.Hour}, webBackend(t, name("a")))
	c := dialHTTP(t, address, "h2")
	io.WriteString(c, http2.ClientPreface)
	f := http2.NewFramer(c, c)
	f.WriteSettings()
	f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}})
	if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v, want the end of the connection", err)
	}
}
