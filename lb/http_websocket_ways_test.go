package lb

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab/labtest"
)

// wsPair are the two ends of a WebSocket through a front.
type wsPair struct {
	client, backend *reader
	records         <-chan Record
}

// eachWay runs f for WebSockets with and without TLS on both sides. open opens one: the client
// sends up right behind its head, and the backend down.
func eachWay(t *testing.T, cfg HandlerConfig, f func(t *testing.T, open func(up, down []byte, piece int) *wsPair)) {
	for _, front := range []bool{false, true} {
		for _, back := range []bool{false, true} {
			t.Run(fmt.Sprintf("TLS with the client %v, with the backend %v", front, back), func(t *testing.T) {
				accepted := make(chan *reader)
				b := wsBackend(t, back, accepted)
				records := make(chan Record, 1)
				cfg.Record = func(r Record) { records <- r }
				cfg.Pool = newPool(t, PoolConfig{Backends: []Backend{b}})
				s, _ := shell{HandlerConfig: cfg, tls: front, tracked: true}.serve(t)
				f(t, func(up, down []byte, piece int) *wsPair {
					var c net.Conn = dialTest(t, s.Listener.Addr().String())
					if front {
						c = tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
					}
					p := &wsPair{client: &reader{c, bufio.NewReader(c)}, records: records}
					p.open(t, accepted, up, down, piece)
					return p
				})
			})
		}
	}
}

// wsBackend is a backend that leaves its connections to the test.
func wsBackend(t *testing.T, secure bool, accepted chan<- *reader) Backend {
	t.Helper()
	a := newAuthority(t)
	certs := a.certificates(a.issue("b", "b.test"))
	b := Backend{Address: labtest.Listen(t, func(c net.Conn) {
		_ = c.SetDeadline(time.Now().Add(bound))
		if secure {
			c = tls.Server(c, &tls.Config{GetCertificate: certs.GetCertificate})
		}
		select {
		case accepted <- &reader{c, bufio.NewReader(c)}:
			<-t.Context().Done()
		case <-t.Context().Done():
		}
	})}
	if secure {
		b.TLS = &tls.Config{ServerName: "b.test", RootCAs: a.pool}
	}
	return b
}

// open has both ends agree on a WebSocket.
func (p *wsPair) open(t *testing.T, accepted <-chan *reader, up, down []byte, piece int) {
	t.Helper()
	asked := inPieces(p.client, append([]byte(wsRequest), up...), piece)
	select {
	case p.backend = <-accepted:
	case <-time.After(bound):
		t.Fatal("the backend is not asked")
	}
	req, err := http.ReadRequest(p.backend.r)
	if err != nil || req.Header.Get("Sec-WebSocket-Key") != "dGhlIHNhbXBsZSBub25jZQ==" {
		t.Fatalf("%+v, %v", req, err)
	}
	answered := inPieces(p.backend, append([]byte(wsSwitch), down...), piece)
	res, err := http.ReadResponse(p.client.r, nil)
	if err != nil || res.StatusCode != 101 || res.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("%+v, %v", res, err)
	}
	for what, r := range map[string]*reader{"backend": p.backend, "client": p.client} {
		want := map[string][]byte{"backend": up, "client": down}[what]
		got := make([]byte, len(want))
		if n, err := io.ReadFull(r.r, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("the %s reads %d of the %d bytes that come with the head, or others: %v", what, n, len(want), err)
		}
	}
	if err := errors.Join(<-asked, <-answered); err != nil {
		t.Fatal(err)
	}
}

// inPieces writes b to w, so many bytes at a time; 0: all at once.
func inPieces(w io.Writer, b []byte, piece int) <-chan error {
	done := make(chan error, 1)
	go func() {
		for len(b) > 0 {
			n := len(b)
			if piece > 0 {
				n = min(n, piece)
			}
			if _, err := w.Write(b[:n]); err != nil {
				done <- err
				return
			}
			b = b[n:]
		}
		done <- nil
	}()
	return done
}

// record returns the record of the WebSocket.
func (p *wsPair) record(t *testing.T) Record {
	t.Helper()
	select {
	case r := <-p.records:
		return r
	case <-time.After(bound):
		t.Fatal("no record")
		return Record{}
	}
}

// wsNoise returns frames of bytes that do not repeat soon, so that none may change places.
func wsNoise(seed byte, sizes ...int) (b []byte) {
	for _, n := range sizes {
		payload := make([]byte, n)
		for i := range payload {
			payload[i] = seed + byte(i) + byte(i>>8)*3 + byte(i>>16)*5
		}
		b = wsFrame(b, wsFin|wsBinary, payload)
	}
	return b
}

