package lb

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"testing"
	"time"
)

// A pool refers to its planes weakly. Whatever is under way on a backend keeps its plane,
// and the settings with which it began, until the pool cuts it: also when the program has
// dropped both, or uses another pool.
func TestUnderWayIsCutWhateverIsDropped(t *testing.T) {
	spare := newPool(t, PoolConfig{Backends: []Backend{{Address: "127.0.0.1:9"}}})
	goesDown := func(p *Pool) {
		for range 3 {
			runtime.GC()
		}
		p.SetHealth(p.Status().Backends[0].Name, errDown)
	}
	everyWay(t, func(t *testing.T, open func(*testTCP, ...Backend) (func() stream, func())) {
		p := newPool(t, PoolConfig{KillOnDown: true, Backends: []Backend{talker(t, "a")}})
		tc := tcpWith(TCPConfig{Pool: p})
		dial, _ := open(tc)
		c := dial()
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if err := tc.Reconfigure(TCPConfig{Pool: spare}); err != nil {
			t.Fatal(err)
		}
		goesDown(p)
		if _, inOrder := ends(t, c); inOrder {
			t.Error("the end is in order")
		}
	})
	for name, answer := range map[string]string{
		"request": "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
		"tunnel":  "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			s, h := front(t, HandlerConfig{}, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
				http.ReadRequest(r)
				io.WriteString(c, answer+"x")
				discard(c, r)
			}))
			p := h.pool()
			if err := p.Reconfigure(PoolConfig{KillOnDown: true, Backends: []Backend{p.Status().Backends[0].Backend}}); err != nil {
				t.Fatal(err)
			}
			c := dialTest(t, s.Listener.Addr().String())
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
			br := bufio.NewReader(c)
			if _, err := http.ReadResponse(br, nil); err != nil {
				t.Fatal(err)
			}
			if err := h.Reconfigure(HandlerConfig{Pool: spare}); err != nil {
				t.Fatal(err)
			}
			goesDown(p)
			ends(t, &prefacedForTest{c, br})
		})
	}
}

// tooLate has a backend cut when it has been chosen, and the plane does not know yet.
type tooLate struct {
	pool *Pool
	cut  func(*Pool)
}

func (b *tooLate) Pick(_ Flow, candidates []Candidate) int {
	if i := slices.IndexFunc(candidates, func(c Candidate) bool { return c.Backend().Name == "gone" }); i >= 0 {
		b.cut(b.pool)
		return i
	}
	return 0
}

// A backend whose connections are cut between its choice and the attempt to connect gets
// none: the connection or request goes to another one.
func TestCutBetweenChoiceAndConnecting(t *testing.T) {
	gone, other := talker(t, "g"), talker(t, "a")
	gone.Name, other.Name = "gone", "other"
	for what, cut := range map[string]func(*Pool){
		"down": func(p *Pool) { p.SetHealth("gone", errDown) },
		"drained": func(p *Pool) {
			p.SetDrain("gone", true)
			isCut := func(s *member) bool { return s.lastCut.Load() > 0 }
			for !slices.ContainsFunc(p.snap.Load().all, isCut) {
				runtime.Gosched()
			}
		},
	} {
		pool := func(bs ...Backend) *Pool {
			b := &tooLate{cut: cut}
			b.pool = newPool(t, PoolConfig{Balancer: b, KillOnDown: true, DrainTimeout: time.Millisecond, Backends: bs})
			return b.pool
		}
		everyWay(t, func(t *testing.T, open func(*testTCP, ...Backend) (func() stream, func())) {
			dial, _ := open(tcpWith(TCPConfig{Pool: pool(gone, other)}))
			c := dial()
			go io.WriteString(c, "hello") // with TLS the handshake comes before the backend
			got := make([]byte, 1)
			if _, err := io.ReadFull(c, got); err != nil || string(got) != "a" {
				t.Errorf("%s: %q answers", what, got)
			}
		})
		gone, other := webBackend(t, name("g")), webBackend(t, name("a"))
		gone.Name, other.Name = "gone", "other"
		s := httptest.NewServer(newHandler(t, HandlerConfig{Pool: pool(gone, other)}))
		t.Cleanup(s.Close)
		res, err := s.Client().Get(s.URL)
		if got := body(t, res, err); got != "a" {
			t.Errorf("%s: %q answers a request", what, got)
		}
	}
}

// flapper returns a large pool whose backends but one drain, and a function that has the one
// go down and come up again. The cuts come when done is called.
func flapper(t *testing.T, b Backend) (p *Pool, flap, done func()) {
	bs := append([]Backend{b}, many(maxEager, benchWeights["equal"])...)
	for i := range bs[1:] {
		bs[1+i].Drain = true
	}
	p = newPool(t, PoolConfig{KillOnDown: true, Backends: bs})
	name := p.Status().Backends[0].Name
	return p, func() {
		p.building.Lock()
		p.SetHealth(name, errDown)
		p.SetHealth(name, nil)
	}, p.building.Unlock
}

// The cuts of a large pool come together, and later. By then the backend may be up again:
// the connections that it has got since then stay.
func TestCutsSpareLaterConnections(t *testing.T) {
	everyWay(t, func(t *testing.T, open func(*testTCP, ...Backend) (func() stream, func())) {
		p, flap, done := flapper(t, talker(t, "a"))
		dial, _ := open(tcpWith(TCPConfig{Pool: p}))
		connect := func() stream {
			c := dial()
			go io.WriteString(c, "hello")
			if _, err := io.ReadFull(c, make([]byte, 6)); err != nil {
				t.Fatal(err)
			}
			return c
		}
		before := connect()
		flap()
		after := connect()
		done()
		if _, inOrder := ends(t, before); inOrder {
			t.Error("the end is in order")
		}
		again := connect() // when this is served, the cut is over in all event loops
		for _, c := range []stream{after, again} {
			c.CloseWrite()
			if got, inOrder := ends(t, c); got != "." || !inOrder {
				t.Errorf("a later connection is cut: %q", got)
			}
		}
	})
}
