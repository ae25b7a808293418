package lb

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/havip/havip/internal/lab/labtest"
)

// testTCP is a TCP with what it is made of.
type testTCP struct {
	TCPConfig
	*TCP // nil: not made yet
}

func tcpWith(cfg TCPConfig) *testTCP { return &testTCP{TCPConfig: cfg} }

// relay serves tc on loopback, over the backends unless it has a pool already.
// The returned function ends it and waits for it.
func relay(t testing.TB, tc *testTCP, bs ...Backend) (address string, stop func()) {
	t.Helper()
	ln, err := Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln.Addr().String(), relayOn(t, tc, ln, bs...)
}

// relayOn does what relay does on a listener.
func relayOn(t testing.TB, tc *testTCP, ln net.Listener, bs ...Backend) (stop func()) {
	t.Helper()
	if tc.Pool == nil && tc.Routes == nil {
		tc.Pool = newPool(t, PoolConfig{Name: "db", Backends: bs})
	}
	var err error
	if tc.TCP, err = NewTCP(tc.TCPConfig); err != nil {
		t.Fatal(err)
	}
	return labtest.Run(t, func(ctx context.Context) error { return tc.Serve(ctx, ln) })
}

// talker greets with its name, echoes what it gets, and at the end of that says
// how much it was.
func talker(t *testing.T, name string) Backend {
	return rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		io.WriteString(c, name)
		io.Copy(c, r)
		io.WriteString(c, ".")
	})
}

func TestTCPGoesRoundAndHalfCloses(t *testing.T) {
	addr, _ := relay(t, tcpWith(TCPConfig{}), talker(t, "a"), talker(t, "b"))
	for _, want := range []string{"ahello.", "bhello.", "ahello."} {
		c := dialTest(t, addr)
		io.WriteString(c, "hello")
		c.CloseWrite()
		got, err := io.ReadAll(c)
		if string(got) != want || err != nil {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
}

func TestTCPServerClosesItsHalfFirst(t *testing.T) {
	got := make(chan string, 1)
	addr, _ := relay(t, tcpWith(TCPConfig{}), rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		io.WriteString(c, "bye")
		c.(*net.TCPConn).CloseWrite()
		b, _ := io.ReadAll(r)
		got <- string(b)
	}))
	c := dialTest(t, addr)
	b, err := io.ReadAll(c)
	if string(b) != "bye" || err != nil {
		t.Fatalf("got %q, %v", b, err)
	}
	io.WriteString(c, "still here")
	c.CloseWrite()
	if s := <-got; s != "still here" {
		t.Errorf("the backend got %q after its own end", s)
	}
}

func TestTCPBulkBothWaysAtOnce(t *testing.T) {
	addr, _ := relay(t, tcpWith(TCPConfig{}), rawBackend(t, func(c net.Conn, r *bufio.Reader) { io.Copy(c, r) }))
	data := make([]byte, 5<<20+123)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	c := dialTest(t, addr)
	go func() {
		c.Write(data)
		c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back (%v), want the same %d", len(got), err, len(data))
	}
}

