package lb

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
)

// flooded is a plane that a client of HTTP/2 floods, and what its backend sees.
type flooded struct {
	*HTTP
	*client2
	address    string
	open, peak atomic.Int64 // connections of the backend
}

// newFlooded serves a backend that answers nothing but /quick.
func newFlooded(t *testing.T, streams int) *flooded {
	t.Helper()
	f := new(flooded)
	b := rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		n := f.open.Add(1)
		defer f.open.Add(-1)
		for peak := f.peak.Load(); n > peak && !f.peak.CompareAndSwap(peak, n); peak = f.peak.Load() {
		}
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if _, err = io.Copy(io.Discard, req.Body); err != nil {
				return
			}
			if req.URL.Path == "/quick" {
				_, _ = io.WriteString(c, anOK)
			}
		}
	})
	ln := listenTest(t)
	f.HTTP, f.address = newHTTP(t, HTTPConfig{ShutdownTimeout: -1, MaxStreams: streams}, b), ln.Addr().String()
	serveHTTP(t, f.HTTP, ln)
	f.client2 = newClient2(t, dialTest(t, f.address))
	return f
}

// begin begins a request.
func (f *flooded) begin(id uint32, path string, end bool) error {
	return f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: end,
		BlockFragment: f.fields(":method", "POST", ":scheme", "http", ":path", path, ":authority", "x")})
}

// fate is what becomes of the connection of a flood.
type fate int

const (
	floodEnds   fate = iota // the server ends it
	floodGoesOn             // it serves the next request
	floodEither             // as it comes: what is bounded is the harm
)

// floods are what a client may do for ever, step by step.
var floods = []struct {
	name  string
	steps int
	fate  fate
	begin func(*flooded) error
	step  func(f *flooded, i int) error
}{
	// net/http ends it if requests come faster than its handlers end.
	{"rapid reset (CVE-2023-44487)", 20_000, floodEither, nil, func(f *flooded, i int) error {
		id := uint32(2*i + 1)
		if err := f.begin(id, "/", true); err != nil {
			return err
		}
		return f.WriteRSTStream(id, http2.ErrCodeCancel)
	}},
	{"resets by malformed frames (CVE-2025-8671)", 20_000, floodEither, nil, func(f *flooded, i int) error {
		id := uint32(2*i + 1)
		if err := f.begin(id, "/", false); err != nil {
			return err
		}
		return f.WriteWindowUpdate(id, 1<<31-1) // overflows: the server resets the stream
	}},
	{"CONTINUATION without end", 10_000, floodEnds, func(f *flooded) error {
		return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.fields(":method", "GET", ":scheme", "http", ":path", "/", ":authority", "x")})
	}, func(f *flooded, i int) error { return f.WriteContinuation(1, false, make([]byte, 4<<10)) }},
	// It costs time alone, and IdleTimeout ends it.
	{"empty CONTINUATION without end", 100_000, floodEither, func(f *flooded) error {
		return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.fields(":method", "GET")})
	}, func(f *flooded, i int) error { return f.WriteContinuation(1, false, nil) }},
	// One acknowledgement is owed at a time.
	{"SETTINGS, and nothing is read", 200_000, floodGoesOn, nil, func(f *flooded, i int) error { return f.WriteSettings() }},
	{"PING, and nothing is read", 2_000_000, floodEnds, nil, func(f *flooded, i int) error { return f.WritePing(false, [8]byte{}) }},
	{"empty DATA", 100_000, floodGoesOn, func(f *flooded) error { return f.begin(1, "/", false) },
		func(f *flooded, i int) error { return f.WriteData(1, false, nil) }},
	{"PRIORITY", 100_000, floodGoesOn, nil, func(f *flooded, i int) error {
		return f.WritePriority(uint32(2*i+3), http2.PriorityParam{StreamDep: uint32(2*i + 1), Weight: 1})
	}},
}

// TestFloodsOfHTTP2: a client can have neither memory nor backends without end, whatever it
// sends, and the others are served.
func TestFloodsOfHTTP2(t *testing.T) {
	const streams = 20
	for _, flood := range floods {
		t.Run(flood.name, func(t *testing.T) {
			f := newFlooded(t, streams)
			before := heapNow()
			var err error
			if flood.begin != nil {
				err = flood.begin(f)
			}
			steps := 0
			for ; steps < flood.steps && err == nil; steps++ {
				err = flood.step(f, steps)
			}
			if grown := heapNow() - before; grown > 32<<20 {
				t.Errorf("%d MB more after %d steps", grown>>20, steps)
			}
			if isTimeout(err) {
				t.Errorf("the connection stands still after %d steps", steps)
			}
			switch {
			case flood.fate == floodGoesOn:
				if err == nil {
					err = f.begin(1<<30+1, "/quick", true)
				}
				if err != nil {
					t.Fatalf("the connection has ended after %d steps: %v", steps, err)
				}
				if got := f.answer(1<<30 + 1); got != "200" {
					t.Errorf("after the flood: %s", got)
				}
			case flood.fate == floodEnds && err == nil && !f.ended():
				t.Errorf("the connection survives %d steps", steps)
			}
			other := newReader(t, f.address)
			if _, got, err := other.ask(t, "GET /quick HTTP/1.1\r\nHost: x\r\n\r\n"); got != "ok" {
				t.Errorf("another client gets %q, %v", got, err)
			}
			f.conn.Close()
			waitFor(t, "all requests to end", func() bool { return f.Stats().Active == 0 })
			// A backend sees the end of a connection later than who has closed it.
			if peak := f.peak.Load(); peak > 4*streams {
				t.Errorf("%d connections to the backend at once, want about %d", peak, streams)
			}
			t.Logf("ended after %d steps: %v", steps, err)
		})
	}
}

// ended reports whether the server has ended the connection, or will.
func (f *flooded) ended() bool {
	for {
		frame, err := f.ReadFrame()
		if _, ok := frame.(*http2.GoAwayFrame); ok || err != nil {
			return !isTimeout(err)
		}
	}
}

// heapNow is what lives on the heap.
func heapNow() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// The setting is what clients are told.
func TestMaxStreams(t *testing.T) {
	f := newFlooded(t, 7)
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if s, ok := frame.(*http2.SettingsFrame); ok && !s.IsAck() {
			if v, _ := s.Value(http2.SettingMaxConcurrentStreams); v != 7 {
				t.Errorf("MAX_CONCURRENT_STREAMS is %d", v)
			}
			return
		}
	}
}
