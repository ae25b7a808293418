package lb

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// getEncoded asks for a path, with an Accept-Encoding.
func getEncoded(t *testing.T, client *http.Client, site, accepted string) (*http.Response, error) {
	t.Helper()
	u, err := url.Parse(site)
	if err != nil {
		t.Fatal(err)
	}
	req := (&http.Request{Method: "GET", URL: u, Header: http.Header{"Accept-Encoding": {accepted}}}).WithContext(t.Context())
	return client.Do(req)
}

// compressing returns a configuration that compresses text and events.
func compressing(encodings ...Encoding) HandlerConfig {
	return HandlerConfig{Rules: Rules{Compress: &Compress{Encodings: encodings, Types: []string{"text/plain", "text/event-stream"}, MinLength: 1}}}
}

// waitForEncoders waits until no encoder is in use.
func (s *trapSite) waitForEncoders(t *testing.T) {
	t.Helper()
	waitFor(t, "the encoders to come back", func() bool { return s.h.counters.compressing.Load() == 0 })
}

// TestEventsAreCompressedOneByOne: each event is at the client before the backend sends the next
// one.
func TestEventsAreCompressedOneByOne(t *testing.T) {
	events := []string{"data: first\n\n", "data: second\n\n", "data: third\n\n"}
	for _, frame := range []string{"Transfer-Encoding: chunked", "Content-Length: 40", "X: until the end"} {
		for _, encoding := range []Encoding{EncodingGzip, EncodingZstd} {
			for _, front := range trapFronts() {
				t.Run(fmt.Sprint(frame, "/", encoding, "/", front.name), func(t *testing.T) {
					pieces := []string{"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + frame + "\r\n\r\n"}
					for _, e := range events {
						if strings.HasSuffix(frame, "chunked") {
							e = fmt.Sprintf("%x\r\n%s\r\n", len(e), e)
						}
						pieces = append(pieces, e)
					}
					b, next := stepwise(t, pieces...)
					s := front.serve(t, compressing(encoding), b)
					client := s.bareClient(t)
					go func() { next <- true }()
					res, err := getEncoded(t, client, s.url, encoding.String())
					if err != nil {
						t.Fatal("the header is held back:", err)
					}
					defer res.Body.Close()
					go func() { next <- true }()
					r := newDecoder(t, encoding, res.Body)
					for i, want := range events {
						got := make([]byte, len(want))
						if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
							t.Fatalf("%q, %v; want %q", got, err, want)
						}
						if i < len(events)-1 {
							next <- true
						}
					}
				})
			}
		}
	}
}

// newDecoder returns what a client decompresses with as it comes.
func newDecoder(t *testing.T, encoding Encoding, r io.Reader) io.Reader {
	t.Helper()
	if encoding == EncodingGzip {
		z, err := gzip.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		return z
	}
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(z.Close)
	return z
}

// TestCompressedResponseBrokenOff: a client never takes a response for complete whose backend has
// broken off, and has what came before. The encoders come back.
func TestCompressedResponseBrokenOff(t *testing.T) {
	head := "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
	for _, tt := range []struct {
		name    string
		backend func(net.Conn, *bufio.Reader)
	}{
		{"length", says(head + "Content-Length: 9000\r\n\r\n" + compressible)},
		{"chunks", says(head + "Transfer-Encoding: chunked\r\n\r\n960\r\n" + compressible + "\r\n")},
		{"in a chunk", says(head + "Transfer-Encoding: chunked\r\n\r\nfff\r\n" + compressible)},
		{"bad chunk", says(head + "Transfer-Encoding: chunked\r\n\r\n960\r\n" + compressible + "\r\nzz\r\n")},
		{"trailer", says(head + "Transfer-Encoding: chunked\r\n\r\n960\r\n" + compressible + "\r\n0\r\nX: y\r\n")},
		{"reset", saysAndResets(head + "\r\n" + compressible)},
		{"in pieces", func(c net.Conn, r *bufio.Reader) {
			says(head+"Content-Length: 9000\r\n\r\n"+compressible[:1000], compressible[1000:])(pacedConn{c}, r)
		}},
	} {
		for _, encoding := range []Encoding{EncodingGzip, EncodingZstd} {
			for _, front := range trapFronts() {
				t.Run(fmt.Sprint(tt.name, "/", encoding, "/", front.name), func(t *testing.T) {
					s := front.serve(t, compressing(encoding), rawBackend(t, tt.backend))
					res, err := getEncoded(t, s.bareClient(t), s.url, encoding.String())
					if err != nil {
						t.Fatal(err)
					}
					defer res.Body.Close()
					raw, err := io.ReadAll(res.Body)
					if err == nil {
						t.Errorf("the response ends in order after %d bytes", len(raw))
					}
					got, err := decodedContent(encoding.String(), bytes.NewReader(raw))
					if err == nil || got != compressible {
						t.Errorf("%d bytes came, and %v; want %d, and an end that is none", len(got), err, len(compressible))
					}
					s.waitForEncoders(t)
				})
			}
		}
	}
}

