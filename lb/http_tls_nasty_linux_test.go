package lb

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
)

// A tunnel goes to goroutines with all that has come, by TLS on either side: what the client
// has sent behind its request, what the backend has sent behind its answer, and both ends.
func TestEngineTLSTunnel(t *testing.T) {
	ahead, bulk := strings.Repeat("ahead", 30000), strings.Repeat("bulk", 300000)
	serve := func(c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello")
		io.Copy(struct{ io.Writer }{c}, r)
		io.WriteString(c, "end")
		closeWrite(c)
		io.Copy(io.Discard, r)
	}
	for _, where := range []string{"client", "backend", "both"} {
		t.Run(where, func(t *testing.T) {
			b := rawBackend(t, serve)
			if where != "client" {
				b = rawSecureBackend(t, nil, func(_ *net.TCPConn, c *tls.Conn, r *bufio.Reader) { serve(c, r) })
			}
			var c stream
			var p *HTTP
			var address string
			if where == "backend" {
				address, p = engineAt(t, HTTPConfig{}, b)
				c = dialTest(t, address)
			} else {
				var cfg *tls.Config
				address, cfg, p = secureEngine(t, HTTPConfig{}, b)
				c = dialSecure(t, address, cfg)
			}
			var wrote sync.WaitGroup
			wrote.Go(func() {
				io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"+ahead)
				io.WriteString(c, bulk)
				c.CloseWrite()
			})
			r := bufio.NewReader(c)
			res, err := http.ReadResponse(r, nil)
			if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
				t.Fatal(res, err)
			}
			if got, err := io.ReadAll(r); string(got) != "hello"+ahead+bulk+"end" || err != nil {
				t.Errorf("%d bytes come through the tunnel, %v, want %d", len(got), err, len(ahead)+len(bulk)+8)
			}
			wrote.Wait()
			for _, l := range httpLoopsOf(t, p) {
				l.within(t, func() {
					if l.tls.lent != 0 {
						t.Errorf("%d of a loop's buffers are with the tunnel", l.tls.lent)
					}
				})
			}
		})
	}
}

// A connection with TLS that an event loop has may go to net/http: a new configuration has a
// function of its embedder. Requests that have come already, whole or in part, go along.
func TestEngineTLSHandsOver(t *testing.T) {
	cfg := HTTPConfig{}
	b := webBackend(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.URL.Path, r.Header.Get("X-Forwarded-Proto"))
	})
	address, client, p := secureEngine(t, cfg, b)
	c := dialSecure(t, address, client)
	if status, content, err := c.get(aGet); status != 200 || content != "/https" || err != nil {
		t.Fatalf("%d, %q, %v", status, content, err)
	}
	var keyed atomic.Int32
	cfg = p.settings.Load().HTTPConfig
	cfg.Key = func(*http.Request) string { keyed.Add(1); return "" }
	if err := p.Reconfigure(cfg); err != nil {
		t.Fatal(err)
	}
	second, third := "GET /2 HTTP/1.1\r\nHost: a.test\r\n\r\n", "GET /3 HTTP/1.1\r\nHost: a.test\r\n\r\n"
	io.WriteString(c, second+third[:10])
	if status, content, err := c.response(); status != 200 || content != "/2https" || err != nil {
		t.Errorf("the second request is answered by %d, %q, %v", status, content, err)
	}
	if status, content, err := c.get(third[10:]); status != 200 || content != "/3https" || err != nil {
		t.Errorf("the third request is answered by %d, %q, %v", status, content, err)
	}
	if n := keyed.Load(); n != 2 {
		t.Errorf("%d requests were asked for their key, want 2", n)
	}
	eachConn(t, p, func(*httpConn) { t.Error("a loop has the connection") })
	c.Close()
	waitFor(t, "the connection to be given back", func() bool { return p.gate.counters.active.Load() == 0 })
}

