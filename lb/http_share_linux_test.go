package lb

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSlowClientsShareAPage: clients that ask for a large page and do not read hold a piece of it
// each, not a copy, nor does the loop; who reads gets all of it.
func TestSlowClientsShareAPage(t *testing.T) {
	content := pattern("page", maxPage)
	for _, secure := range []bool{false, true} {
		t.Run(map[bool]string{false: "plain", true: "TLS"}[secure], func(t *testing.T) {
			cfg := HTTPConfig{HandlerConfig: HandlerConfig{Rules: Rules{Maintenance: true, MaintenancePage: &Page{Content: content}}}}
			var address string
			var client *tls.Config
			var p *HTTP
			if secure {
				address, client, p = secureEngine(t, cfg, webBackend(t, name("app")))
			} else {
				address, p = engineAt(t, cfg, webBackend(t, name("app")))
			}
			var conns []net.Conn
			for range 20 {
				plain := dialTest(t, address)
				c := net.Conn(plain)
				if secure {
					c = tls.Client(plain, client)
				}
				_ = c.SetDeadline(time.Now().Add(6 * bound))
				io.WriteString(c, aGet[:10]) // the handshake is over, and the request is not
				conns = append(conns, c)
			}
			waitFor(t, "the connections", func() bool {
				known := 0
				eachConn(t, p, func(c *httpConn) {
					if _ = unix.SetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 16<<10); len(c.in) > 0 {
						known++
					}
				})
				return known == len(conns)
			})
			for _, c := range conns {
				io.WriteString(c, aGet[10:])
			}
			waitFor(t, "the answers to fill the sockets", func() bool {
				flushing := 0
				eachConn(t, p, func(c *httpConn) {
					if c.state != connFlushing {
						return
					}
					flushing++
					if len(c.pending) > 128<<10 || cap(c.pending) > 128<<10 {
						t.Errorf("a client holds %d bytes, with room for %d", len(c.pending), cap(c.pending))
					}
				})
				return flushing == len(conns)
			})
			for _, l := range httpLoopsOf(t, p) {
				l.within(t, func() {
					if cap(l.out) > 128<<10 {
						t.Errorf("a loop holds %d bytes", cap(l.out))
					}
				})
			}
			for _, c := range conns {
				res, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(res.Body); err != nil || !bytes.Equal(got, content) {
					t.Fatalf("%d bytes, %v", len(got), err)
				}
			}
		})
	}
}

// TestLoopsShareTheirTime: what is compressed in a round of the loop is bounded, and who has to
// wait comes first in the next one.
func TestLoopsShareTheirTime(t *testing.T) {
	l := new(httpLoop)
	a, b, late := &httpConn{state: connClosed}, &httpConn{state: connClosed}, &httpConn{state: connClosed}
	l.later(a)
	l.later(b)
	l.effort = roundEffort
	l.runSome()
	l.later(late)
	if len(l.runq) != 3 || l.runq[0] != a || l.runq[1] != b || l.runq[2] != late || !a.queued {
		t.Errorf("%d wait", len(l.runq))
	}
	l.effort = 0
	if l.runSome(); len(l.runq) != 0 || a.queued || b.queued || late.queued {
		t.Errorf("%d wait still", len(l.runq))
	}

	// A response that is compressed stays where it is while nothing is left of the round.
	more := make(chan net.Conn, 1)
	backend := rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\nfirst")
			more <- c
			_, _ = r.ReadByte()
		}
	})
	cfg := HTTPConfig{}
	cfg.Compress = &Compress{Encodings: []Encoding{EncodingGzip}, Level: 9}
	address, p := engineAt(t, cfg, backend)
	c := newReader(t, address)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n")
	if _, err := c.r.ReadByte(); err != nil {
		t.Fatal(err)
	}
	back := <-more
	waitFor(t, "the beginning of the response to be compressed", func() (begun bool) {
		eachConn(t, p, func(c *httpConn) { begun = c.t != nil && c.t.x.encoder != nil && !c.t.back.readable })
		return begun
	})
	eachConn(t, p, func(c *httpConn) {
		io.WriteString(back, "second")
		b := c.t.back
		b.readable, c.l.effort = true, roundEffort
		if c.pumpResponse(); !c.queued || !b.hasUnread() || c.t.down.moved != 5 {
			t.Errorf("%d bytes were compressed beyond the round's", c.t.down.moved)
		}
		c.l.effort = 0
		if c.pumpResponse(); c.l.effort != len("second")*encodingCost(9) {
			t.Errorf("%d of the round are spent", c.l.effort)
		}
	})
	waitFor(t, "the rest to be compressed", func() (all bool) {
		eachConn(t, p, func(c *httpConn) { all = c.t.down.moved == 11 })
		return all
	})
	back.Close()
}

// TestEncodingCost: a turn of a loop compresses less the more work there is in it.
func TestEncodingCost(t *testing.T) {
	for level, want := range map[int]int{1: 256 << 10, 3: 256 << 10, 4: 64 << 10, 6: 64 << 10, 7: 16 << 10, 9: 16 << 10} {
		if got := turn / encodingCost(level); got != want {
			t.Errorf("level %d: %d bytes a turn, want %d", level, got, want)
		}
	}
}