func TestTCPConnectIsTriedElsewhere(t *testing.T) {
	tc := tcpWith(TCPConfig{})
	addr, _ := relay(t, tc, closedBackend(t), closedBackend(t), talker(t, "c"))
	for range 5 {
		c := dialTest(t, addr)
		c.CloseWrite()
		got, err := io.ReadAll(c)
		if string(got) != "c." || err != nil {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	for i, b := range tc.Pool.Status().Backends[:2] {
		if !b.Ejected || b.Failures != 1 {
			t.Errorf("backend %d: %+v, want ejected after one failure", i, b)
		}
	}
}

func TestTCPWithoutABackendCloses(t *testing.T) {
	addr, _ := relay(t, tcpWith(TCPConfig{}), closedBackend(t))
	if got, _ := ends(t, dialTest(t, addr)); got != "" {
		t.Errorf("got %q", got)
	}
}

func TestTCPRefusesBadConfiguration(t *testing.T) {
	p := newPool(t, PoolConfig{})
	for want, cfg := range map[string]TCPConfig{
		"Pool: nil: want one, or routes":        {},
		"HandshakeTimeout: -1ns: want":          {Pool: p, HandshakeTimeout: -1},
		"ConnectTimeout: -1ns: want":            {Pool: p, ConnectTimeout: -1},
		"IdleTimeout: -1ns: want":               {Pool: p, IdleTimeout: -1},
		"Tries: 9: want 1 to 8":                 {Pool: p, Tries: 9},
		"Limits.Rate: -1: want":                 {Pool: p, Limits: Limits{Rate: -1}},
		"SendProxy: ProxyVersion(3): want":      {Pool: p, SendProxy: 3},
		"TLS: no certificate: want one":         {Pool: p, TLS: new(tls.Config)},
		`Routes["a.test"]: <nil>: want`:         {Routes: map[string]*Pool{"a.test": nil}},
		`Routes["a.test"]: another one differs`: {Pool: p, Routes: map[string]*Pool{"A.test": p, "a.test": p}},
		"Tries: 9: want 1 to 8\nLimits.Burst":   {Pool: p, Tries: 9, Limits: Limits{Burst: 5}},
	} {
		_, err := NewTCP(cfg)
		if err == nil || !strings.HasPrefix(err.Error(), "lb: TCP: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// A plane serves one listener at a time, and another one when that has ended.
func TestTCPServesOnceAtATime(t *testing.T) {
	tc := tcpWith(TCPConfig{ShutdownTimeout: -1})
	addr, stop := relay(t, tc, talker(t, "a"))
	hello := func(addr string) {
		t.Helper()
		c := dialTest(t, addr)
		defer c.Close()
		if b := make([]byte, 1); readFull(c, b) != nil || b[0] != 'a' {
			t.Errorf("greeted with %q", b)
		}
	}
	hello(addr)
	ln := listenTest(t)
	if err := tc.Serve(t.Context(), ln); !errors.Is(err, ErrServing) {
		t.Errorf("error %v, want ErrServing", err)
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("error %v: the second listener stays open", err)
	}
	hello(addr)
	stop()
	for _, ln := range []net.Listener{listenTest(t), foreign{listenTest(t)}} {
		addr := ln.Addr().String()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- tc.Serve(ctx, ln) }()
		hello(addr)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
	if st := tc.Stats(); st.Accepted != 4 || st.Active != 0 {
		t.Errorf("%+v, want all counted", st)
	}
	for _, none := range []net.Listener{nil, (*net.TCPListener)(nil)} {
		if err := tc.Serve(t.Context(), none); err == nil || !strings.Contains(err.Error(), "listener nil: want one") {
			t.Errorf("error %v without a listener", err)
		}
	}
}

// Nothing counts as under way when Serve has returned.
func TestTCPServeCountsBeforeItReturns(t *testing.T) {
	b := talker(t, "a")
	for range 20 {
		tc, ln := tcpWith(TCPConfig{ShutdownTimeout: -1}), foreign{listenTest(t)}
		stop := relayOn(t, tc, ln, b)
		for range 50 {
			if err := readFull(dialTest(t, ln.Addr().String()), make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		stop() // the last of many to end hardly waits for those before it
		if n := tc.Stats().Active; n != 0 {
			t.Fatalf("%d connections under way when Serve has returned", n)
		}
	}
}

func listenTest(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

func readFull(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	return err
}

// The words of the configuration file.
func TestProxyVersionWords(t *testing.T) {
	for v, word := range map[ProxyVersion]string{ProxyNone: "none", ProxyV1: "v1", ProxyV2: "v2"} {
		var got ProxyVersion
		if text, _ := v.MarshalText(); string(text) != word || got.UnmarshalText(text) != nil || got != v {
			t.Errorf("%d is %q, which is %v, want %q", v, text, got, word)
		}
	}
	if err := new(ProxyVersion).UnmarshalText([]byte("v3")); err == nil || err.Error() != `"v3": want none, v1 or v2` {
		t.Error(err)
	}
}

func TestListen(t *testing.T) {
	ln, err := Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, err = Listen(t.Context(), "tcp", ln.Addr().String())
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.HasPrefix(err.Error(), "lb: listen on tcp "+ln.Addr().String()+": ") {
		t.Errorf("in use: %v", err)
	}
	for _, bad := range []string{"127.0.0.1", "127.0.0.1:99999", "nowhere.invalid:80"} {
		if ln, err := Listen(t.Context(), "tcp", bad); err == nil {
			ln.Close()
			t.Errorf("%s: no error", bad)
		}
	}
}