// TestEncodersComeBack: however a response ends, its encoder is free for others.
func TestEncodersComeBack(t *testing.T) {
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			events := webBackend(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				for i := 0; r.Context().Err() == nil; i++ {
					fmt.Fprintf(w, "data: %d\n\n", i)
					w.(http.Flusher).Flush()
					select {
					case <-r.Context().Done():
					case <-time.After(10 * time.Millisecond):
					}
				}
			})
			s := front.serve(t, compressing(EncodingGzip), events)
			client := s.bareClient(t)
			var clients []*http.Response
			for range 10 {
				res, err := getEncoded(t, client, s.url, "gzip")
				if err != nil {
					t.Fatal(err)
				}
				clients = append(clients, res)
			}
			if n := s.h.counters.compressing.Load(); n != 10 {
				t.Errorf("%d encoders are in use, want 10", n)
			}
			for _, res := range clients[:5] {
				res.Body.Close()
			}
			waitFor(t, "the encoders of those who left", func() bool { return s.h.counters.compressing.Load() == 5 })
			cfg := *s.pool.config()
			cfg.Backends, cfg.DrainTimeout = []Backend{webBackend(t, name("next"))}, time.Millisecond
			if err := s.pool.Reconfigure(cfg); err != nil {
				t.Fatal(err)
			}
			s.waitForEncoders(t)
			for _, res := range clients[5:] {
				if _, err := io.Copy(io.Discard, res.Body); err == nil {
					t.Error("a stream whose backend was removed ends in order")
				}
				res.Body.Close()
			}
		})
	}
}

// TestCompressionHasALimit: beyond MaxActive responses go out as they are, and say that others
// may differ.
func TestCompressionHasALimit(t *testing.T) {
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			release := make(chan bool)
			cfg := compressing(EncodingZstd)
			cfg.Compress.MaxActive = 3
			s := front.serve(t, cfg, webBackend(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/plain")
				w.(http.Flusher).Flush()
				<-release
				io.WriteString(w, compressible)
			}))
			client := s.bareClient(t)
			var got []string
			var all []*http.Response
			for range 5 {
				res, err := getEncoded(t, client, s.url, "zstd")
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, res)
			}
			close(release)
			for _, res := range all {
				got = append(got, describedEncoding(res, compressible))
				res.Body.Close()
			}
			const yes, no = "200 zstd vary=[Accept-Encoding]", "200 plain vary=[Accept-Encoding]"
			if want := []string{yes, yes, yes, no, no}; !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
			s.waitForEncoders(t)
		})
	}
}

// TestCompressedConnections: many clients at the same time get what they asked for, some
// compressed in one way or the other, and some not.
func TestCompressedConnections(t *testing.T) {
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			cfg := compressing(EncodingGzip, EncodingZstd)
			cfg.ConnectTimeout = time.Minute // for a machine that is busy with other things
			s := front.serve(t, cfg, webBackend(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/plain")
				for range 3 {
					fmt.Fprint(w, r.URL.Path, compressible)
					w.(http.Flusher).Flush()
				}
			}))
			client := s.bareClient(t)
			var clients sync.WaitGroup
			var failed atomic.Int32
			for i := range 200 {
				clients.Go(func() {
					accepted := []string{"gzip", "zstd", "identity"}[i%3]
					encoding := strings.TrimPrefix(accepted, "identity")
					want := strings.TrimSpace(fmt.Sprint("200 ", encoding))
					if encoding == "" {
						want = "200 plain"
					}
					for j := range 5 {
						path := fmt.Sprintf("/%d/%d/", i, j)
						res, err := getEncoded(t, client, s.url+path, accepted)
						if err != nil {
							t.Error(err)
							return
						}
						if got := describedEncoding(res, strings.Repeat(path+compressible, 3)); got != want+" vary=[Accept-Encoding]" && failed.Add(1) < 5 {
							t.Errorf("%s: %q, want %q", path, got, want)
						}
						res.Body.Close()
					}
				})
			}
			clients.Wait()
			s.waitForEncoders(t)
		})
	}
}