// Requests come in records of any size, in pieces of records, and with new keys between them.
func TestEngineTLSAnyRecords(t *testing.T) {
	address, cfg, _ := secureEngine(t, HTTPConfig{}, webBackend(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		io.Copy(w, r.Body)
	}))
	c := newRecordClient(t, chopped{dialTest(t, address)}, cfg)
	r := bufio.NewReader(c)
	for i := range 30 {
		body := bytes.Repeat([]byte{byte('a' + i%26)}, i*i*40)
		var wrote sync.WaitGroup
		c.asked = 0
		wrote.Go(func() {
			fmt.Fprintf(c, "PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		})
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		if got, err := io.ReadAll(res.Body); !bytes.Equal(got, body) || err != nil {
			t.Fatalf("request %d: %d of %d bytes come back, %v", i, len(got), len(body), err)
		}
		wrote.Wait()
	}
}

// A client that takes nothing and asks for new keys with its body, again and again, does not
// make the loop keep all of the answers.
func TestEngineTLSBoundsKeyUpdates(t *testing.T) {
	address, cfg, p := secureEngine(t, HTTPConfig{}, webBackend(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		go io.Copy(io.Discard, r.Body)
		for b := make([]byte, 64<<10); ; {
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	}))
	c := newRecordClient(t, dialTest(t, address), cfg)
	c.add(typeData, []byte("PUT / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n"), 0)
	if err := c.send(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the client to be full", func() (full bool) {
		eachConn(t, p, func(c *httpConn) { full = c.full() && !c.writable })
		return full
	})
	most := 0
	for range 4000 { // 1 MB of answers
		for range 10 {
			c.addKeys(1, false)
			c.add(typeData, []byte("1\r\nx\r\n"), 0)
		}
		if c.send() != nil {
			break
		}
	}
	waitFor(t, "the connection to end", func() bool {
		conns := 0
		eachConn(t, p, func(c *httpConn) { conns++; most = max(most, len(c.pending)) })
		return conns == 0
	})
	if most > maxAnswers+64<<10 {
		t.Errorf("%d bytes were kept for the client", most)
	}
}

// A client of TLS 1.2 that wants another handshake is refused: it would cost a loop much time.
func TestEngineTLSRefusesRenegotiation(t *testing.T) {
	lab.Need(t, "openssl")
	a := newAuthority(t)
	address, p := engineAt(t, HTTPConfig{TLS: &tls.Config{GetCertificate: a.certificates(a.issue("a", "a.test")).GetCertificate}},
		webBackend(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "answer\n") }))
	path := a.dir + "/out"
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.CommandContext(t.Context(), "openssl", "s_client", "-connect", address, "-servername", "a.test", "-CAfile", a.writeCA(), "-tls1_2")
	cmd.Stdout, cmd.Stderr = out, out
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := func() string { b, _ := os.ReadFile(path); return string(b) }
	defer func() { in.Close(); cmd.Process.Kill(); cmd.Wait() }()
	io.WriteString(in, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
	waitFor(t, "the answer", func() bool { return strings.Contains(said(), "answer") })
	io.WriteString(in, "R\n")
	waitFor(t, "the connection to end", func() bool { return p.gate.counters.active.Load() == 0 })
	if s := said(); !strings.Contains(s, "RENEGOTIATING") || strings.Count(s, "answer") != 1 {
		t.Errorf("the client says %s", s)
	}
}

// A connection to a backend that has ended by TLS while it was idle is given up, though its
// socket has not ended.
func TestEngineTLSEndedBackend(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		var conns, requests atomic.Int32
		b := rawSecureBackend(t, nil, func(socket *net.TCPConn, c *tls.Conn, r *bufio.Reader) {
			conns.Add(1)
			for {
				if _, err := http.ReadRequest(r); err != nil {
					return
				}
				requests.Add(1)
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nanswer")
				c.CloseWrite()
			}
		})
		address, p := engineAt(t, HTTPConfig{HandlerConfig: HandlerConfig{Reuse: ReuseAlways}}, b)
		c := dialTest(t, address)
		r := bufio.NewReader(c)
		for i := range 5 {
			fmt.Fprintf(c, "%s / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n", method)
			res, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(res.Body); string(got) != "answer" || err != nil || res.StatusCode != 200 {
				t.Errorf("%s %d: %s, %q, %v", method, i, res.Status, got, err)
			}
			waitFor(t, "the connection to be given up", func() (given bool) {
				given = true
				for _, l := range httpLoopsOf(t, p) {
					l.within(t, func() { given = given && len(l.idle) == 0 })
				}
				return given
			})
		}
		if n := requests.Load(); n != 5 || conns.Load() != 5 {
			t.Errorf("%s: %d requests came on %d connections, want 5 on 5", method, n, conns.Load())
		}
	}
}

// A backend that does not shake hands, or has no certificate that counts, is one that was not
// reached: another one serves the request.
func TestEngineTLSUnreachedBackends(t *testing.T) {
	silent := rawBackend(t, func(c net.Conn, _ *bufio.Reader) { io.Copy(io.Discard, c) })
	plain := webBackend(t, func(http.ResponseWriter, *http.Request) {})
	good := secureBackend(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "answer") })
	unknown := secureBackend(t, func(http.ResponseWriter, *http.Request) {})
	silent.TLS, plain.TLS = good.TLS, good.TLS
	unknown.TLS = &tls.Config{ServerName: "other.test", RootCAs: good.TLS.RootCAs}
	for name, bad := range map[string]Backend{"silent": silent, "plain": plain, "another name": unknown} {
		bad.Weight = 100
		address, p := engineAt(t, HTTPConfig{HandlerConfig: HandlerConfig{ConnectTimeout: 2 * time.Second}}, bad, good)
		c := dialTest(t, address)
		r := bufio.NewReader(c)
		for range 2 {
			io.WriteString(c, aGet)
			res, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := io.ReadAll(res.Body); string(got) != "answer" || res.StatusCode != 200 {
				t.Errorf("%s: %s, %q", name, res.Status, got)
			}
		}
		if s := p.handler.settings.Load().Pool.Status(); s.Backends[0].Failures == 0 {
			t.Errorf("%s: the backend has no failure", name)
		}
	}
}
