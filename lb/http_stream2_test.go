package lb

import (
	"context"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// TestStreaming: bytes go both ways side by side as they come. When the client leaves, so does
// the request; when the backend ends first, the client learns at once.
func TestStreaming(t *testing.T) {
	left := make(chan struct{}, 1)
	b := webBackend2(t, false, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		buf := make([]byte, 100)
		for {
			n, err := r.Body.Read(buf)
			if err != nil {
				left <- struct{}{}
				return
			}
			if string(buf[:n]) == "end" {
				w.Header().Set(http.TrailerPrefix+"Grpc-Status", "9")
				return
			}
			w.Write(buf[:n])
			w.(http.Flusher).Flush()
		}
	})
	s, h := front2(t, HandlerConfig{BackendProtocol: BackendHTTP2}, b)
	for _, leave := range []bool{true, false} {
		ctx, cancel := context.WithCancel(t.Context())
		pr, pw := io.Pipe()
		req, _ := http.NewRequestWithContext(ctx, "POST", s.URL, pr)
		req.Header.Set("Content-Type", "application/grpc")
		res, err := s.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		for _, message := range []string{"one", "two", "three"} {
			io.WriteString(pw, message)
			got := make([]byte, len(message))
			if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != message {
				t.Fatalf("%q, %v", got, err)
			}
		}
		if leave {
			res.Body.Close()
			<-left
		} else {
			io.WriteString(pw, "end")
			start := time.Now()
			if rest, err := io.ReadAll(res.Body); err != nil || len(rest) > 0 || res.Trailer.Get("Grpc-Status") != "9" {
				t.Errorf("%q, %v, trailer %v", rest, err, res.Trailer)
			}
			if took := time.Since(start); took >= drainFor {
				t.Errorf("the end took %v", took)
			}
		}
		cancel()
		pw.Close()
		waitFor(t, "the request to end", func() bool { return h.Stats().Active == 0 })
	}
	if st := h.pool().Status().Backends[0]; st.Failures != 0 || st.Connects != 1 {
		t.Errorf("%+v, want one connection and no failure", st)
	}
}

// TestTrailersOnly: an answer that is a header and nothing else stays that: for clients of
// gRPC it is the way to say that a call has failed.
func TestTrailersOnly(t *testing.T) {
	s, _ := front2(t, HandlerConfig{BackendProtocol: BackendHTTP2}, rawBackend2(t, func(s script2) {
		for id := uint32(1); s.next(http2.FrameHeaders) != nil; id += 2 {
			s.head(id, true, ":status", "200", "content-type", "application/grpc", "grpc-status", "12")
		}
	}))
	for _, end := range []bool{true, false} { // of the request
		c := dialHTTP2(t, s)
		defer c.Close()
		c.writeHeaders(end, ":method", "POST", ":scheme", "https", ":authority", "x", ":path", "/", "content-type", "application/grpc")
		f := c.readFrame(t)
		for f.kind != frameHeaders {
			f = c.readFrame(t)
		}
		fields, err := hpack.NewDecoder(4096, nil).DecodeFull(f.payload)
		if err != nil || f.flags&flagEndStream == 0 || !slices.Contains(fields, hpack.HeaderField{Name: "grpc-status", Value: "12"}) ||
			slices.ContainsFunc(fields, func(f hpack.HeaderField) bool { return f.Name == "content-length" }) {
			t.Errorf("%v: %v, flags %b, %v", end, fields, f.flags, err)
		}
	}
}

// TestResponseTimeoutsHTTP2: a backend may not be silent in the middle of a response, and what
// came before belongs to the client.
func TestResponseTimeoutsHTTP2(t *testing.T) {
	s, h := front(t, HandlerConfig{BackendProtocol: BackendHTTP2, Timeout: 2 * time.Second}, rawBackend2(t, func(s script2) {
		s.next(http2.FrameHeaders)
		s.head(1, false, ":status", "200")
		s.WriteData(1, false, []byte("half"))
		s.next(255)
	}))
	res, err := http.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got, err := io.ReadAll(res.Body); string(got) != "half" || err == nil {
		t.Errorf("%q, %v", got, err)
	}
	if n := h.pool().Status().Backends[0].Failures; n != 0 {
		t.Errorf("%d failures, want none: it has answered", n)
	}
}

// TestExpectHTTP2: a backend that has to look at the header first is asked before the client is.
func TestExpectHTTP2(t *testing.T) {
	b := webBackend2(t, false, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(417)
			return
		}
		io.Copy(w, r.Body)
	})
	s, _ := front(t, HandlerConfig{BackendProtocol: BackendHTTP2}, b)
	for path, want := range map[string]int{"/": 100, "/no": 417} {
		c := newReader(t, s.Listener.Addr().String())
		res, _, err := c.ask(t, "PUT "+path+" HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
		if err != nil || res.StatusCode != want {
			t.Fatalf("%+v, %v, want %d", res, err, want)
		}
		if want != 100 {
			continue
		}
		if res, got, err := c.ask(t, "ok"); got != "ok" || res.StatusCode != 200 {
			t.Errorf("%q, %v", got, err)
		}
	}
}