// TestCompressionOnAConnection: requests that come at once on a connection, compressed, plain and
// of HTTP/1.0, get one answer after the other, each framed as it must be.
func TestCompressionOnAConnection(t *testing.T) {
	for _, front := range trapFronts() {
		if front.http2 {
			continue
		}
		t.Run(front.name, func(t *testing.T) {
			s := front.serve(t, compressing(EncodingGzip), webBackend(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/plain")
				content := r.URL.Path + compressible
				if r.URL.Path != "/chunks" {
					w.Header().Set("Content-Length", fmt.Sprint(len(content)))
				}
				io.WriteString(w, content)
			}))
			c := s.dial()
			r := bufio.NewReader(c)
			const gzipped = "Accept-Encoding: gzip\r\n"
			requests := []struct{ path, fields, want string }{
				{"/a", gzipped, "200 gzip vary=[Accept-Encoding]"},
				{"/b", "", "200 plain vary=[Accept-Encoding] length"},
				{"/chunks", gzipped, "200 gzip vary=[Accept-Encoding]"},
				{"/chunks", "", "200 plain vary=[Accept-Encoding]"},
				{"/c", gzipped, "200 gzip vary=[Accept-Encoding]"},
			}
			var all string
			for _, q := range requests {
				all += "GET " + q.path + " HTTP/1.1\r\nHost: x\r\n" + q.fields + "\r\n"
			}
			io.WriteString(c, all)
			for _, q := range requests {
				res, err := http.ReadResponse(r, &http.Request{Method: "GET"})
				if err != nil {
					t.Fatal(err)
				}
				if got := describedEncoding(res, q.path+compressible); got != q.want {
					t.Errorf("%s: %q, want %q", q.path, got, q.want)
				}
			}
			io.WriteString(c, "GET /old HTTP/1.0\r\nHost: x\r\n"+gzipped+"\r\n")
			res, err := http.ReadResponse(r, &http.Request{Method: "GET"})
			if err != nil {
				t.Fatal(err)
			}
			if got, want := describedEncoding(res, "/old"+compressible), "200 plain vary=[Accept-Encoding] length"; got != want {
				t.Errorf("HTTP/1.0: %q, want %q", got, want)
			}
		})
	}
}

// TestTrailersOfCompressedResponses: trailers come as they were, but for checksums of content
// that the client has only when it is decompressed.
func TestTrailersOfCompressedResponses(t *testing.T) {
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			s := front.serve(t, compressing(EncodingGzip), webBackend(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/plain")
				w.Header().Set("Trailer", "X-Sum, Digest")
				io.WriteString(w, compressible)
				w.Header().Set("X-Sum", "1")
				w.Header().Set("Digest", "sha-256=x")
			}))
			res, err := getEncoded(t, s.bareClient(t), s.url, "gzip")
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if got := describedEncoding(res, compressible); got != "200 gzip vary=[Accept-Encoding]" {
				t.Error(got)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			if sum, digest := res.Trailer.Get("X-Sum"), res.Trailer.Get("Digest"); sum != "1" || digest != "" {
				t.Errorf("X-Sum %q, Digest %q", sum, digest)
			}
		})
	}
}

// TestSentCountsWhatClientsGet: Record.Sent is what goes to the client, not what the backend has
// sent.
func TestSentCountsWhatClientsGet(t *testing.T) {
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			records := make(chan Record, 1)
			cfg := compressing(EncodingGzip)
			cfg.Record = func(r Record) { records <- r }
			s := front.serve(t, cfg, webBackend(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/plain")
				io.WriteString(w, compressible)
			}))
			res, err := getEncoded(t, s.bareClient(t), s.url, "gzip")
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			b, err := io.ReadAll(res.Body)
			if r := <-records; err != nil || r.Sent != int64(len(b)) || r.Sent >= int64(len(compressible))/2 {
				t.Errorf("%d bytes came, %v; the record says %d", len(b), err, r.Sent)
			}
		})
	}
}

// TestModifyResponseSeesPlainContent: a function of an embedder has the response before it is
// compressed, and what it makes of that is compressed.
func TestModifyResponseSeesPlainContent(t *testing.T) {
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			cfg := compressing(EncodingGzip)
			cfg.ModifyResponse = func(res *http.Response) error {
				if res.ContentLength != int64(len(compressible)) || res.Header.Get("Content-Encoding") != "" {
					return fmt.Errorf("%d, %v", res.ContentLength, res.Header)
				}
				res.Body = &upperBody{res.Body}
				return nil
			}
			s := front.serve(t, cfg, webBackend(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/plain")
				w.Header().Set("Content-Length", fmt.Sprint(len(compressible)))
				io.WriteString(w, compressible)
			}))
			res, err := getEncoded(t, s.bareClient(t), s.url, "gzip")
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if got := describedEncoding(res, strings.ToUpper(compressible)); got != "200 gzip vary=[Accept-Encoding]" {
				t.Error(got)
			}
		})
	}
}