// exchange has both ends say something at the same time, and end: the client or the backend
// first. The other end still gets a byte through after that.
func (p *wsPair) exchange(t *testing.T, up, down []byte, piece int, clientFirst bool) {
	t.Helper()
	asked, answered := inPieces(p.client, up, piece), inPieces(p.backend, down, piece)
	read := make(chan error, 2)
	for _, way := range []struct {
		r    *reader
		want []byte
	}{{p.backend, up}, {p.client, down}} {
		go func() {
			got := make([]byte, len(way.want))
			n, err := io.ReadFull(way.r.r, got)
			if err == nil && !bytes.Equal(got, way.want) {
				err = errors.New("other bytes than were sent")
			}
			if err != nil {
				err = fmt.Errorf("after %d of %d bytes: %w", n, len(got), err)
			}
			read <- err
		}()
	}
	if err := errors.Join(<-read, <-read, <-asked, <-answered); err != nil {
		t.Fatal(err)
	}
	first, last := p.client, p.backend
	if !clientFirst {
		first, last = last, first
	}
	for _, end := range []struct {
		from, to *reader
		rest     string
	}{{first, last, ""}, {last, first, "z"}} {
		io.WriteString(end.from, end.rest)
		if err := closeWrite(end.from.Conn); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(end.to.r); err != nil || string(got) != end.rest {
			t.Fatalf("%q and %v, want %q and an end in order", got, err, end.rest)
		}
	}
}

// Frames of both sides pass at the same time, whichever of them speak TLS: right behind the
// heads and later, whole and byte by byte. An end in order at one side is one at the other,
// whoever is first, and the record counts every byte.
func TestWebSocketBothDirections(t *testing.T) {
	sizes := []int{0, 1, 125, 126, 127, 65535, 65536, 1 << 20}
	for _, tt := range []struct {
		name               string
		upEarly, downEarly []byte // right behind the heads
		up, down           []byte // once both have read these
		piece              int    // of each write; 0: whole
	}{
		{"all sizes", nil, nil, wsNoise(1, sizes...), wsNoise(2, sizes...), 0},
		{"behind the heads and later", wsNoise(3, 5, 300), wsNoise(4, 7, 400), wsNoise(5, 9), wsNoise(6, 11), 0},
		{"only behind the heads", wsNoise(3, 2000), wsNoise(4, 2000), nil, nil, 0},
		{"much behind the heads", wsNoise(3, 300<<10), wsNoise(4, 300<<10), nil, nil, 0},
		{"byte by byte", wsNoise(7, 3), wsNoise(8, 130), wsNoise(9, 130), wsNoise(10, 3), 1},
		{"bulk", nil, nil, wsNoise(11, 8<<20), wsNoise(12, 8<<20), 0},
		{"bulk in odd pieces", wsNoise(13, 100), wsNoise(14, 100), wsNoise(15, 1<<20), wsNoise(16, 1<<20), 16411},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachWay(t, HandlerConfig{}, func(t *testing.T, open func(up, down []byte, piece int) *wsPair) {
				for _, clientFirst := range []bool{true, false} {
					p := open(tt.upEarly, tt.downEarly, tt.piece)
					p.exchange(t, tt.up, tt.down, tt.piece, clientFirst)
					received, sent := int64(len(tt.upEarly)+len(tt.up)), int64(len(tt.downEarly)+len(tt.down))
					if clientFirst {
						sent++ // the byte after the other side's end
					} else {
						received++
					}
					if r := p.record(t); r.Status != 101 || r.Reason != "" || r.Received != received || r.Sent != sent {
						t.Errorf("%+v, want %d bytes received and %d sent", r, received, sent)
					}
				}
			})
		})
	}
}

// A reset of one end is a reset at the other, never an end in order, and so is the end of a
// tunnel on which nothing moves.
func TestWebSocketResets(t *testing.T) {
	for _, tt := range []struct {
		name   string
		idle   time.Duration // TunnelTimeout
		breaks func(*wsPair) (others []*reader)
		reason string
	}{
		{"by the client", 0, func(p *wsPair) []*reader { reset(p.client.Conn); return []*reader{p.backend} }, "reset"},
		{"by the backend", 0, func(p *wsPair) []*reader { reset(p.backend.Conn); return []*reader{p.client} }, "reset"},
		{"by neither, in silence", 2 * time.Second, func(p *wsPair) []*reader { return []*reader{p.client, p.backend} }, "idle"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachWay(t, HandlerConfig{TunnelTimeout: tt.idle}, func(t *testing.T, open func(up, down []byte, piece int) *wsPair) {
				if tt.idle > 0 {
					t.Parallel() // the test waits more than it works
				}
				p := open([]byte("up"), []byte("down"), 0)
				for _, r := range tt.breaks(p) {
					if got, err := io.ReadAll(r.r); len(got) > 0 || !errors.Is(err, syscall.ECONNRESET) {
						t.Errorf("%q and %v, want a reset", got, err)
					}
				}
				if r := p.record(t); r.Status != 101 || r.Reason != tt.reason || r.Received != 2 || r.Sent != 4 {
					t.Errorf("%+v, want the reason %q, 2 bytes received and 4 sent", r, tt.reason)
				}
			})
		})
	}
}
